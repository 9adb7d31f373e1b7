"""Where everything of a run lies."""

from __future__ import annotations

from etl.runs import layout
from etl.runs.layout import Layout


def every_path(run: Layout) -> list[str]:
    """Each path that a layout names."""
    named = [getattr(run, name) for name, value in vars(Layout).items() if isinstance(value, property)]
    made = [run.receipt("000001"), run.quarantine("000001", "abc"), run.reference("airports", "ab12")]
    made.append(run.keys("once", "000001", "abc"))
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


def test_runs_do_not_meet() -> None:
    """Two runs share no path but those of the root itself."""
    shared = set(every_path(Layout("/out", "one"))) & set(every_path(Layout("/out", "two")))
    assert shared == {layout.manifest_path("/out", 1), layout.model_folder("/out", "0" * 64)}
