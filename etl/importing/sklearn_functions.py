"""scikit-learn's `FunctionTransformer`, of functions of numpy that an op computes as numpy does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from etl.importing.sklearn_columns import FLOAT32, FLOAT64, Block, Value, common_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.importing.sklearn_draft import Leaf

__all__ = ["function_transformer"]

_LAST_PLACE = "It may differ in the last place where scikit-learn runs on another processor."
_ZERO_BOUND = "-0.0 stays -0.0 at a bound of 0.0; numpy's clip makes either zero of it, by the length of the array."

_FUNCTIONS: dict[Any, tuple[str, dict[str, Any]]] = {
    np.abs: ("abs", {}),
    np.ceil: ("math", {"function": "ceil"}),
    np.cos: ("math", {"function": "cos"}),
    np.exp: ("exp", {}),
    np.floor: ("math", {"function": "floor"}),
    np.log: ("math", {"function": "log"}),
    np.log10: ("math", {"function": "log10"}),
    np.log1p: ("log1p", {"on_domain": "as_is"}),
    np.negative: ("neg", {}),
    np.sin: ("math", {"function": "sin"}),
    np.sqrt: ("sqrt", {}),
    np.square: ("poly", {"coefficients": [0.0, 0.0, 1.0]}),
    np.tan: ("math", {"function": "tan"}),
    np.tanh: ("math", {"function": "tanh"}),
    np.trunc: ("math", {"function": "trunc"}),
}
"""Op and parameters by numpy's function."""

_EXACT = {np.abs, np.ceil, np.floor, np.negative, np.sqrt, np.square, np.trunc}
"""Functions whose result IEEE 754 settles, in either width."""

_WRAPPING = {np.abs, np.negative}
"""Functions that numpy computes in integers, where the least of them has no opposite."""

_INT64 = 8
"""Bytes."""


def function_transformer(leaf: Leaf) -> Block:
    """`FunctionTransformer`; without a function it hands on what it is given."""
    function, arguments = leaf.estimator.func, dict(leaf.estimator.kw_args or {})
    if function is None:
        return _validated(leaf)
    if function is np.clip:
        bounds = _bounds(leaf, arguments)
        given = _validated(leaf)
        return _mapped(leaf, given, lambda value: _clipped(value, leaf, bounds, is_array=not given.is_frame))
    if type(function).__hash__ is None or function not in _FUNCTIONS:
        leaf.refuse(f"function {getattr(function, '__name__', type(function).__name__)} has no counterpart.")
    if arguments:
        leaf.refuse(f"function {function.__name__} has a counterpart without kw_args alone, found {arguments!r:.60}.")
    return _mapped(leaf, _validated(leaf), lambda value: _applied(value, leaf, function))


def _validated(leaf: Leaf) -> Block:
    """What the function is given: with `validate`, an array of numbers without NaN and ±inf."""
    given = leaf.block
    if not leaf.estimator.validate:
        return given
    dtype = common_type(given.values)
    values = leaf.each(lambda _, value: [leaf.checked(value, allows_missing=False)])
    return Block.array(values, FLOAT64 if dtype.kind == "O" else dtype)._replace(is_sparse=given.is_sparse)


def _mapped(leaf: Leaf, given: Block, make: Callable[[Value], Value]) -> Block:
    if given.is_sparse:
        leaf.refuse("has no counterpart of a sparse array.")
    within = leaf._replace(given=given)
    return given._replace(values=tuple(within.each(lambda _, value: [make(value)])))


def _applied(value: Value, leaf: Leaf, function: Any) -> Value:
    """A function of a column, in the type that numpy computes it in."""
    leaf.number(value)
    if value.dtype.kind not in "fi":
        leaf.refuse(f"column {value.name!r:.80} is of {value.dtype}, of which numpy computes it in another way.")
    if function in _WRAPPING and value.dtype.kind == "i" and value.dtype.itemsize < _INT64:
        leaf.refuse(
            f"column {value.name!r:.80} is of {value.dtype}, whose least integer numpy makes no positive one of."
        )
    if function is np.square and value.dtype.kind == "i":
        leaf.refuse(f"column {value.name!r:.80} is of {value.dtype}, whose squares numpy lets wrap around.")
    dtype = function(np.ones(1, dtype=value.dtype)).dtype
    if dtype.kind == "f" and dtype != FLOAT64 and function not in _EXACT:
        where = f"of column {value.name!r:.80}, which is of {value.dtype}, numpy computes it in {dtype}"
        leaf.refuse(f"{where}, and not to the last place; give the column as float64.")
    op, params = _FUNCTIONS[function]
    found = leaf.made(value, op, params=params)
    if function not in _EXACT:
        leaf.draft.note(_LAST_PLACE)
    return found._replace(dtype=dtype, is_rounded=dtype != FLOAT32)


def _bounds(leaf: Leaf, arguments: dict[str, Any]) -> dict[str, Any]:
    """Lower and upper bound of numpy's clip."""
    names = {"a_min": "lower", "min": "lower", "a_max": "upper", "max": "upper"}
    found: dict[str, Any] = {}
    for name, bound in arguments.items():
        is_number = type(bound) in {int, float} or bound is None
        if name not in names or not is_number:
            leaf.refuse(f"np.clip has a counterpart with numbers of Python as bounds, found {name}={bound!r:.60}.")
        if bound is not None:
            found[names[name]] = bound
    if not found:
        leaf.refuse("np.clip has no bound.")
    return found


def _clipped(value: Value, leaf: Leaf, bounds: dict[str, Any], *, is_array: bool) -> Value:
    """Within bounds; `is_array` where numpy clips, and not pandas."""
    leaf.number(value)
    if value.dtype.kind not in "fi":
        leaf.refuse(f"column {value.name!r:.80} is of {value.dtype}, which numpy clips in another way.")
    params = {side: leaf.finite(bound, value) for side, bound in bounds.items()}
    if value.dtype == FLOAT32:
        narrow = {side: float(np.float32(bound)) for side, bound in params.items()}
        if not is_array and narrow != params:
            message = "of float32, and pandas makes float64 of it where it clips to a bound that is none"
            leaf.refuse(f"column {value.name!r:.80} is {message}; give the column as float64.")
        params = narrow
    if is_array and 0 in params.values():
        leaf.draft.note(_ZERO_BOUND)
    is_whole = all(isinstance(bound, int) for bound in bounds.values())
    found = leaf.made(value, "clip", params=params)
    dtype = value.dtype if is_whole or value.dtype.kind == "f" else FLOAT64
    return found._replace(dtype=dtype, is_rounded=True, is_finite=len(params) > 1)
