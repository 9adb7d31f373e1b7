"""The page of a run in a real browser: it fetches nothing, and is read on a phone, in the dark and by the keyboard."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.history.runs import find_run
from jobs.record import RunRecord, RunState
from jobs.report.as_run import load_as_run
from jobs.report.gathered import DriftRow, ended_run, gather
from jobs.report.page import page as page_of
from tests.jobs.outputs import run_job, write_bad_input, write_input, write_job
from tests.jobs.pages import hostile_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.timeout(300), pytest.mark.servers]

SHOTS = Path(__file__).parents[2] / ".cache" / "shots"
"""Where pictures of the pages stay, to be looked at."""
OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
SIZES = {"desk": (1200, 900), "tablet": (768, 1024), "phone": (360, 780)}
DRIFT = (
    DriftRow("p<b>", "psi of the training profile", 0.31, 0.2, "fail"),
    DriftRow("f1", "null rate", 0.012, 0.05, "ok"),
    DriftRow("a_column_whose_name_is_rather_long_and_has_no_space_at_all", "ks of the last run", 0.11, 0.1, "warn"),
)
LEAST_CONTRAST = """
() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const found = parts(getComputedStyle(one).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  let least = [99, ""];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const box = one.getBoundingClientRect();
    if (!own || one.closest("svg") || !box.width || box.right < 0) continue;
    const [a, b] = [light(parts(getComputedStyle(one).color)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least[0]) least = [ratio, one.textContent.slice(0, 60)];
  }
  return least;
}
"""
"""By WCAG 2.2, of all texts that are shown, against the nearest background that is not transparent."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's own Chromium."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "there is no Chromium: apt-get install chromium fonts-dejavu-core"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(
    spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, RunRecord]]:
    """By how a run ended, its page and its record."""
    folder = tmp_path_factory.mktemp("pages")
    run_job(hostile_job(folder / "published", logistic_onnx), "published")
    (folder / "held").mkdir()
    write_bad_input(folder / "held")
    job = write_job(folder / "held", logistic_onnx)
    assert run_job(job, "held").state is RunState.HELD_BACK
    (folder / "failed").mkdir()
    write_input(folder / "failed")
    (folder / "failed" / "in" / "part-1.parquet").write_bytes(b"PAR1 is all that it has of a file")
    job = write_job(folder / "failed", logistic_onnx)
    with pytest.raises(Exception, match="part-1"):
        run_job(job, "failed")
    found = {}
    for name in ("published", "held", "failed"):
        target = find_run(str(folder / name / "job.yaml"), name)
        ended = ended_run(target)
        drift = DRIFT if name == "published" else ()
        path = folder / f"{name}.html"
        path.write_text(page_of(gather(ended, load_as_run(target, ended.record), drift)), encoding="utf-8")
        found[name] = (path, ended.record)
    return found


def opened(browser: Browser, path: Path, size: str = "desk", **options: Any) -> tuple[Page, list[str]]:
    """A page in a window of its own, and what it did that it may not."""
    width, height = SIZES[size]
    page = browser.new_context(viewport={"width": width, "height": height}, **options).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: complaints.append(f"request: {request.url}"))
    page.goto(path.as_uri())
    assert complaints.pop(0) == f"request: {path.as_uri()}"
    return page, complaints


@pytest.mark.parametrize("name", ["published", "held", "failed"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_a_page_is_read_on_any_screen(
    browser: Browser, pages: dict[str, tuple[Path, RunRecord]], name: str, scheme: str, size: str
) -> None:
    """It fetches nothing, complains of nothing, is no wider than its window, and its texts stand out."""
    page, complaints = opened(browser, pages[name][0], size, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    ratio, text = page.evaluate(LEAST_CONTRAST)
    assert ratio >= 4.5, text
    SHOTS.mkdir(parents=True, exist_ok=True)
    shot = page.screenshot(path=SHOTS / f"report-{name}-{scheme}-{size}.png", full_page=True)
    assert len(shot) > 20_000
    assert complaints == []
    page.context.close()


def test_dark_is_dark(browser: Browser, pages: dict[str, tuple[Path, RunRecord]]) -> None:
    """The page follows what the system is set to."""
    found = {}
    for scheme in ("light", "dark"):
        page, _ = opened(browser, pages["published"][0], color_scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        found[scheme] = sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))
        page.context.close()
    assert found["light"] > 600
    assert found["dark"] < 150


@pytest.mark.parametrize("name", ["published", "held", "failed"])
def test_what_is_seen_is_what_the_record_has(
    browser: Browser, pages: dict[str, tuple[Path, RunRecord]], name: str
) -> None:
    """The numbers in the browser, as shown and as values of their elements, are those of the record."""
    path, record = pages[name]
    page, _ = opened(browser, path)
    shown = {
        one.get_attribute("data-fact"): (one.get_attribute("value"), one.inner_text())
        for one in page.locator("[data-fact]").all()
    }
    account = record.account
    for part in ("rows_in", "scored", "quarantined", "filtered"):
        rows = getattr(account, part).rows
        assert shown[f"account.{part}"] == (str(rows), f"{rows:,}")
    assert shown["seconds"][0] == str(record.seconds)
    for phase, seconds in record.wall_seconds.items():
        assert shown[f"wall.{phase}"][0] == str(seconds)
    assert shown["state"][1] == record.state.value
    assert page.title() == f"{name} · {record.state}"
    page.context.close()


def test_wide_tables_scroll_in_their_own_box(browser: Browser, pages: dict[str, tuple[Path, RunRecord]]) -> None:
    """On a phone a table that is wider than the screen is scrolled with the keyboard, and the page stays in place."""
    page, _ = opened(browser, pages["published"][0], "phone")
    boxes = page.locator(".scroll")
    assert boxes.count() >= 2
    for box in boxes.all():
        assert box.get_attribute("tabindex") == "0"
        assert box.get_attribute("aria-label")
    slowest = page.get_by_role("region", name="Table: slowest splits")
    assert slowest.evaluate("it => it.scrollWidth > it.clientWidth")
    slowest.focus()
    page.keyboard.press("ArrowRight")
    # Scrolling is smooth, and the page's own policy lets nothing wait inside of it.
    for _ in range(100):
        if slowest.evaluate("it => it.scrollLeft") > 0:
            break
        page.wait_for_timeout(50)
    assert slowest.evaluate("it => it.scrollLeft") > 0
    assert page.evaluate("scrollX") == 0
    page.context.close()


def test_the_page_is_told_to_those_who_do_not_see_it(
    browser: Browser, pages: dict[str, tuple[Path, RunRecord]]
) -> None:
    """Every chart has a name with its numbers; the keyboard's first stop leads past the head; headings are in order."""
    page, _ = opened(browser, pages["published"][0])
    charts = page.locator("svg, .stack").all()
    assert len(charts) >= 4
    for chart in charts:
        assert chart.get_attribute("role") == "img"
        assert any(sign.isdigit() for sign in chart.get_attribute("aria-label") or "")
        box = chart.bounding_box()
        assert box is not None
        assert box["width"] > 200
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(it => Number(it.tagName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    page.context.close()


def test_the_page_is_printed_whole(browser: Browser, pages: dict[str, tuple[Path, RunRecord]]) -> None:
    """On paper the config is there without a click, and the way around is not."""
    page, _ = opened(browser, pages["published"][0])
    config = page.locator("pre")
    assert not config.is_visible()
    page.emulate_media(media="print")
    assert config.is_visible()
    assert not page.locator("nav").is_visible()
    assert page.pdf().startswith(b"%PDF")
    page.context.close()
