from __future__ import annotations

import copy
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.errors import SpecError
from etl.format.files import load_spec
from etl.golden import replay
from etl.spec import Spec, read_spec
from etl.types import ColumnType
from tests.etl.nasty import document, spec_of
from tests.etl.test_pipeline import RECIPE

X = {"name": "x", "type": "float64"}
S = {"name": "s", "type": "string"}
CLIP = {"id": "c", "op": "clip", "in": ["x"], "out": ["y"], "params": {"lower": 0}}
FITTED = document(
    [
        {**X, "range": {"min": -1.5, "max": 1e-7}, "on_missing": {"as_value": 5e-324}, "on_invalid": "as_missing"},
        {
            **S,
            "max_length": 9,
            "allowed": ["a", "\u2028\x7f😀"],
            "pii": True,
            "role": "id",
            "on_missing": {"as_value": ""},
        },
        {"name": "i", "type": "int32", "on_invalid": {"as_value": -7}, "range": {"min": -(2**31)}},
        {"name": "t", "type": "timestamp", "nullable": False, "doc": "when"},
        {"name": "v", "type": "float32[3]"},
    ],
    [
        CLIP,
        {"id": "z", "op": "standardize", "in": ["y"], "out": ["yz"], "state": {"mean": 1e22, "std": 1e-7, "n": 3}},
        {
            "id": "o",
            "op": "one_hot",
            "in": ["s"],
            "out": ["so"],
            "state": {"vocab": ["a", "\x80", "漢"], "counts": [3, 2, 1]},
        },
        {
            "id": "m",
            "op": "impute",
            "in": ["s"],
            "out": ["sm"],
            "params": {"strategy": "mode"},
            "state": {"value": "1e5", "n": 1},
        },
        {"id": "p", "op": "impute", "in": ["i"], "out": ["ip"], "params": {"strategy": "constant", "value": 0.1}},
        {"id": "d", "op": "date_part", "in": ["t"], "out": ["td"], "params": {"part": "doy"}, "doc": "day"},
        {"id": "k", "op": "cyclical", "in": ["td"], "out": ["ks", "kc"], "params": {"period": 365.2425}},
        {"id": "r", "op": "ratio", "in": ["y", "yz"], "out": ["yr"], "params": {"on_zero": {"as_value": -0.0}}},
        {"id": "a", "op": "assemble", "in": ["v", "yr", "so"], "out": ["av"]},
        {"id": "n", "op": "cast", "in": ["td"], "out": ["tn"], "params": {"to": "int64", "on_error": "fail"}},
    ],
    columns=["av", "ks", "ip", "tn"],
)


def problems(value, *, fitted=True, name="spec.json"):
    """Return the problems of a spec as (line, column, pointer, message)."""
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(SpecError) as caught:
        read_spec(text, name, fitted=fitted)
    found = []
    for line in str(caught.value).splitlines():
        match = re.fullmatch(re.escape(name) + r":(\d+):(\d+): (?:(/\S*): )?(.+?)(?: \[E-[A-Z-]+\])?", line)
        assert match, line
        found.append((int(match[1]), int(match[2]), match[3], match[4]))
    return found


def changed(*path, to):
    """Return a spec of one clip step with one thing changed."""
    value = copy.deepcopy(document([X, S], [CLIP]))
    *parents, last = path
    node = value
    for part in parents:
        node = node[part]
    if to is None:
        del node[last]
    else:
        node[last] = to
    return value


@pytest.mark.parametrize(
    ("value", "pointer", "message"),
    [
        (changed("stepz", to=[]), "/stepz", 'unknown key "stepz". Did you mean "steps"?'),
        (
            changed("format", to="scorespec/2"),
            "/format",
            "the format is scorespec/2, and this release reads scorespec/0 and scorespec/1. Upgrade batchscore to read",
        ),
        (changed("format", to="scorespec/99999"), "/format", "the format is scorespec/99999, and this release reads"),
        (changed("format", to="scorespec/1.1"), "/format", "the format is scorespec/1.1, and this release reads"),
        (changed("format", to=None), "/format", 'key "format" is required.'),
        (changed("steps", 0, "op", to="clipp"), "/steps/0/op", 'unknown op "clipp". Did you mean "clip"?'),
        (changed("steps", 0, "op", to=None), "/steps/0/op", 'key "op" is required.'),
        (changed("steps", 0, "in", to=["xx"]), "/steps/0/in/0", "column 'xx' is not there at step 'c'. Did you mean"),
        (changed("steps", 0, "in", to=["x", "x"]), "/steps/0/in", "op clip takes 1 here, found 2."),
        (changed("steps", 0, "in", to=["s"]), "/steps/0", "op clip takes numbers, found string."),
        (
            changed("steps", 0, "out", to=["y", "y"]),
            "/steps/0/out/1",
            "column 'y' is already written; names are written once.",
        ),
        (changed("steps", 0, "out", to="y"), "/steps/0/out", "should be a list, found 'y'."),
        (changed("steps", 0, "params", to=None), "/steps/0/params", 'key "params" is required.'),
        (changed("steps", 0, "params", to={}), "/steps/0/params", "give lower, upper or both."),
        (
            changed("steps", 0, "params", "lowr", to=1),
            "/steps/0/params/lowr",
            'unknown key "lowr". Did you mean "lower"?',
        ),
        (changed("steps", 0, "id", to="C"), "/steps/0/id", "should be a lower-case letter, then up to 99"),
        (changed("steps", 0, "op", to=[]), "/steps/0/op", "op should be text, found a list."),
        (changed("steps", 0, "in", to=[""]), "/steps/0/in/0", "should not be empty, found ''."),
        (changed("revision", to=True), "/revision", "should be a whole number, found True."),
        (changed("revision", to="2"), "/revision", "should be a whole number, found '2'."),
        (changed("steps", 0, "params", "lower", to="1"), "/steps/0/params/lower", "should be a number, found '1'."),
        (changed("input", "fields", 0, "nullable", to="no"), "/input/fields/0/nullable", "should be true or false, f"),
        (changed("input", "fields", 0, "pii", to=1), "/input/fields/0/pii", "should be true or false, found 1."),
        (changed("steps", to={}), "/steps", "should be a list, found a mapping."),
        (changed("input", to=[]), "/input", "should be a mapping, found a list."),
        (
            changed("input", "fields", 0, "type", to="double"),
            "/input/fields/0/type",
            "no column type 'double'; there is: bool,",
        ),
        *(
            (
                changed("input", "fields", 0, "type", to=wrong),
                "/input/fields/0/type",
                f"a vector has 1 to 9,999,999 values a row, found '{wrong:.30}",
            )
            for wrong in ("float32[10000000]", "int64[0]", f"float32[{'9' * 5000}]", "int64[-1]")
        ),
        *(
            (
                changed("input", "fields", 0, "type", to=wrong),
                "/input/fields/0/type",
                f'list<scalar>, struct<name: scalar, …>. Did you mean "{right}"?',
            )
            for wrong, right in (
                ("flaot64", "float64"),
                ("double", "float64"),
                ("list<sting>", "list<string>"),
                ("flaot32[3]", "float32[3]"),
            )
        ),
        (
            changed("input", "fields", 0, "type", to=5),
            "/input/fields/0/type",
            "a column type is text, such as float64, found 5.",
        ),
        (
            changed("input", "fields", 0, "on_missing", to="drop"),
            "/input/fields/0/on_missing",
            "should be 'as_is', 'as_missing'",
        ),
        (
            changed("input", "fields", 0, "on_missing", to="regect"),
            "/input/fields/0/on_missing",
            "found 'regect'. Did you mean \"reject\"?",
        ),
        (changed("input", "fields", 1, "name", to="x"), "/input", "columns declared twice: x."),
        (changed("input", "fields", to=[]), "/input/fields", "should not be empty."),
        (
            changed("outputs", "tensors", 0, "from", to=["z"]),
            "/outputs/tensors/0/from/0",
            "column 'z' is made by no step.",
        ),
        (
            changed("outputs", "tensors", 0, "from", to=["s"]),
            "/outputs/tensors/0/from/0",
            "column 's' is string, a tensor of",
        ),
        (
            changed("outputs", "tensors", 0, "dtype", to="int64"),
            "/outputs/tensors/0/from/0",
            "column 'y' is float64, a tensor of",
        ),
        (
            changed("outputs", "tensors", 0, "shape", to=[2, 3]),
            "/outputs/tensors/0",
            "shape is -1 for the rows, then axes of 1 or more",
        ),
        (
            changed("outputs", "tensors", 0, "shape", to=[-1, 3]),
            "/outputs/tensors/0/shape",
            "a row of shape [-1, 3] has 3 values, its columns have 1.",
        ),
        (changed("semantics", to={"profile": "f64-v2"}), "/semantics/profile", "should be 'f64-v1', found 'f64-v2'."),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_right_word(value, pointer, message):
    """Each mistake is one line with its pointer, what is wrong and what would be right."""
    found = {pointer: message for _, _, pointer, message in problems(value)}
    assert found.keys() <= {pointer, pointer.rpartition("/")[0]}
    assert message.lower() in found[pointer].lower()


def test_every_mistake_is_named_at_once():
    """A spec with mistakes everywhere is refused with all of them, in the order of the text."""
    value = document([X], [{**CLIP, "in": ["z"]}, {**CLIP, "out": ["y"]}], columns=["q", "x"])
    value["outputs"]["tensors"].append({"tensor": "x", "shape": [-1], "from": ["x", "x"]})
    assert [pointer for _, _, pointer, _ in problems(value)] == [
        "/steps/0/in/0",
        "/steps/1/id",
        "/steps/1/out/0",
        "/outputs/tensors/0/from/0",
        "/outputs/tensors/1/tensor",
        "/outputs/tensors/1/shape",
    ]


def test_a_mistake_has_its_line_and_column():
    """Line and column are those of the key, or of the element, in JSON and in YAML alike."""
    text = json.dumps(changed("steps", 0, "params", "lowr", to=1), indent=2)
    ((line, column, _, _),) = problems(text)
    assert text.splitlines()[line - 1][column - 1 :].startswith('"lowr"')
    as_yaml = yaml.safe_dump(changed("steps", 0, "in", to=["q"]))
    ((line, column, _, _),) = problems(as_yaml, name="spec.yaml")
    assert as_yaml.splitlines()[line - 1][column - 1 :] == "q"


def test_a_recipe_is_not_fitted():
    """A step that has not learned is named unless a recipe is asked for."""
    step = {"id": "z", "op": "standardize", "in": ["x"], "out": ["z"]}
    ((_, _, pointer, message),) = problems(document([X], [step]))
    what = "Run `batchscore fit` first; to fit it in Python, read it with fitted=False."
    assert (pointer, message) == ("/steps/0", f"step 'z' (standardize) is not fitted. {what}")
    more = [{**step, "id": f"z{n}", "out": [f"z{n}"]} for n in range(22)]
    ((_, _, pointer, message),) = problems(document([X], [{**step, "op": "log1p", "id": "l", "out": ["l"]}, *more]))
    assert pointer == "/steps/1"
    assert message.startswith("steps 'z0' (standardize), 'z1' (standardize), ")
    assert message.endswith(f"'z19' (standardize) and 2 more are not fitted. {what}")
    recipe = spec_of([X], [step], fitted=False)
    assert not recipe.is_fitted


def test_the_schema_is_traced_through_all_steps():
    """A spec knows the columns and types after its input and after every step, and the width of its tensors."""
    spec = read_spec(json.dumps(FITTED), "spec.json")
    schemas = dict(spec.schemas())
    assert list(schemas) == ["input", *"czompdkran"]
    assert schemas["input"]["v"] == ColumnType("vector", 3)
    assert "y" not in schemas["input"]
    assert str(schemas["n"]["av"]) == "float32[7]"
    assert (str(schemas["n"]["tn"]), str(schemas["n"]["sm"])) == ("int64", "string")
    assert spec.widths() == {"x": 10}


def test_a_spec_survives_its_own_bytes():
    """A spec written and read again is equal, and so are its bytes and its digest, in JSON and in YAML."""
    for value in (FITTED, json.loads(RECIPE)):
        spec = read_spec(json.dumps(value), "spec.json", fitted=False)
        again = read_spec(spec.to_bytes().decode(), "again.json", fitted=False)
        assert again == spec
        assert again.to_bytes() == spec.to_bytes()
        assert Spec.from_bytes(spec.to_bytes(), where="etl.json") == spec
        as_yaml = yaml.safe_dump(spec.model_dump(mode="json", by_alias=True), default_style='"')
        assert read_spec(as_yaml, "again.yaml", fitted=False).digest == spec.digest


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "\n",
            "null",
            "[]",
            "5",
            "true",
            '"text"',
            "{",
            "}",
            "[",
            "{}",
            "{]",
            '{"a"',
            '{"a":}',
            "\x00",
            "\ufeff",
        ),
        *("{'a': 1}", "a: b: c", "- \n-", "? [1]\n: 2", "a: &b [*b]", "a: !!python/object:os.system x", "%", "@", "\t"),
        *(
            '{"format": NaN}',
            '{"format": 1e999}',
            '{"format": -Infinity}',
            '{"a": "\\ud800"}',
            '{"\\udfff": 1}',
            "a: .nan",
        ),
        *(
            "[" * 500,
            '{"a":' * 100_000,
            "a: " + "[" * 500,
            "- " * 3000,
            '{"a": ' + "9" * 10_000 + "}",
            "a: " + "9" * 10_000,
        ),
        *('{"steps": 1, "steps": 2}', "steps: 1\nsteps: 2", "\udc80", '{"a": "\udc80"}', "<<: {a: 1}", "--- a\n--- b"),
        *('{"format": "scorespec/1"} x', "a: !!int 1_0x", 'a: "\\ud800"', '{"a": 1' + "}" * 50, "a: !!binary =="),
    ],
)
def test_junk_is_refused_with_a_place(text):
    """Whatever a file holds, the answer is a SpecError with file, line and column on every line."""
    for name in ("spec.json", "spec.yaml", "spec"):
        assert problems(text, name=name)


JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from(
            [0, -1, 10**30, 10**399, 1e308, "", "x", "s", "y", "float64", "float32[9]", "reject", "/~", "é\u2028"]
        ),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text(max_size=3), st.sampled_from(["op", "in", "as_value", "a/b", "~"])), inner, max_size=3
        ),
    ),
    max_leaves=6,
)


def pointers(value, pointer=""):
    """Return the pointers of all values of a document, as they are printed."""
    found = {pointer}
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            part = str(key).replace("~", "~0").replace("/", "~1")
            part = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in part)
            found |= pointers(child, f"{pointer}/{part}")
    return found


@st.composite
def mutations(draw):
    """Draw a valid spec with up to three places replaced, removed, renamed, doubled or exchanged."""
    value = copy.deepcopy(draw(st.sampled_from([FITTED, json.loads(RECIPE)])))
    for _ in range(draw(st.integers(1, 3))):
        mutate(draw, value)
    return value


def mutate(draw, value):
    """Walk to a random place of a document and change it."""
    node = value
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        if not isinstance(node[key], dict | list) or draw(st.integers(0, 3)) == 0:
            break
        node = node[key]
    kind = draw(st.sampled_from(["replace", "remove", "rename", "double", "exchange"]))
    if kind == "remove":
        del node[key]
    elif kind == "rename" and isinstance(node, dict):
        node[draw(st.sampled_from([f"{key}x", str(key)[:-1], "op", ""]))] = node.pop(key)
    elif kind == "double" and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    elif kind == "exchange":
        other = draw(st.sampled_from(keys))
        node[key], node[other] = node[other], node[key]
    else:
        node[key] = draw(JUNK)


@settings(max_examples=400, deadline=None)
@given(value=mutations(), fitted=st.booleans())
@example(value=FITTED, fitted=True)
def test_any_change_gives_a_spec_or_pointers_into_the_text(value, fitted):
    """A spec changed at random is read, or refused with pointers that lead to a place in it or just below one."""
    refused = None
    try:
        spec = read_spec(json.dumps(value), "spec.json", fitted=fitted)
    except SpecError as error:
        refused = str(error)
    else:
        assert read_spec(spec.to_bytes().decode(), "spec.json", fitted=fitted) == spec
    if refused is not None:
        places = "|".join(re.escape(pointer) for pointer in sorted(pointers(value), reverse=True))
        line = re.compile(rf"spec\.json:[1-9][0-9]*:[1-9][0-9]*: (?:{places})(?:/[^/]*)?: .+")
        assert [text for text in refused.split("\n") if not line.fullmatch(text)] == []


@settings(deadline=None)
@given(JUNK)
def test_any_value_in_place_of_a_spec_is_refused(value):
    """A document of any shape is refused, in JSON and in YAML, and never with another error."""
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        with pytest.raises(SpecError):
            read_spec(text, "spec.json")


@settings(deadline=None)
@given(st.text())
def test_any_text_is_refused(text):
    """A text that is no spec is refused whatever it is."""
    for name in ("spec.json", "spec.yaml"):
        with pytest.raises(SpecError):
            read_spec(text, name)


def test_a_large_spec_is_read_in_seconds_and_a_larger_one_refused():
    """Time grows with the spec and not with its square: 5,000 steps and expectations and 1,000 tensors are no wait."""
    value = document([X], [{**CLIP, "id": f"s{n}", "out": [f"y{n}"]} for n in range(5000)], columns=["x"])
    row = {"row": {"cmp": ["x", ">", 1]}, "severity": "warn"}
    value["expectations"] = [{"id": f"e{n}", **row} for n in range(5000)]
    value["outputs"]["tensors"] = [{"tensor": f"t{n}", "from": ["x"]} for n in range(1000)]
    start = time.process_time()
    assert len(read_spec(json.dumps(value), "spec.json").steps) == 5000
    assert time.process_time() - start < 5
    value["steps"] = [[]] * 10_001
    ((_, _, pointer, message),) = problems(value)
    assert (pointer, message[:40]) == ("/steps", "has 10,001 entries, and at most 10,000 a")


def test_thousands_of_mistakes_are_told_in_seconds():
    """A spec whose thousands of columns are all misspelt, or whose list is all of another type, is told so at once."""
    start = time.process_time()
    steps = [{**CLIP, "id": f"s{n}", "in": [f"x{n}"], "out": [f"y{n}"]} for n in range(3000)]
    assert problems(document([X], steps, columns=["x"]))[0][2] == "/steps/0/in/0"
    assert (
        problems(document([X], [{**CLIP, "in": [1] * 100_000}], columns=["x"]))[-1][3]
        == "and at least 1,950 more from here on."
    )
    assert time.process_time() - start < 5


TRAINED = {
    **document([X, S], [CLIP]),
    "reference": {"x": {"n": 3, "missing": 1, "quantiles": {"0": 1.0, "0.5": 2.0}}},
    "golden": [{"in": {"x": 1.0, "s": None}, "out": {"y": 1.0}}],
}


@pytest.mark.parametrize(
    ("path", "to", "pointer", "message"),
    [
        (("reference", "z"), {"n": 1, "missing": 0}, "/reference/z", "'z' is no input field."),
        (("reference", "x", "missing"), 4, "/reference/x", "has 4 missing rows of 3."),
        (("reference", "x", "n"), -1, "/reference/x/n", "should be 0 or more, found a number."),
        (("reference", "x", "top"), [["secret", 3]], "/reference/x", "has more rows in top than the 2 that are not mi"),
        (("reference", "x", "top"), [["secret", 1]] * 2, "/reference/x", "has a text twice in top."),
        (
            ("reference", "x", "top"),
            [["secret", "secret"]],
            "/reference/x/top/0/1",
            "should be a whole number, found a",
        ),
        (("reference", "x", "top"), [["secret"]], "/reference/x/top/0/1", "the list ends before its element 1"),
        (("reference", "x", "quantiles"), {"0.1": 3, "0.2": 2}, "/reference/x", "has quantiles that fall while"),
        (("reference", "x", "quantiles"), {"half": 2}, "/reference/x", "has a quantile whose key is no probability"),
        (("provenance",), {"rows": 2, "rejected": 2, "filtered": 1}, "/provenance", "has 2 rejected and 1 filtered"),
        (("golden", 0, "in", "xx"), 1, "/golden/0/in/xx", "column 'xx' is none of the spec's that stand here. Did you"),
        (("golden", 0, "out", "x"), 1, "/golden/0/out/x", "column 'x' is none of the spec's"),
        (
            ("golden", 0, "in", "x"),
            ["secret"],
            "/golden/0/in/x",
            "column 'x' is float64, which has no such value, found",
        ),
        (("golden", 0, "in", "x"), "secret", "/golden/0/in/x", "column 'x' is float64, which has no such value, found"),
        (
            ("golden", 0, "in", "s"),
            {"secret": 1},
            "/golden/0/in/s",
            "column 's' is string, which has no such value, fo",
        ),
        (("golden", 0, "in"), "secret", "/golden/0/in", "should be a mapping, found a text."),
    ],
)
def test_what_was_learned_and_cannot_be_is_refused_without_a_value(path, to, pointer, message):
    """Statistics and golden rows of other columns, of odd values, or that contradict themselves are told by place."""
    value = copy.deepcopy(TRAINED)
    node = value
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = to
    ((_, _, found, told),) = problems(value)
    assert found == pointer
    assert told.startswith(message)
    assert "secret" not in told


def test_golden_rows_with_odd_outputs_are_told_by_place():
    """An output of a golden row that is of another kind than a number is a difference, with its pointer and code."""
    odd_ones: list[Any] = [["a"], {"sums": 1, "sha256": "x"}, "a", None, 10**399, {}]
    for odd in odd_ones:
        value = copy.deepcopy(TRAINED)
        value["golden"][0]["out"]["y"] = odd
        spec = read_spec(json.dumps(value), "spec.json")
        with pytest.raises(SpecError, match=r"^/steps/0: .*\(/golden/0/out/y\) .* \[E-GOLDEN\]$"):
            replay(spec)


def test_every_code_is_in_the_docs():
    """The table of codes in docs/ETL.md has those of the source, and no other."""
    folder = Path(__file__).parents[2]
    source = "".join(path.read_text(encoding="utf-8") for path in (folder / "etl").rglob("*.py"))
    found = {code for code in re.findall(r"\bE-[A-Z]+(?:-[A-Z]+)*\b(?!-)", source) if code != "E-UNKNOWN"}
    kinds = set(re.findall(r'discriminator="([a-z]+)"', source))
    page = (folder / "docs" / "ETL.md").read_text(encoding="utf-8")
    told = {
        code for line in page.splitlines() if line.startswith("| `E-") for code in re.findall(r"`(E-[A-Z-]+)`", line)
    }
    assert told == found | {f"E-UNKNOWN-{kind.upper()}" for kind in kinds}


def test_a_step_cannot_read_what_comes_later():
    """A column that only a later step makes, or the step itself, is named with the step that makes it."""
    steps = [
        {**CLIP, "id": "a", "in": ["q"], "out": ["p"]},
        {**CLIP, "id": "b", "in": ["p"], "out": ["q"]},
        {**CLIP, "id": "c", "in": ["r"], "out": ["r"]},
    ]
    found = {pointer: message for _, _, pointer, message in problems(document([X], steps))}
    assert (
        found["/steps/0/in/0"]
        == "column 'q', which step 'a' reads, is made by the later step 'b'; steps run in their order."
    )
    assert found["/steps/2/in/0"] == "column 'r', which step 'c' reads, is made by itself; steps run in their order."


def test_a_spec_that_is_too_long_is_not_parsed(tmp_path):
    """A text of more than 16 MiB in UTF-8 is refused before it is read, from a file or not."""
    with pytest.raises(
        SpecError, match=r"^spec\.json:1:1: /: is longer than 16 MiB, the most of a spec; .* \[E-SIZE\]$"
    ):
        read_spec("{" + "é" * 2**23, "spec.json")
    (tmp_path / "spec.json").write_bytes(b"{" + b" " * 2**24)
    with pytest.raises(SpecError, match=r"spec\.json:1:1: /: is longer than 16 MiB"):
        load_spec(tmp_path / "spec.json")


def test_mistakes_of_form_hide_none_of_meaning():
    """A misspelt op and key here and a misspelt column there are told together, in the order of the text."""
    steps = [
        {**CLIP, "id": "a", "in": ["zz"], "out": ["p"]},
        {**CLIP, "id": "b", "op": "clipp", "in": ["x"], "out": ["q"]},
        {**CLIP, "id": "c", "in": ["q"], "out": ["r"]},
        {**CLIP, "id": "d", "params": {"lowr": 1}, "in": ["x"], "out": ["t"]},
        {**CLIP, "id": "e", "in": ["s"], "out": ["u"]},
    ]
    found = [
        (pointer, message) for _, _, pointer, message in problems(document([X, S], steps, columns=["r", "t", "v"]))
    ]
    assert [pointer for pointer, _ in found] == [
        "/steps/0/in/0",
        "/steps/1/op",
        "/steps/3/params/lowr",
        "/steps/4",
        "/outputs/tensors/0/from/2",
    ]
    assert found[4][1].startswith("column 'v' is made by no step.")


PADDED: dict[str, Any] = {"op": "list_pad", "in": ["l"], "out": ["y"], "params": {"length": 2}}
ZEROS: dict[str, tuple[dict[str, Any], str]] = {
    "list_pad": (PADDED, "value"),
    "cyclical": ({"op": "cyclical", "in": ["x"], "out": ["a", "b"], "params": {"period": 7}}, "offset"),
    "minmax": ({"op": "minmax", "in": ["x"], "out": ["y"], "params": {"upper": 2}}, "lower"),
    "rare_to_other": ({"op": "rare_to_other", "in": ["s"], "out": ["y"], "params": {}}, "min_share"),
    "frequency_encode": ({"op": "frequency_encode", "in": ["s"], "out": ["y"], "params": {}}, "unknown"),
}


@pytest.mark.parametrize("op", ZEROS)
@settings(max_examples=10, deadline=None)
@given(number=st.sampled_from([0.0, -0.0, 5e-324, 0.5, 1.0]))
def test_a_zero_with_a_sign_survives_where_zero_is_the_default(op, number):
    """A number where 0 is the default is read back as it was given, −0.0 too, and a plain 0 is left out."""
    step, key = ZEROS[op]
    value = {"as_value": number} if key == "unknown" else number
    fields = [X, S, {"name": "l", "type": "list<float64>"}]
    changed = {**step, "id": "a", "params": {**step["params"], key: value}}
    spec = spec_of(fields, [changed], columns=["x"], fitted=False)
    again = read_spec(spec.to_bytes().decode(), "etl.json", fitted=False)
    assert again == spec
    assert repr(again.plain()) == repr(spec.plain())
    assert again.digest == spec.digest
    given_ = spec.plain()["steps"][0].get("params", {}).get(key, "left out")
    assert repr(given_) == (repr("left out") if repr(number) == "0.0" else repr(value))


def test_a_width_that_no_memory_holds_is_refused():
    """Vectors and tensors of more than 9,999,999 values a row are refused where they are made, at once."""
    nested = [
        {"id": f"s{at}", "op": "assemble", "in": (["x"] if at == 0 else [f"o{at - 1}"]) * 10, "out": [f"o{at}"]}
        for at in range(12)
    ]
    with pytest.raises(SpecError) as caught:
        spec_of([X], nested, columns=["o11"])
    [line] = str(caught.value).splitlines()
    assert "/steps/6: op assemble would make a vector of 10,000,000 values; at most 9,999,999" in line
    assert line.endswith("[E-SIZE]")
    halves = [{"name": name, "type": "float32[5000000]"} for name in ("v", "w")]
    with pytest.raises(SpecError, match=r"/outputs/tensors/0/from: its columns have 10,000,000 values a row; .*E-SIZE"):
        spec_of(halves, columns=["v", "w"])
    assert spec_of([halves[0], {"name": "w", "type": "float32[4999999]"}], columns=["v", "w"])
