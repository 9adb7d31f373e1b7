"""A fitted scikit-learn pipeline as a fitted spec that makes the same of rows, to the bit after float32, or is refused.

State is taken from the fitted attributes, and the steps compute as `transform` does, in its order and in its element
types. A row on which `transform` fails is set aside here; the report says where else the two differ. An estimator is
taken as it is in memory: no file is read, because the file of an estimator is a pickle, which runs code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils.validation import check_is_fitted

from etl.errors import SpecError
from etl.importing import sklearn_categories as categories
from etl.importing import sklearn_distributions as distributions
from etl.importing import sklearn_functions as functions
from etl.importing import sklearn_missing as missing
from etl.importing import sklearn_numbers as numbers
from etl.importing import sklearn_products as products
from etl.importing import sklearn_texts as texts
from etl.importing.refusals import collecting, give_up, refuse
from etl.importing.report import Imported, Mapped
from etl.importing.sklearn_columns import MIXED, Block, Value, common_type, schema_of
from etl.importing.sklearn_draft import Leaf, SklearnDraft

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["import_sklearn"]

_LARGEST = float(np.finfo(np.float64).max)


class _Kind(NamedTuple):
    """A transformer that can be imported."""

    read: Callable[[Leaf], Block]
    """Writes its steps."""
    parameters: frozenset[str]
    """Those that are known: another one, of a later release, may change its meaning."""


def _kind(read: Callable[[Leaf], Block], parameters: str) -> _Kind:
    return _Kind(read, frozenset(parameters.split()))


_COUNTS = (
    "input encoding decode_error strip_accents lowercase preprocessor tokenizer stop_words token_pattern ngram_range "
    "analyzer max_df min_df max_features vocabulary binary dtype"
)
_TFIDF = "norm use_idf smooth_idf sublinear_tf"

_KINDS: dict[type, _Kind] = {
    Binarizer: _kind(numbers.binarizer, "threshold copy"),
    CountVectorizer: _kind(texts.count_vectorizer, _COUNTS),
    FunctionTransformer: _kind(
        functions.function_transformer,
        "func inverse_func validate accept_sparse check_inverse feature_names_out kw_args inv_kw_args",
    ),
    KBinsDiscretizer: _kind(
        numbers.k_bins_discretizer, "n_bins encode strategy quantile_method dtype subsample random_state"
    ),
    MaxAbsScaler: _kind(numbers.max_abs_scaler, "copy clip"),
    MinMaxScaler: _kind(numbers.min_max_scaler, "feature_range copy clip"),
    MissingIndicator: _kind(missing.missing_indicator, "missing_values features sparse error_on_new"),
    Normalizer: _kind(numbers.normalizer, "norm copy"),
    OneHotEncoder: _kind(
        categories.one_hot_encoder,
        "categories drop sparse_output dtype handle_unknown min_frequency max_categories feature_name_combiner",
    ),
    OrdinalEncoder: _kind(
        categories.ordinal_encoder,
        "categories dtype handle_unknown unknown_value encoded_missing_value min_frequency max_categories",
    ),
    PolynomialFeatures: _kind(products.polynomial_features, "degree interaction_only include_bias order"),
    PowerTransformer: _kind(distributions.power_transformer, "method standardize copy"),
    QuantileTransformer: _kind(
        distributions.quantile_transformer,
        "n_quantiles output_distribution ignore_implicit_zeros subsample random_state copy",
    ),
    RobustScaler: _kind(numbers.robust_scaler, "with_centering with_scaling quantile_range copy unit_variance"),
    SimpleImputer: _kind(
        missing.simple_imputer, "missing_values strategy fill_value copy add_indicator keep_empty_features"
    ),
    StandardScaler: _kind(numbers.standard_scaler, "copy with_mean with_std"),
    TargetEncoder: _kind(categories.target_encoder, "categories target_type smooth cv shuffle random_state"),
    TfidfTransformer: _kind(texts.tfidf_transformer, _TFIDF),
    TfidfVectorizer: _kind(texts.tfidf_vectorizer, f"{_COUNTS} {_TFIDF}"),
}

_HINTS = {
    "HashingVectorizer": "it hashes by MurmurHash3, and a spec by XXH64; TfidfVectorizer and CountVectorizer have one.",
    "SplineTransformer": "no op computes splines; KBinsDiscretizer and PolynomialFeatures have one.",
}


def import_sklearn(estimator: Any, schema: Any, *, spec_id: str = "sklearn") -> Imported:
    """The fitted spec of a fitted transformer, `Pipeline` or `ColumnTransformer`, and what became of each of its parts.

    `schema` are the columns that it reads: a pandas frame as it was fitted to, an Arrow table or schema, or a mapping
    of names to types such as float64. An estimator that was fitted to an array without names is given all of them, in
    their order. What `transform` makes is the float32 tensor `features`, in its order; `Imported.feature_names()`
    has what scikit-learn's `get_feature_names_out` calls each value beside what the spec does.

    Raises:
        TypeError: the schema is none of these.
        SpecError: with everything that has no counterpart, one a line, by JSON pointer into the estimator, such as
            `/steps/0/transformers/1`.
    """
    draft = SklearnDraft(schema_of(schema))
    reader = _Reader(draft)
    document: dict[str, Any] = {}
    made: Block | None = None
    with collecting(draft.problems):
        made = reader.read(estimator, "", _given(estimator, draft))
        document = _document(draft, reader.report, made=made, spec_id=spec_id)
    if draft.problems:
        lines = [f"{problem.pointer or '/'}: {problem.message} [{problem.code}]" for problem in draft.problems]
        raise SpecError("\n".join(lines))
    count = 0 if made is None else len(made.values)
    return Imported(document, (*_fields_report(draft, estimator), *reader.report), _names_out(estimator, count))


def _names_out(estimator: Any, count: int) -> tuple[str, ...]:
    """What scikit-learn calls each of so many values of a row; none where a part of the estimator cannot tell."""
    try:
        names = tuple(map(str, estimator.get_feature_names_out()))
    except (AttributeError, TypeError, ValueError):
        return ()
    return names if len(names) == count else ()


def _given(estimator: Any, draft: SklearnDraft) -> Block:
    """The frame that it was fitted to, by the names that it knows; else all columns as an array."""
    names = _names(estimator)
    if names is not None:
        return Block(tuple(draft.input(str(name)) for name in names), is_frame=True)
    values = [draft.input(name) for name in draft.inputs]
    return Block.array(values, common_type(values))


def _names(estimator: Any) -> Any:
    """Names of the columns that an estimator was fitted to; None where it was an array without."""
    if type(estimator) is Pipeline:
        real = [step for _, step in estimator.steps if step is not None and not isinstance(step, str)]
        return _names(real[0]) if real else None
    if type(estimator) is FeatureUnion:
        found = (_names(part) for _, part in estimator.transformer_list if not isinstance(part, str))
        return next((names for names in found if names is not None), None)
    return getattr(estimator, "feature_names_in_", None)


class _Reader:
    """Goes through an estimator, and writes what it finds into a draft."""

    def __init__(self, draft: SklearnDraft) -> None:
        self.report: list[Mapped] = []
        self._draft = draft

    def read(self, estimator: Any, pointer: str, given: Block | None) -> Block | None:
        """What an estimator makes; None where that is not known, because something has been refused."""
        made: Block | None = None
        with collecting(self._draft.problems):
            if type(estimator) is Pipeline:
                return self._pipeline(estimator, pointer, given)
            if type(estimator) is ColumnTransformer:
                made = self._column_transformer(estimator, pointer, given)
            elif type(estimator) is FeatureUnion:
                made = self._feature_union(estimator, pointer, given)
            elif estimator is None or (isinstance(estimator, str) and estimator == "passthrough"):
                made = given
            else:
                made = self._leaf(estimator, pointer, given)
        return None if made is None else made._replace(is_frame=made.is_frame or _makes_frames(estimator))

    def _pipeline(self, pipeline: Pipeline, pointer: str, given: Block | None) -> Block | None:
        for index, (_, step) in enumerate(pipeline.steps):
            given = self.read(step, f"{pointer}/steps/{index}", given)
        return given

    def _column_transformer(self, transformer: ColumnTransformer, pointer: str, given: Block | None) -> Block:
        _need_fitted(transformer, pointer)
        _need_no_weights(transformer, pointer)
        count = transformer.n_features_in_
        if given is not None and len(given.values) != count:
            refuse(pointer, f"was fitted to {count} columns, and would be given {len(given.values)}.")
        pointers = [f"{pointer}/transformers/{index}" for index in range(len(transformer.transformers))]
        parts = zip([*pointers, f"{pointer}/remainder"], transformer.transformers_, strict=False)
        blocks: list[Block | None] = []
        for place, (_, part, columns) in parts:
            positions = _positions(columns, transformer)
            if positions and not (isinstance(part, str) and part == "drop"):
                chosen = tuple(given.values[position] for position in positions) if given is not None else ()
                blocks.append(self.read(part, place, None if given is None else given._replace(values=chosen)))
        is_sparse = bool(getattr(transformer, "sparse_output_", False))
        return _beside(blocks, Block((), _makes_frames(transformer), is_sparse))

    def _feature_union(self, union: FeatureUnion, pointer: str, given: Block | None) -> Block:
        _need_no_weights(union, pointer)
        blocks = [
            self.read(part, f"{pointer}/transformer_list/{index}", given)
            for index, (_, part) in enumerate(union.transformer_list)
            if not (isinstance(part, str) and part == "drop")
        ]
        is_sparse = any(block is not None and block.is_sparse for block in blocks)
        return _beside(blocks, Block((), _makes_frames(union), is_sparse))

    def _leaf(self, estimator: Any, pointer: str, given: Block | None) -> Block:
        """What a transformer of numbers or categories makes."""
        name = type(estimator).__name__
        kind = _KINDS.get(type(estimator))
        if kind is None:
            is_model = hasattr(estimator, "predict") and not hasattr(estimator, "transform")
            hint = "it is a model; import the steps before it." if is_model else _HINTS.get(name, "")
            refuse(pointer, f"{name} has no counterpart{f': {hint}' if hint else ' here.'}")
        _need_fitted(estimator, pointer)
        if unknown := sorted(set(estimator.get_params(deep=False)) - kind.parameters):
            refuse(pointer, f"{name} has parameters of a release that is not known here: {', '.join(unknown)}.")
        draft = self._draft
        counts = len(draft.steps), len(draft.guards)
        draft.begin(f"t{len(self.report)}", f"{name} at {pointer or '/'}")
        made = kind.read(Leaf(estimator, pointer, given, draft))
        steps = [f"step {step['id']}" for step in draft.steps[counts[0] :]]
        steps += [f"expectation {guard['id']}" for guard in draft.guards[counts[1] :]]
        columns = ", ".join(value.name for value in given.values) if given is not None else ""
        became = ", ".join(steps) or "no step: columns and order only"
        self.report.append(Mapped(pointer, f"{name} of {columns}"[:1000], became, " ".join(draft.notes) or None))
        return made


def _need_fitted(estimator: Any, pointer: str) -> None:
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        refuse(pointer, f"{type(estimator).__name__} is not fitted; a spec takes the state that `fit` learned.")


def _need_no_weights(transformer: Any, pointer: str) -> None:
    if transformer.transformer_weights:
        refuse(f"{pointer}/transformer_weights", "weights of transformers have no counterpart.")


def _makes_frames(estimator: Any) -> bool:
    """Whether its output is configured to be a frame."""
    own = getattr(estimator, "_sklearn_output_config", {}).get("transform")
    return bool((own or sklearn.get_config()["transform_output"]) != "default")


def _positions(columns: Any, transformer: ColumnTransformer) -> Sequence[int]:
    """Positions of columns that are named, counted (from the end where negative), masked, or a slice of either."""
    names = [str(name) for name in getattr(transformer, "feature_names_in_", ())]
    places = range(transformer.n_features_in_)
    if isinstance(columns, slice) and any(isinstance(edge, str) for edge in (columns.start, columns.stop)):
        first = None if columns.start is None else names.index(columns.start)
        # By name, the end is included.
        behind = None if columns.stop is None else names.index(columns.stop) + 1
        return places[first : behind : columns.step]
    if isinstance(columns, slice):
        return places[columns]
    listed = [columns] if isinstance(columns, str | int) else list(columns)
    if listed and all(isinstance(column, bool | np.bool_) for column in listed):
        return [place for place, is_chosen in enumerate(listed) if is_chosen]
    return [names.index(column) if isinstance(column, str) else places[column] for column in listed]


def _beside(blocks: Sequence[Block | None], form: Block) -> Block:
    """The columns of all, one block behind the other, in a form."""
    values: list[Value] = []
    dtypes = []
    for block in blocks:
        if block is None:
            give_up()
        is_made_dense = block.is_sparse and not form.is_sparse
        values += [value._replace(is_unsigned=value.is_unsigned or is_made_dense) for value in block.values]
        kinds = {value.dtype.kind for value in block.values}
        # To pandas, bools beside numbers are objects.
        is_mixed = block.is_frame and "b" in kinds and len(kinds) > 1
        dtypes.append(Value("", "", "", MIXED if is_mixed else common_type(block.values)))
    if not form.is_frame:
        values = [value._replace(dtype=common_type(dtypes)) for value in values]
    return form._replace(values=tuple(values))


def _document(draft: SklearnDraft, report: list[Mapped], *, made: Block | None, spec_id: str) -> dict[str, Any]:
    if made is None:
        give_up()
    draft.begin("out", "Brought into the form of the tensor.")
    features = _features(draft, made)
    if not features:
        refuse("", "makes no column, so there is no tensor for a model.")
    note = " ".join(draft.notes) or None
    report.append(Mapped("", "transform", f"tensor features of {len(made.values)} values a row", note))
    document: dict[str, Any] = {
        "format": "scorespec/1",
        "spec_id": spec_id,
        "doc": f"Imported from scikit-learn {sklearn.__version__}.",
        "input": {"fields": [_field(draft, name) for name in draft.inputs if name in draft.used]},
        "steps": draft.steps,
        "outputs": {"tensors": [{"tensor": "features", "dtype": "float32", "from": features}]},
    }
    return document | ({"expectations": draft.guards} if draft.guards else {})


def _features(draft: SklearnDraft, made: Block) -> list[str]:
    """Our columns of the tensor: a vector where all of its positions stand one behind the other."""
    features: list[str] = []
    place = 0
    while place < len(made.values):
        value = made.values[place]
        width = value.part.width if value.part else 0
        parts = [other.part for other in made.values[place : place + width]]
        if [(part.vector, part.position) for part in parts if part] == [(value.ours, at) for at in range(width)] != []:
            features.append(value.ours)
            place += width
            continue
        with collecting(draft.problems):
            is_unsigned = (value.is_unsigned or made.is_sparse) and value.part is None
            exact = value._replace(is_unsigned=is_unsigned)
            features.append(draft.number(exact, "") if is_unsigned else draft.unrounded(value, ""))
        place += 1
    return features


def _field(draft: SklearnDraft, name: str) -> dict[str, Any]:
    """An input field; a row on which scikit-learn fails is set aside."""
    found: dict[str, Any] = {"name": name, "type": draft.inputs[name].kind}
    if name in draft.required:
        found["nullable"] = False
    if name in draft.finite:
        found["range"] = {"min": -_LARGEST, "max": _LARGEST}
    return found


def _fields_report(draft: SklearnDraft, estimator: Any) -> list[Mapped]:
    """What each column became that the estimator knows."""
    names = _names(estimator)
    known = list(draft.inputs) if names is None else [str(name) for name in names]
    return [
        Mapped(
            f"/feature_names_in_/{index}" if names is not None else "/n_features_in_",
            f"column {name}",
            f"field {name}: {draft.inputs[name].kind}"
            if name in draft.used
            else "nothing: no step and no output needs it",
        )
        for index, name in enumerate(known)
    ]
