from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import SpecError
from etl.format.problems import Problem, Source, listed, nearest, problem_lines
from etl.spec import read_spec

DEEP = '{"a":' * 101 + "1" + "}" * 101


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("{", "a.json", "1:2: not valid JSON: Expecting property name enclosed in double quotes."),
        ('{"a": NaN}', "a", "1:7: NaN is no number of JSON."),
        ('{"a": [1, -Infinity]}', "a", "1:11: -Infinity is no number of JSON."),
        ('{"a": {"b": 1,\n "b": 2}}', "a", '2:2: key "b" stands twice.'),
        ('{"a": "\\ud800"}', "a", "1:7: half a surrogate pair is no character."),
        ('{"\\udfff": 1}', "a", "1:2: half a surrogate pair is no character."),
        ('{"a": ' + "9" * 401 + "}", "a", "1:7: an integer of 401 digits is too long."),
        (DEEP, "a", "1:506: nested too deeply."),
        ("a: 1\nb: 2\na: 3", "a", "3:1: not valid YAML: key 'a' stands twice."),
        ("a: 1\n'a': 3", "a", "2:1: not valid YAML: key 'a' stands twice."),
        ("a: &x 1\nb: *x", "a", "2:4: not valid YAML: aliases are not read; write the value out."),
        (
            "a: !!python/name:os.system",
            "a",
            "1:4: not valid YAML: tag 'tag:yaml.org,2002:python/name:os.system' is not",
        ),
        ("a: !!set {b}", "a", "1:4: not valid YAML: tag 'tag:yaml.org,2002:set' is not read here."),
        ("? [1]\n: 2", "a", "1:3: not valid YAML: a key is text."),
        ("a: b: c", "a", "1:5: not valid YAML: mapping values are not allowed here."),
        ("a:\n  b: \x07", "a", "2:6: not valid YAML: character U+0007 is not allowed."),
        ("- " * 101 + "a", "a.yaml", "1:203: not valid YAML: nested too deeply."),
        ("[" * 400, "a.yaml", "1:101: not valid YAML: nested too deeply."),
        ('{"a": 1} 2', "a.yml", "1:10: not valid YAML: "),
    ],
)
def test_what_is_no_document_has_its_place(text, name, message):
    """A text that is neither JSON nor our YAML is refused at the line and column of what is wrong."""
    with pytest.raises(ValueError, match="^" + "".join(f"[{c}]" if c.isalnum() else "." for c in f"{name}:{message}")):
        Source.read(text, name)


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ('{"a": {"b": 1,\n "b": 2}}', "a.json", 'a.json:2:2: /a/b: key "b" stands twice. [E-DUP-KEY]'),
        ('{"ab": 1,\n "a\\u0062": 2}', "a.json", 'a.json:2:2: /ab: key "ab" stands twice. [E-DUP-KEY]'),
        ("a:\n  - b: 1\n    b: 2", "a.yaml", "a.yaml:3:5: /a/0/b: not valid YAML: key 'b' stands twice. [E-DUP-KEY]"),
        ('{"a": [NaN]}', "a.json", "a.json:1:8: /a/0: NaN is no number of JSON. [E-SYNTAX]"),
        ('{"a": 1,}', "a.json", "a.json:1:9: /: not valid JSON: "),
        ("a: b: c", "a.yaml", "a.yaml:1:5: /: not valid YAML: mapping values are not allowed here. [E-SYNTAX]"),
        (
            '{"a":[' + "[" * 100 + "]" * 100 + "]}",
            "a.json",
            "a.json:1:106: /a" + "/0" * 100 + ": nested too deeply. [E-S",
        ),
        (
            "a: " + "b" * 2**20,
            "a.yaml",
            "a.yaml:1:1: /: YAML is read up to 1,048,576 characters; write what is longer as",
        ),
    ],
)
def test_what_is_no_document_has_a_code_and_a_pointer(text, name, line):
    """The first fault of form of a spec's text is told like any other, with code and pointer."""
    with pytest.raises(SpecError) as caught:
        read_spec(text, name)
    assert str(caught.value).startswith(line)


def test_yaml_means_what_json_would():
    """Plain YAML scalars are numbers, bools and null as YAML 1.2 has them, and everything else is text."""
    text = "a: 1e5\nb: 010\nc: no\nd: 2020-01-01\ne: ~\nf:\ng: -.5\n1: 12:30\nh: true\ni: 0x10\nj: <<\n<<: 1_000\n"
    assert Source.read(text, "a.yaml").value == {
        "a": 1e5,
        "b": 10,
        "c": "no",
        "d": "2020-01-01",
        "e": None,
        "f": None,
        "g": -0.5,
        "1": "12:30",
        "h": True,
        "i": "0x10",
        "j": "<<",
        "<<": "1_000",
    }


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


def places_of(value, pointer=""):
    """Return the pointers of all values, in the order of the text."""
    yield pointer
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_of(child, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}")


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), VALUES), st.sampled_from([None, 1]))
def test_every_value_of_json_has_its_place(value, indent):
    """JSON is read as Python reads it, and the place of each value is that of its key, or of itself in a list."""
    for text in (json.dumps(value, indent=indent), json.dumps(value, indent=indent, ensure_ascii=False)):
        source = Source.read(text, "a.json")
        assert source.value == value
        assert list(source.places) == list(places_of(value))
        lines = text.split("\n")
        for pointer, (line, column) in source.places.items():
            rest = lines[line - 1][column - 1 :]
            parent, _, last = pointer.rpartition("/")
            if pointer and isinstance(find(value, parent), dict):
                assert json.JSONDecoder().raw_decode(rest)[0] == last.replace("~1", "/").replace("~0", "~")


def find(value, pointer):
    """Return the value at a pointer."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def test_a_place_that_is_not_in_the_text_is_the_nearest_around():
    """What is missing has the place of the mapping that lacks it."""
    source = Source.read('{"a": {\n "b": [1]}}', "a.json")
    assert [source.place(pointer) for pointer in ("", "/a", "/a/b/0", "/a/c/d", "/x")] == [
        *("a.json:1:1", "a.json:1:2", "a.json:2:8", "a.json:1:2", "a.json:1:1")
    ]


def test_a_problem_is_one_line_that_can_be_printed():
    """Line ends and control characters of a text never reach the terminal or break a line in two."""
    with pytest.raises(SpecError) as caught:
        read_spec(json.dumps({"a\nb\x1b[31m\u2028": 1}), "spec.json")
    lines = str(caught.value).split("\n")
    assert all(line.startswith("spec.json:1:") and line.isprintable() for line in lines)
    assert "/a\\nb\\x1b[31m\\u2028: unknown key" in str(caught.value)


def test_a_document_with_too_many_problems_says_how_many():
    """Fifty problems are shown, and the number of others."""
    lines = problem_lines([Problem(f"/{n}", "is wrong.") for n in range(60)], Source("a", {}, {}))
    assert len(lines) == 51
    assert lines[-1] == "a:1:1: /50: and 10 more from here on."


def test_the_nearest_name_is_named():
    """A name that is nearly right is told the right one, another what there is, and not more than a screenful."""
    assert nearest("incom", ["income", "age"]) == ' Did you mean "income"?'
    assert nearest("x", ["income", "age"]) == " There is: age, income."
    assert nearest("x", []) == ""
    assert nearest("?", [f"c{n:03}" for n in range(100)]).endswith(", c059 and 40 more.")


def test_a_list_of_faults_is_one_sentence():
    """Faults are joined by semicolons and end in one sign: the question mark of the last, or else a full stop."""
    question, names = f"a is not there.{nearest('incom', ['income'])}", f"b is not there.{nearest('x', ['y'])}"
    assert listed([question]) == 'a is not there. Did you mean "income"?'
    assert listed([question, names]) == 'a is not there. Did you mean "income"?; b is not there. There is: y.'
    assert listed([names, "c is text"]) == "b is not there. There is: y; c is text."
