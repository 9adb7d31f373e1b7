"""Globs over keys, against what the same glob finds in folders of this machine."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.runs.globs import has_magic, matcher, stem_of
from etl.runs.local import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path

STORE = LocalStorage()
NAMES = st.sampled_from(["a", "b", "ab", "_a", ".b", "a=1", "a-b", "a]", "[a", "x.y"])
FILES = st.sets(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=15)
PARTS = st.one_of(
    NAMES, st.sampled_from(["*", "?", "**", "a*", "[ab]", "[!a]*", "_*", ".*", "*.y", "[a", "[]a]*", "a=?"])
)
PATTERNS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES, pattern=PATTERNS)
def test_a_glob_means_the_same_keys_as_files(tmp_path: Path, files: set[str], pattern: str) -> None:
    """Of the same names, a glob over keys matches just what it finds on a disk, hidden names and folders too."""
    root = tmp_path / "tree"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    kept = {file for file in files if not any(other.startswith(f"{file}/") for other in files)}
    for file in kept:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")
    wanted = [file.path.removeprefix(f"{root}/") for file in STORE.list_files(f"{root}/{pattern}")]
    is_literal = not has_magic(pattern) or any(file == pattern or file.startswith(f"{pattern}/") for file in kept)
    matches = matcher(pattern, is_literal=is_literal)
    assert sorted(file for file in kept if matches(file)) == wanted
    if not is_literal:
        assert all(file.startswith(stem_of(pattern)) for file in wanted)
