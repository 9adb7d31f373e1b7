"""All ops, and the union that a spec is parsed with. A family is a file; a new one is imported and added here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, get_args

from pydantic import Field

from etl.ops.arithmetic import ArithmeticStep
from etl.ops.binning import BinningStep
from etl.ops.categorical import CategoricalStep
from etl.ops.choosing import ChoosingStep
from etl.ops.columns import ColumnStep
from etl.ops.encoding import EncodingStep
from etl.ops.filtering import Filter
from etl.ops.functions import FunctionStep
from etl.ops.hashing import HashingStep
from etl.ops.lists import ListStep
from etl.ops.missing import MissingStep
from etl.ops.powers import PowerStep
from etl.ops.regexes import RegexStep
from etl.ops.scaling import ScalingStep
from etl.ops.strings import StringStep
from etl.ops.target import TargetEncode
from etl.ops.tfidf import TfIdf
from etl.ops.time import TimeStep
from etl.ops.token_ids import TokenIds
from etl.ops.tokens import TokenStep
from etl.ops.vectors import Weigh
from etl.ops.wordpiece import WordPiece

if TYPE_CHECKING:
    from etl.ops.base import RowStep

__all__ = ["FAMILIES", "OPS", "AnyRowStep"]

AnyRowStep = Annotated[
    ArithmeticStep
    | BinningStep
    | CategoricalStep
    | ChoosingStep
    | ColumnStep
    | EncodingStep
    | Filter
    | FunctionStep
    | HashingStep
    | ListStep
    | MissingStep
    | PowerStep
    | RegexStep
    | ScalingStep
    | StringStep
    | TargetEncode
    | TfIdf
    | TimeStep
    | TokenIds
    | TokenStep
    | Weigh
    | WordPiece,
    Field(discriminator="op"),
]
"""Any step that maps the rows of a batch one by one."""

OPS: dict[str, type[RowStep]] = {
    get_args(op.model_fields["op"].annotation)[0]: op for op in get_args(get_args(AnyRowStep)[0])
}
"""Every row op by its name in a spec."""

FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(sorted(name for name, op in OPS.items() if op.__module__ == f"etl.ops.{family}"))
    for family in dict.fromkeys(op.__module__.rpartition(".")[2] for op in OPS.values())
}
"""Names of the ops by the file of their family, for the docs."""
