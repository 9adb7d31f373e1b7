from __future__ import annotations

import json
import struct
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.partials import Counts, Extent, Histogram, KeyedSums, Moments, NumberCounts, Quantiles
from etl.partials.transport import dump, load
from tests.etl.nasty import TEXTS, arrow, bits


class Box:
    """Something that holds values."""

    def __init__(self, **values):
        self.__dict__.update(values)

    def fresh(self):
        """Return one that holds the same names."""
        return Box(**{name: self._empty(value) for name, value in vars(self).items()})

    @staticmethod
    def _empty(value):
        if isinstance(value, Box):
            return value.fresh()
        return Counter() if isinstance(value, Counter) else None


KINDS = ["int8", "int64", "uint64", "float32", "float64", "bool"]


@st.composite
def arrays(draw):
    """Draw arrays of numbers of any shape, with any bits."""
    kind, shape = np.dtype(draw(st.sampled_from(KINDS))), draw(st.lists(st.integers(0, 3), max_size=3))
    count = int(np.prod(shape, dtype=int)) * kind.itemsize
    data = np.frombuffer(draw(st.binary(min_size=count, max_size=count)), np.uint8)
    return (data % 2 if kind.kind == "b" else data).view(kind).reshape(shape)


NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.integers(2**2000, 2**2001), st.floats())
TEXT = st.one_of(st.text(max_size=8), st.sampled_from([text for text in TEXTS if text is not None]))
SCALARS = arrays().filter(lambda array: array.size > 0).map(lambda array: array.reshape(-1)[0])
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT, arrays(), SCALARS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(TEXT, st.integers(), st.booleans()), inner, max_size=3),
        st.dictionaries(TEXT, st.integers(-(2**63), 2**63 - 1), max_size=4),
    ),
    max_leaves=8,
)


def told(value: Any) -> Any:
    """Return a value as text that tells its class, and of floats and arrays the bits."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return (type(value).__name__, array.dtype.str, array.shape, array.tobytes())
    if isinstance(value, float):
        return "nan" if value != value else struct.pack("<d", value)  # noqa: PLR0124  NaN
    if isinstance(value, dict):
        return (type(value).__name__, [(told(key), told(part)) for key, part in value.items()])
    if isinstance(value, list | tuple):
        return (type(value).__name__, [told(part) for part in value])
    if isinstance(value, Box):
        return {name: told(part) for name, part in vars(value).items()}
    return (type(value).__name__, value)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES), VALUES, st.dictionaries(TEXT, st.integers(1, 2**40)))
def test_what_is_data_comes_back_to_the_bit(outer, inner, counts):
    """Numbers of any size, floats with their bits, texts, arrays of any shape, nested mappings and lists come back as
    they were, with their classes, in an object and in one inside it."""  # noqa: D205, D209  one sentence
    box = Box(**outer, box=Box(value=inner), counter=Counter(counts), missing=None)
    data = dump({"x": box, "y": Box()})
    back = load({"x": box.fresh(), "y": Box()}, data)
    assert told(back["x"]) == told(box)
    assert dump(back) == data


COLUMNS = st.lists(st.floats(allow_nan=False), max_size=60).map(lambda values: np.array(values, dtype=np.float64))
WORDS = st.lists(st.one_of(st.none(), st.sampled_from(["a", "ß", "", "😀"])), max_size=60)


def learned(numbers, words):
    """Return one of each partial state of some rows."""
    keys = [word or "none" for word in words][: numbers.size] + ["x"] * max(0, numbers.size - len(words))
    made: dict[str, Any] = {
        "counts": Counts(),
        "extent": Extent(),
        "histogram": Histogram(4),
        "keyed": KeyedSums(),
        "moments": Moments(),
        "numbers": NumberCounts(),
        "quantiles": Quantiles([0.25, 0.5, 1.0], limit=3),
    }
    made["counts"].update_texts(arrow(words, "string"))
    made["histogram"].add((numbers + 0.0).view(np.uint64))
    made["keyed"].update(arrow(keys, "string"), numbers)
    for name in ("extent", "moments", "numbers", "quantiles"):
        made[name].update(numbers)
    return made


@settings(max_examples=50, deadline=None)
@given(COLUMNS, COLUMNS, WORDS)
def test_partial_states_that_travelled_are_those_that_stayed(first, second, words):
    """Every partial state, filled or empty, gives the same bytes after the way to the driver, and merged there what it
    gives merged at home."""  # noqa: D205, D209  one sentence
    here, there = learned(first, words), learned(second, words[::-1])
    templates = {name: state.fresh() for name, state in here.items()}
    travelled = [load(templates, dump(states)) for states in (here, there)]
    assert [dump(states) for states in travelled] == [dump(here), dump(there)]
    for states, others in ((here, there), travelled):
        for name, state in states.items():
            state.merge(others[name])
    assert dump(travelled[0]) == dump(here)


def test_a_second_pass_looks_where_the_first_says():
    """A state that was narrowed travels with its cells, so quantiles of two passes are those of numpy."""
    values = np.random.default_rng(1).normal(size=4000)
    first = Quantiles([0.1, 0.5], limit=16)
    while True:
        parts = [first.fresh() for _ in range(3)]
        for part, rows in zip(parts, np.array_split(values, 3), strict=True):
            part.update(rows)
        total = first.fresh()
        for part in parts:
            total.merge(load({"q": first.fresh()}, dump({"q": part}))["q"])
        more = total.narrow()
        if more is None:
            break
        first = load({"q": first.fresh()}, dump({"q": more}))["q"]
    assert bits(total.values()) == bits(np.quantile(values, [0.1, 0.5], method="inverted_cdf"))


def test_what_is_no_data_is_named():
    """A function, a set, an array of objects, or an object in a list is refused under its place."""
    for value, said in (
        (len, r"x\.part is builtin_function_or_method, which is no data"),
        ({1}, r"x\.part is set, which is no data"),
        (np.array([None]), r"x\.part is an array of object, which is no data"),
        ([Box()], r"x\.part\[0\] is Box, which is no data"),
        ({"key": len}, r"x\.part\['key'\] is builtin"),
    ):
        with pytest.raises(TypeError, match=said):
            dump({"x": Box(part=value)})


def test_bytes_of_something_else_are_refused():
    """Bytes of other objects or attributes, of objects where there are none, and damaged ones fill nothing."""
    data = dump({"x": Box(a=np.arange(9), b=1)})
    empty = Box(a=None, b=None)
    assert vars(load({"x": empty}, data)["x"])["b"] == 1
    for templates, said in (
        ({"y": empty}, "partial states are of x, wanted are those of y"),
        ({"x": Box(a=None)}, "x has a, the bytes have a, b"),
    ):
        with pytest.raises(ValueError, match=said):
            load(templates, data)
    with pytest.raises(ValueError, match=r"x\.a is no object here"):
        load({"x": Box(a=None)}, dump({"x": Box(a=Box())}))
    for damaged in (b"", data[:7], data[:40], data[:-16]):
        with pytest.raises(ValueError, match=r"damaged|Expecting|Unterminated|buffer|delimiter"):
            load({"x": empty}, damaged)


def test_no_class_is_named():
    """What travels names attributes and values, and neither a class nor a module."""
    (length,) = struct.unpack_from("<Q", data := dump(learned(np.array([1.0, 2.0]), ["a", None])))
    header = json.loads(data[8 : 8 + length])
    assert sorted(header) == ["counts", "extent", "histogram", "keyed", "moments", "numbers", "quantiles"]
    assert not {"Counter", "Quantiles", "etl", "numpy"} & set(data[8 : 8 + length].decode().replace('"', " ").split())
