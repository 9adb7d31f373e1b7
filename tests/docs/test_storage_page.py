"""What docs/STORAGE.md says can be set is what can be set."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from etl.runs.store_settings import StoreSettings

NONE = "\N{EN DASH}"
PAGE = (Path(__file__).parents[2] / "docs" / "STORAGE.md").read_text(encoding="utf-8")


def test_every_setting_of_a_store_is_in_the_table() -> None:
    """The table has each key of `storage`, no other one, and its default."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == list(StoreSettings.model_fields)
    for name, told in rows:
        default = StoreSettings.model_fields[name].default
        shown = NONE if default is None or name == "uri" else str(default).lower().removesuffix(".0")
        assert told.strip().strip("`").removesuffix(" s") == shown, name


def test_the_example_is_one() -> None:
    """The example of `storage` on the page can be read as such."""
    [block] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    found = TypeAdapter(tuple[StoreSettings, ...]).validate_python(yaml.safe_load(block)["storage"])
    assert {name for one in found for name in one.model_fields_set} >= {"role", "encryption", "endpoint"}
