"""Where everything of a run lies."""

from __future__ import annotations

from etl.runs import layout
from etl.runs.layout import Layout


def every_path(run: Layout) -> list[str]:
    """Each path that a layout names."""
    properties = {name for name, value in vars(Layout).items() if isinstance(value, property)}
    named = [getattr(run, name) for name in sorted(properties - {"folder"})]
    made = [run.files(), run.files(2), run.receipt("000001"), run.void("000001"), run.quarantine("000001", "abc")]
    made += [run.reference("airports", "ab12"), run.keys("once", "000001", "abc")]
    of_root = [layout.manifest_path(run.root, 1), layout.model_folder(run.root, "0" * 64)]
    return [*named, *made, *of_root, run.part("000001", "abc")]


def test_only_predictions_end_in_parquet() -> None:
    """Of all that is stored, only the predictions' names end in `.parquet`, and only they are visible."""
    run = Layout("/out", "nightly")
    paths = every_path(run)
    assert [path for path in paths if path.endswith(".parquet")] == [run.part("000001", "abc")]
    visible = [path for path in paths if "/_" not in path]
    assert visible == [run.data, run.part("000001", "abc")]


def test_every_path_is_another_under_the_root() -> None:
    """No two things share a path, and all lie under the output root."""
    paths = every_path(Layout("/out", "nightly"))
    assert len(set(paths)) == len(paths)
    assert all(path.startswith("/out/") for path in paths)


def test_a_hidden_run_is_not_listed() -> None:
    """Of a run that a later one may replace, nothing lies where readers that skip `_` look; its parts have numbers."""
    run = Layout("/out", "nightly", is_hidden=True)
    assert run.part("000001", "abc", partition="day=3", number=2) == (
        "/out/_runs/run_id=nightly/day=3/part-000001-abc-2.parquet"
    )
    assert all("/_" in path for path in every_path(run))


def test_runs_do_not_meet() -> None:
    """Two runs share no path but those of the root itself."""
    shared = set(every_path(Layout("/out", "one"))) & set(every_path(Layout("/out", "two")))
    assert shared == {layout.manifest_path("/out", 1), layout.model_folder("/out", "0" * 64)}
