from __future__ import annotations

import json
import re

import pytest

from etl.errors import SpecError
from etl.spec import read_spec
from tests.etl.nasty import document

X = {"name": "x", "type": "float64"}
LOST = {"name": "y", "type": "flot64", "on_missing": {"flag": "y_gone"}}


def pointers(fields, steps, **keys):
    """Return where a spec is wrong, in the order of its text."""
    value = document(fields, steps, columns=["a"])
    value |= keys
    with pytest.raises(SpecError) as refused:
        read_spec(json.dumps(value), "spec.json", fitted=False)
    return [re.split(": ", line)[1] for line in str(refused.value).splitlines()]


def step(op, given, made, **params):
    """Return a step of an op."""
    return {"id": made, "op": op, "in": given, "out": [made], **({"params": params} if params else {})}


def test_an_unreadable_field_hides_no_other_error():
    """Misspelt columns are told beside a misspelt type of a field, each at its own place."""
    steps = [
        step("abs", ["x"], "a"),
        step("abs", ["xx"], "b"),
        step("coalesce", ["y", "xxx"], "c"),
        step("abs", ["x"], "a"),
    ]
    for fields in ([LOST, X], [X, LOST, {"name": "z", "type": "strng"}]):
        broken = [f"/input/fields/{at}/type" for at, field in enumerate(fields) if field is not X]
        found = pointers(fields, steps, expectations=[{"id": "e", "row": {"is_null": "nope"}, "severity": "fail"}])
        assert found == [
            *broken,
            "/steps/1/in/0",
            "/steps/2/in/1",
            "/steps/3/id",
            "/steps/3/out/0",
            "/expectations/0/row/is_null",
        ]


def test_nothing_is_told_that_follows_from_an_unreadable_field():
    """No step, condition, flag or tensor that has to do with the field is called wrong, nor what is made of it."""
    steps = [
        step("lower", ["y"], "low"),
        step("trim", ["low"], "trimmed"),
        step("one_hot", ["trimmed"], "hot"),
        step("missing_flag", ["y_gone"], "gone"),
        {
            "id": "if",
            "op": "if",
            "out": ["a"],
            "params": {"condition": {"cmp": ["low", "==", "x"]}, "then": {"as_value": 1.0}, "else": {"column": "y"}},
        },
    ]
    outputs = {"tensors": [{"tensor": "x", "dtype": "string", "from": ["trimmed", "y"]}]}
    assert pointers([X, LOST], steps, outputs=outputs) == ["/input/fields/1/type"]


def test_a_field_without_a_name_hides_what_it_may_explain():
    """Where nobody can tell what a field is called, only the field is told."""
    assert pointers([X, {"name": 7, "type": "float64"}], [step("abs", ["q"], "a")]) == ["/input/fields/1/name"]
