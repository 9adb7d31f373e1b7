"""Learn the state of a recipe's steps from data, in as few passes over it as its steps allow.

A pass learns every step whose inputs need nothing that is not learned yet; a step behind such a step waits for the next
pass. Exact quantiles of many distinct values take further passes. Each piece of the data, such as a row group, gives a
partial state, and they are merged in the order of the pieces. What is learned is exact, so the same rows give the same
state to the byte, in whatever pieces and by however many workers.

A row that the contract rejects, or a step that can be applied in that pass, is left out of everything learned in it, as
is a row that a filter leaves out. What expectations say is found in one more pass, once all is learned.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from etl.arrivals import arrivals, entered, is_prepared
from etl.errors import ContractError, DocumentError, InputChanged, SpecError
from etl.frame import once
from etl.given import is_spark_frame
from etl.golden import golden_rows, replay
from etl.learning.pieces import Piece, is_in_memory, pieces_of, watched
from etl.learning.profiling import ProfileAccumulator
from etl.learning.training_checks import Found, countable, joined_tables, told
from etl.ops.base import Accumulator, FittedStep
from etl.ops.relations import joins, on_table
from etl.pipeline import index_references, run_relational
from etl.relational import behind_table, whole
from etl.spec import Spec, schema_at
from etl.training import Provenance
from etl.types import workable

if TYPE_CHECKING:
    from etl.expectations import AnyExpectation
    from etl.frame import Frame
    from etl.ops.base import RowStep
    from etl.ops.lookup import ReferenceTable

__all__ = [
    "Learned",
    "Pass",
    "RunPass",
    "fit",
    "fit_by",
    "learn_piece",
    "most_extra_passes",
    "noted",
    "passes",
    "with_golden",
]


_AHEAD = 2
"""Pieces a worker that may be learned before the first of them is merged."""


def passes(recipe: Spec) -> tuple[tuple[str, ...], ...]:
    """Ids of the steps that each pass over the data learns; empty where nothing is to be learned. A spec with
    expectations is fitted in one pass more, which looks at them.

    What reads a step waits for the further passes too that this may take: see `most_extra_passes`.
    """  # noqa: D205  one sentence each
    level_of_column: dict[str, int] = {}
    levels: dict[int, list[str]] = {}
    for step in recipe.steps:
        level = max((level_of_column.get(name, 0) for name in step.reads), default=0)
        if not step.is_fitted:
            levels.setdefault(level, []).append(step.id)
            level += 1
        level_of_column.update(dict.fromkeys(step.outputs, level))
    return tuple(tuple(levels[level]) for level in sorted(levels))


def most_extra_passes(recipe: Spec) -> int:
    """How many more passes than `passes` tells a fit may take, for exact quantiles of very many distinct values.

    Those of what is learned together are taken together; statistics of the fields are learned with the first steps.
    """
    steps = {step.id: step.most_extra_passes for step in recipe.steps if isinstance(step, FittedStep)}
    first = max((profile.most_extra_passes for profile in _profiles(recipe).values()), default=0)
    levels = [max(steps[step_id] for step_id in ids) for ids in passes(recipe)]
    return max([first, *levels[:1]]) + sum(levels[1:]) if levels else 0


class Pass(NamedTuple):
    """What one pass over the data does: data, so that it can be sent to a worker."""

    spec: Spec
    """The recipe with what earlier passes learned."""
    templates: dict[str, Accumulator[Any]]
    """An empty accumulator for each thing that the pass learns: a step by its id, a profile by `_PROFILE` and field."""
    expectations: tuple[AnyExpectation, ...] = ()
    """What the last pass counts, which learns nothing."""


class Learned:
    """What was learned from some rows."""

    def __init__(self, templates: Mapping[str, Accumulator[Any]]) -> None:
        """Start empty."""
        self.rows = 0
        self.rejected = 0
        self.filtered = 0
        self.reasons: Counter[str] = Counter()
        """Rejected rows by the pointer of the rule that they broke first."""
        self.found = Found()
        """What the last pass counted."""
        self.begin_anew(templates)

    def begin_anew(self, templates: Mapping[str, Accumulator[Any]]) -> None:
        """Forget what was learned, but not the rows that were counted."""
        self.states = {name: template.fresh() for name, template in templates.items()}

    def update(self, frame: Frame) -> None:
        """Take in a batch, no row of which is rejected or filtered."""
        for state in self.states.values():
            state.update(frame)

    def merge(self, later: Learned) -> None:
        """Take in what was learned from rows that come later in canonical order."""
        for name, state in later.states.items():
            self.states[name].merge(state)
        self.rows += later.rows
        self.rejected += later.rejected
        self.filtered += later.filtered
        self.reasons.update(later.reasons)
        self.found.merge(later.found)


RunPass: TypeAlias = Callable[[Pass], Learned]
"""Runs a pass over all data: in this process, or as Spark tasks."""


def fit(recipe: Spec, data: Any, references: Mapping[str, Any] | None = None, *, workers: int = 1) -> Spec:
    """The recipe with what its steps learn from data: what `etl.learning.pieces.pieces_of` takes, or a Spark DataFrame.

    `workers` threads learn pieces side by side; the result is the same to the byte for any number of them. `references`
    are Arrow tables or pandas frames. Where the recipe has relational steps that run on the whole table, all data is
    held in memory for them, and the note `table` of the provenance tells what they left out; what bears the mark of
    `etl.relational.prepare`, in memory or in Parquet files, is taken as it is. A DataFrame is learned from by
    `etl.spark.fit`, in Spark tasks.

    Raises:
        TypeError: the recipe is no spec, or the data is of no kind that is known.
        ValueError: `workers` is no positive number.
        ReadError: the data cannot be read; InputChanged, where it is not what it was in the pass before.
        SpecError, ContractError, TransformError: as `fit_by` says.
    """
    _need_spec(recipe)
    if workers < 1:
        message = f"workers is the number of threads that learn side by side, 1 or more; found {workers}"
        raise ValueError(message)
    if is_spark_frame(data):
        from etl.spark.fitting import fit as fit_in_spark  # noqa: PLC0415  a worker needs no Spark

        return fit_in_spark(data, recipe, references)
    pieces = watched(data, [field.name for field in recipe.input.of_training.fields])
    notes: dict[str, str] = {}
    in_memory = is_in_memory(data) or on_table(recipe.relational) > 0
    if on_table(recipe.relational):
        batches = [batch for piece in pieces for batch in piece.batches()]
        if batches:
            table = whole(batches)
            if not _are_prepared(recipe, batches):
                # A batch is told by its kind: it may be a part of a table.
                table, counts, _ = behind_table(data if isinstance(data, pa.RecordBatch) else table, recipe, references)
                notes["table"] = str(counts)
            pieces = pieces_of(table)
    tables = index_references(recipe, joins(recipe.relational)[1], references or {})

    def run(work: Pass) -> Learned:
        total = Learned(work.templates)
        for part in _in_order(pieces, partial(learn_piece, work, tables), workers):
            total.merge(part)
        return total

    fitted = fit_by(recipe, run, in_memory=in_memory)
    if fitted is recipe:
        replay(recipe)
        return recipe
    notes.update(joined_tables(recipe, references or {}))
    fitted = noted(fitted, notes) if notes else fitted
    return with_golden(fitted, tables, (batch for piece in pieces for batch in piece.batches()))


def _are_prepared(recipe: Spec, batches: Iterable[pa.RecordBatch]) -> bool:
    """Whether batches have been through the steps on the table, all or none of them.

    Raises:
        ContractError: some have and some have not, or they were prepared for another spec.
    """
    found = {is_prepared(recipe, batch.schema, "the data") for batch in batches}
    if len(found) > 1:
        message = (
            "some pieces of the data were prepared by etl.relational.prepare, and others were not. Give all the rows "
            "as they were before, or prepare them together."
        )
        raise ContractError(message)
    return found == {True}


_LOOKED_AT = 32
"""Batches in which a fit looks for golden rows."""


def with_golden(spec: Spec, tables: Mapping[str, ReferenceTable], batches: Iterable[pa.RecordBatch]) -> Spec:
    """The fitted spec, sealed, with golden rows out of the first batch of its data that has any.

    Rows that do not replay, such as those whose values JSON cannot hold, would refuse the spec wherever it is loaded:
    it has none then, and its provenance says why. So it does where all rows are too long to be kept.
    """
    notes: dict[str, str] = {}
    for batch in itertools.islice((batch for batch in batches if batch.num_rows), _LOOKED_AT):
        frame = entered(spec.input, arrivals(spec), batch, where="golden rows")
        run_relational(spec, tables, frame)
        for index, step in enumerate(spec.steps):
            step.run(frame, f"/steps/{index}")
        golden = golden_rows(spec, batch, frame)
        if golden is None:
            notes = {"golden": "none: every row that was looked at is too long to be kept"}
        if golden:
            found = spec.model_copy(update={"golden": golden, "integrity": None})
            reason = _unreplayable(found)
            return (found if reason is None else noted(spec, {"golden": f"none: {reason}"})).sealed()
    return (noted(spec, notes) if notes else spec).sealed()


def _unreplayable(spec: Spec) -> str | None:
    """Why the golden rows of a spec do not replay from its own bytes; None where they do."""
    try:
        replay(Spec.from_bytes(spec.to_bytes(), where="golden rows"))
    except (DocumentError, TypeError, ValueError) as error:
        return str(error)
    return None


def noted(spec: Spec, notes: dict[str, str]) -> Spec:
    """The spec with notes in its provenance."""
    told = spec.provenance or Provenance()
    return spec.model_copy(update={"provenance": told.model_copy(update={"notes": {**told.notes, **notes}})})


def _need_spec(recipe: Any) -> None:
    """Refuse what is no spec, such as the path of one.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(recipe, Spec):
        is_path = isinstance(recipe, str | PathLike) and "\n" not in str(recipe)
        path = repr(str(recipe)) if is_path else "'recipe.yaml'"
        message = f"recipe is of {type(recipe).__name__}; give a Spec: etl.load_spec({path:.90}, fitted=False)"
        raise TypeError(message)


def fit_by(recipe: Spec, run: RunPass, *, in_memory: bool = False) -> Spec:
    """The recipe with what its steps learn. Steps that have a state keep it, and a spec that was fitted is returned.

    `reference` and `provenance` (rows, rejected and filtered ones of the last pass that learns, which applies the most
    steps; the note `expectations`, what was found of them) are filled in; `integrity` is not. `unique` is counted where
    all rows are `in_memory`.

    Raises:
        SpecError: the recipe is inconsistent, a reference is not given, or a step finds nothing to learn from.
        ContractError: a batch or a reference table breaks its contract.
        InputChanged: a pass saw more or fewer rows than the first.
        TransformError: a value breaks a step, or the rows an expectation, that says `fail`.
    """
    recipe.schema_at()
    spec, count = recipe, 0
    run = _of_the_same_rows(run)
    # A recipe that learns nothing is read once all the same, for its statistics and golden rows.
    templates = {**_profiles(recipe), **_ready(recipe)} if passes(recipe) or not recipe.golden else {}
    while templates:
        states, learned, taken = _learn_level(spec, templates, run)
        count += taken
        facts = {"rows": learned.rows, "rejected": learned.rejected, "filtered": learned.filtered, "passes": count}
        before = recipe.provenance or Provenance()
        try:
            spec = _settle(spec, states).model_copy(update={"provenance": before.model_copy(update=facts)})
        except SpecError as error:
            raise SpecError(f"{error}{_left_out(learned)}") from error
        templates = _ready(spec)
    _, problems = schema_at(spec, 0)
    if problems:
        raise SpecError("\n".join(f"{problem.pointer}: {problem.message}" for problem in problems))
    return _looked_at(spec, run, count, in_memory=in_memory) if count and spec.expectations else spec


def _looked_at(spec: Spec, run: RunPass, count: int, *, in_memory: bool) -> Spec:
    """The spec, fitted in so many passes, with what one more finds of its expectations over the rows that taught it.

    Raises:
        TransformError: they do not meet one of severity `fail`.
    """
    found = run(Pass(spec, {}, countable(spec.expectations, in_memory=in_memory))).found
    spec = noted(spec, {"expectations": told(spec.expectations, found, in_memory=in_memory)})
    before = spec.provenance or Provenance()
    return spec.model_copy(update={"provenance": before.model_copy(update={"passes": count + 1})})


_MOST_REASONS = 5


def _left_out(learned: Learned) -> str:
    """How many rows taught nothing, and by which rules; empty where all did."""
    if not learned.rejected and not learned.filtered:
        return ""
    reasons = ", ".join(f"{count:,} by {pointer}" for pointer, count in learned.reasons.most_common(_MOST_REASONS))
    told = f"Of {learned.rows:,} rows {learned.filtered:,} were filtered and {learned.rejected:,} rejected"
    return f"\n{told}{f': {reasons}' if reasons else ''}."


def _of_the_same_rows(run: RunPass) -> RunPass:
    """Passes that must see equally many rows."""
    counts: list[int] = []

    def checked(work: Pass) -> Learned:
        learned = run(work)
        counts.append(learned.rows)
        if learned.rows != counts[0]:
            found = f"{counts[0]:,} rows in the first pass, {learned.rows:,} in pass {len(counts)}"
            message = f"the data has changed: {found}. Fit again, from data that nothing changes."
            raise InputChanged(message)
        return learned

    return checked


def _learn_level(
    spec: Spec, templates: Mapping[str, Accumulator[Any]], run: RunPass
) -> tuple[dict[str, Accumulator[Any]], Learned, int]:
    """What can be learned without anything that is not learned yet, from how many rows, and in how many passes.

    Exact quantiles may take several passes, and all of them must see the same rows. So no step that was learned
    meanwhile is applied before the last of them: it might reject some.
    """
    done: dict[str, Accumulator[Any]] = {}
    count = 0
    while True:
        learned = run(Pass(spec, dict(templates)))
        count += 1
        templates = {}
        problems = []
        for name, state in learned.states.items():
            try:
                more = state.narrow()
            except ValueError as error:
                problems.append(f"{name.removeprefix(_PROFILE)!r} cannot be learned: its column {error}.")
                continue
            if more is None:
                done[name] = state
            else:
                templates[name] = more
        if problems:
            raise SpecError("\n".join(problems))
        if not templates:
            return done, learned, count


_PROFILE = "reference "
"""Before the name of a field, where no step's id can be the same."""


def _profiled(spec: Spec) -> dict[str, str]:
    """The fields by the names of their profiles, in their order."""
    return {f"{_PROFILE}{field.name}": field.name for field in spec.input.fields}


def _profiles(recipe: Spec) -> dict[str, Accumulator[Any]]:
    fields = {field.name: field for field in recipe.input.fields}
    return {key: ProfileAccumulator.of(fields[name]) for key, name in _profiled(recipe).items()}


def _ready(spec: Spec) -> dict[str, Accumulator[Any]]:
    """An accumulator for each step that can be learned now."""
    unknown: set[str] = set()
    found: dict[str, Accumulator[Any]] = {}
    for step in spec.steps:
        is_reachable = unknown.isdisjoint(step.reads)
        if isinstance(step, FittedStep) and not step.is_fitted and is_reachable:
            found[step.id] = step.accumulator()
        if not step.is_fitted or not is_reachable:
            unknown.update(step.outputs)
    return found


def _settle(spec: Spec, states: Mapping[str, Accumulator[Any]]) -> Spec:
    """The spec with what was learned."""
    problems: list[str] = []
    steps: list[RowStep] = []
    for index, step in enumerate(spec.steps):
        try:
            update = {"state": states[step.id].finish()} if step.id in states else {}
        except ValueError as error:
            problems.append(f"/steps/{index}: step {step.id!r} ({step.op}) cannot be fitted: {error}.")
            continue
        steps.append(step.model_copy(update=update))
    profiles = {}
    for key, name in _profiled(spec).items():
        try:
            profiles.update({name: states[key].finish()} if key in states else {})
        except ValueError as error:
            problems.append(f"/reference: field {name!r} {error}.")
    if problems:
        raise SpecError("\n".join(problems))
    return spec.model_copy(update={"steps": tuple(steps), "reference": {**spec.reference, **profiles}})


class _Learner(NamedTuple):
    """One batch in one pass."""

    work: Pass
    tables: Mapping[str, ReferenceTable]
    where: str

    def learn(self, batch: pa.RecordBatch) -> Learned:
        """What the batch teaches: a row that some rule rejects, or a filter leaves out, teaches nothing."""
        spec = self.work.spec
        spec.input.of_training.check_schema(batch.schema, self.where, arrivals(spec))
        batch = workable(batch)
        learned = Learned(self.work.templates)
        learned.rows = batch.num_rows
        frame = self._frame(batch)
        if self.work.expectations:
            learned.found.update(spec, self.work.expectations, frame)
            return learned
        learned.update(frame)
        # Reading a column as numbers may have rejected rows too, so what was learned with them is thrown away.
        while frame.rejections or frame.filtered is not None:
            left_out = 0 if frame.filtered is None else int(frame.filtered.sum())
            kept = np.flatnonzero(~frame.gone)
            for rejection in once(frame.rejections, frame.rows):
                learned.reasons[rejection.pointer] += rejection.rows.size
            learned.filtered += left_out
            learned.rejected += batch.num_rows - kept.size - left_out
            batch = batch.take(kept)
            frame = self._frame(batch)
            learned.begin_anew(self.work.templates)
            learned.update(frame)
        return learned

    def _frame(self, batch: pa.RecordBatch) -> Frame:
        """The batch with the columns of every step that can be applied so far."""
        spec = self.work.spec
        frame = entered(spec.input.of_training, arrivals(spec), batch, where=self.where)
        run_relational(spec, self.tables, frame)
        absent: set[str] = set()
        for index, step in enumerate(self.work.spec.steps):
            if step.is_fitted and absent.isdisjoint(step.reads):
                step.run(frame, f"/steps/{index}")
            else:
                absent.update(step.outputs)
        return frame


def learn_piece(work: Pass, tables: Mapping[str, ReferenceTable], piece: Piece) -> Learned:
    """What a piece teaches."""
    total = Learned(work.templates)
    for number, batch in enumerate(piece.batches()):
        total.merge(_Learner(work, tables, piece.name or f"batch {number}").learn(batch))
    return total


def _in_order(pieces: Sequence[Piece], learn_one: Callable[[Piece], Learned], workers: int) -> Iterator[Learned]:
    """What each piece teaches, in their order; few are held at once."""
    if workers == 1:
        yield from map(learn_one, pieces)
        return
    running: deque[Any] = deque()
    with ThreadPoolExecutor(workers) as threads:
        for piece in pieces:
            running.append(threads.submit(learn_one, piece))
            if len(running) >= workers * _AHEAD:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
