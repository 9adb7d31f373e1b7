"""A spec as a scikit-learn transformer, for the pipelines and searches of notebooks.

    SpecTransformer(read_spec(text, "spec.yaml", fitted=False)).fit(frame).transform(frame)

scikit-learn is imported here, and by the importer of its pipelines, alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from etl.arrivals import arrivals, check_entry, is_prepared
from etl.bfloat16 import floats_of
from etl.errors import ContractError, SpecError, TransformError
from etl.format.problems import nearest
from etl.given import as_table
from etl.learning.fitting import fit
from etl.pipeline import Pipeline
from etl.ragged import padded_feeds
from etl.relational import as_prepared
from etl.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from etl.frame import Rejection
    from etl.outputs import TensorOutput
    from etl.pipeline import Features

__all__ = ["SpecTransformer"]


class SpecTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn carries no types
    """A recipe that is fitted, and applied, as scikit-learn does it: to all rows, and into one array.

    `X` is a pandas frame or an Arrow table or batch, whose columns are read by name, in any order; others than those of
    the contract are let be, unless it says `extra_columns: error`. `transform` gives one tensor of the spec as an array
    of shape (rows, values of a row), row for row; axes behind the second are laid out one behind the other. A ragged
    tensor that is padded has no such shape, and is refused; a bfloat16 one is given as float32.

    One whose spec has all its state is fitted from the beginning, and transforms without a `fit`.

    An estimator may not drop rows. So a row that a rule of the spec rejects, or a filter leaves out, is an error that
    names the rule; or with `on_rejected="nan"` it becomes a row of NaN.

    An estimator is given parts of the data: a training set, a fold, a few new rows. So relational steps that run on the
    whole table are not run here, where they would make something else of each part. X has been through them already:

        X = etl.relational.prepare(frame, recipe).table.to_pandas(types_mapper=pandas.ArrowDtype)

    before it is cut into parts. (The type keeps integers that may be missing; the Arrow table will do as well.)

    An Arrow table bears the mark of what was prepared, and is refused without it. A pandas frame bears none: it is
    taken for prepared where it has the columns that the steps make, in their types. Where they make none, and only
    leave rows out (`filter`, `dedupe`), it cannot be told, and a frame is taken as it is: see that it was prepared.
    """

    def __init__(
        self,
        recipe: Spec,
        references: Mapping[str, pa.Table] | None = None,
        *,
        tensor: str | None = None,
        on_rejected: Literal["raise", "nan"] = "raise",
    ) -> None:
        """`recipe` may have state, which is kept; `references` are the tables that it joins, by name; `tensor` is the
        one that `transform` gives, by the name of the model input that it feeds, or by its own; it need not be said
        where the spec makes one.
        """  # noqa: D205  one sentence
        self.recipe = recipe
        self.references = references
        self.tensor = tensor
        self.on_rejected = on_rejected

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803  scikit-learn's name
        """Learn what the steps learn: the spec with its state is `spec_`. Rows that a rule rejects teach nothing.

        `y` is the label that the contract declares, where there is one and X does not have it; else it is not read.

        Raises:
            TypeError: the recipe is no spec, or X is of no kind that is known.
            SpecError: the recipe is inconsistent, has no such tensor, or a step finds nothing to learn from.
            ContractError, TransformError: X was not prepared, or breaks the contract, or a step, that says `fail`.
        """
        recipe: Any = self.recipe
        if not isinstance(recipe, Spec):
            message = f"recipe should be a spec, as `etl.read_spec` gives it, found {type(recipe).__name__}"
            raise TypeError(message)
        if self.on_rejected not in {"raise", "nan"}:
            message = f'on_rejected should be "raise" or "nan", found {self.on_rejected!r:.60}'
            raise ValueError(message)
        self._output(recipe)
        table = _table_of(X, recipe)
        self.spec_ = fit(recipe, _with_label(table, recipe, y), self.references)
        self.n_features_in_ = table.num_columns
        self.feature_names_in_ = np.asarray(table.column_names, dtype=object)
        return self

    def transform(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803  as above
        """The tensor of all rows, in their order; shape (rows, values of a row).

        Raises:
            sklearn.exceptions.NotFittedError: the recipe lacks state, and `fit` was not called.
            TypeError: X is of no kind that is known.
            ContractError: X lacks a column or was not prepared, or a value breaks a rule that says `fail`.
            TransformError: a row is rejected or filtered and `on_rejected` is "raise", or a value breaks a step that
                says `fail`.
        """
        check_is_fitted(self)
        spec = self._spec
        output = self._output(spec)
        table = _table_of(X, spec)
        pipeline = Pipeline(spec, self.references or {})
        check_entry(spec, table.schema, "X", others=[label.name for label in spec.input.labels])
        made = pipeline.transform(pipeline.contract(table, "X"))
        tensor: npt.NDArray[Any] = padded_feeds(made.tensors)[output.model_input]
        tensor = tensor.reshape(len(tensor), spec.widths()[output.tensor])
        if output.dtype == "bfloat16":
            tensor = floats_of(tensor)
        if made.kept is None:
            return tensor
        if self.on_rejected == "raise":
            raise TransformError(_without_place(made, table.num_rows))
        if not output.is_float:
            message = f'tensor {output.tensor!r} is of {output.dtype}, which has no NaN for on_rejected="nan".'
            raise SpecError(message)
        rows = np.full((table.num_rows, tensor.shape[1]), np.nan, dtype=tensor.dtype)
        rows[made.kept] = tensor
        return rows

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> npt.NDArray[np.object_]:
        """What each value of a row is called: `column`, `column[category]` or `column[i]`; see `Spec.feature_names`.

        Raises:
            sklearn.exceptions.NotFittedError: the recipe lacks state, and `fit` was not called.
            ValueError: `input_features` are given, and are not the columns that it was fitted to.
        """
        check_is_fitted(self)
        known = getattr(self, "feature_names_in_", None)
        if input_features is not None and known is not None and list(input_features) != list(known):
            message = "input_features is not equal to feature_names_in_"
            raise ValueError(message)
        return np.asarray(self._spec.feature_names()[self._output(self._spec).model_input], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a spec with all its state: what `fit` learned, or the recipe itself."""
        recipe: Any = self.recipe
        return hasattr(self, "spec_") or (isinstance(recipe, Spec) and recipe.is_fitted)

    @property
    def _spec(self) -> Spec:
        """The spec that is applied."""
        return getattr(self, "spec_", self.recipe)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may expect: texts, categories and missing values are taken."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.categorical = tags.input_tags.string = True
        return tags

    def _output(self, spec: Spec) -> TensorOutput:
        """The tensor that `transform` gives."""
        output = self._named(spec)
        if output.is_padded:
            message = (
                f"tensor {output.tensor!r} has rows of several lengths (ragged), and an array has one. Make a vector "
                "of its column by list_pad, or take spec.transform(X).tensors, which etl.ragged.padded_feeds pads."
            )
            raise SpecError(message)
        return output

    def _named(self, spec: Spec) -> TensorOutput:
        """The tensor that was asked for."""
        made = spec.outputs.tensors
        if self.tensor is None and len(made) == 1:
            return made[0]
        tensors = {output.model_input: output for output in made}
        if self.tensor is None:
            message = f"spec {spec.spec_id} makes {len(tensors)} tensors; say which, as tensor=.{nearest('', tensors)}"
            raise SpecError(message)
        # What feeds the model goes first; a name of its own is what a tensor has in the spec.
        tensors = {**{output.tensor: output for output in made}, **tensors}
        if self.tensor not in tensors:
            message = f"spec {spec.spec_id} makes no tensor {self.tensor!r:.60}.{nearest(self.tensor, tensors)}"
            raise SpecError(message)
        return tensors[self.tensor]


def _table_of(data: Any, spec: Spec) -> pa.Table:
    """X as a table, which has been through the steps on the whole table.

    Raises:
        TypeError: it is of no kind that is known.
        ContractError: a column that these steps make is not there or has another type, or an Arrow table has no mark.
    """
    table = as_table(data)
    if is_prepared(spec, table.schema, "X"):
        return table
    lacking = [name for name in arrivals(spec) if name not in table.column_names]
    if lacking or isinstance(data, pa.Table | pa.RecordBatch):
        found = f"column {lacking[0]!r} is not there" if lacking else "does not bear the mark of what was prepared"
        message = (
            f"X: {found}. Relational steps run on the whole table, and an estimator is given parts of it. Before X "
            "is cut into parts, say: X = etl.relational.prepare(X, recipe).table.to_pandas("
            "types_mapper=pandas.ArrowDtype), or .table alone, which is Arrow's; with references, prepare(X, recipe, "
            "references)."
        )
        raise ContractError(message)
    return as_prepared(table, spec, "X")


def _with_label(table: pa.Table, recipe: Spec, y: Any) -> pa.Table:
    """The table, with y as the label that it lacks."""
    lacking = [field.name for field in recipe.input.labels if field.name not in table.column_names]
    if y is None or not lacking:
        return table
    if len(lacking) > 1:
        message = f"X lacks the labels {', '.join(map(repr, lacking))}, and y can be but one; put them into X."
        raise ContractError(message)
    label = pa.array(np.asarray(y), from_pandas=True)
    if len(label) != table.num_rows:
        message = f"X has {table.num_rows:,} rows, y {len(label):,}; give one label ({lacking[0]}) for each row of X."
        raise ContractError(message)
    return table.append_column(lacking[0], label)


def _without_place(made: Features, rows: int) -> str:
    """How many rows have no place in the array, the first of them and its rule; it shows no value."""
    found: list[tuple[int, str]] = [(int(rejection.rows[0]), _told(rejection)) for rejection in made.rejections]
    if made.filtered.size:
        found.append((int(made.filtered[0]), "is left out by a filter"))
    row, reason = min(found)
    rejected = sum(rejection.rows.size for rejection in made.rejections)
    counts = f"{rejected} rejected, {made.filtered.size} filtered" if made.filtered.size else f"{rejected} rejected"
    return (
        f"{rejected + made.filtered.size} of {rows} rows have no place in the array, for an estimator may not drop any "
        f'({counts}). The first, row {row}, {reason}. Repair them before, or say on_rejected="nan".'
    )


def _told(rejection: Rejection) -> str:
    return f"breaks {rejection.pointer}: {rejection.message} [{rejection.code}]"
