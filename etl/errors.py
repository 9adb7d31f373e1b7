"""What can go wrong with tables, as one tree.

BatchscoreError
└── EtlError
    ├── DocumentError        a stored or given document (spec, receipt, manifest) is malformed or of another version
    │   ├── SpecError        an ETL spec is malformed, inconsistent or not fitted
    │   ├── TextError        a text is neither the JSON nor the YAML that we read
    │   └── Misfit           parts of a document do not fit each other
    ├── ReadError            an input cannot be read as planned
    │   ├── InputMissing     nothing is there
    │   ├── InputChanged     the pinned file is no longer the one that was planned
    │   └── FileDamaged      its bytes are no Parquet, or not what was written
    ├── RowError             a row is at fault
    │   ├── ContractError    a file's schema, or a value the contract says must not occur, breaks the input contract
    │   └── TransformError   a step of the spec cannot be applied to a value
    ├── StorageError         the store refused, or lacks what the protocol needs
    │   ├── PendingLost      a pending file is gone: its receipt is void
    │   │   └── ReceiptsVoid those of some splits are
    │   └── PendingTaken     the final name belongs to somebody else's bytes
    ├── NotShipped           Spark does not take code or files to its workers
    ├── AccountError         rows in ≠ scored + quarantined + filtered, by count or by digest
    └── PublishError         the commit did not land
        ├── Superseded       another publisher took the place that this run wanted
        └── OutcomeUnknown   the commit may or may not have landed, and storage could not be asked

Every class takes one message, so that it survives pickling between driver, JVM and workers. A message says what was
found, where, and what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from etl.format.problems import Problem

__all__ = [
    "PLACE",
    "AccountError",
    "BatchscoreError",
    "ContractError",
    "DocumentError",
    "EtlError",
    "FileDamaged",
    "InputChanged",
    "InputMissing",
    "Misfit",
    "NotShipped",
    "OutcomeUnknown",
    "PendingLost",
    "PendingTaken",
    "PublishError",
    "ReadError",
    "ReceiptsVoid",
    "RowError",
    "SpecError",
    "StorageError",
    "Superseded",
    "TextError",
    "TransformError",
    "note_place",
]


PLACE = "batchscore was at: "
"""How a note on an error begins that says where its rows were."""


def note_place(error: Exception, place: str) -> None:
    """Write on an error, once, where the rows were that it came up at: a traceback has it, which Spark hands on."""
    if not any(note.startswith(PLACE) for note in getattr(error, "__notes__", ())):
        error.add_note(f"{PLACE}{place}")


class BatchscoreError(Exception):
    """Root of all errors that batchscore raises on purpose; anything else is a defect."""


class EtlError(BatchscoreError):
    """Something is wrong with tables, files or their documents."""


class DocumentError(EtlError):
    """A document is malformed, or its format is of a version that this release does not read."""


class SpecError(DocumentError):
    """An ETL spec is malformed, inconsistent or not fitted."""


class TextError(DocumentError, ValueError):
    """A text is neither the JSON nor the YAML that we read."""

    coded: str = ""
    """`file:line:column: /pointer: what is wrong. [CODE]`, as all that is wrong with a spec is told."""


class Misfit(DocumentError, ValueError):
    """Parts of a document do not fit each other."""

    problems: Sequence[Problem] = ()
    """All that does not fit, by places that begin where it was asked."""


class ReadError(EtlError):
    """An input file cannot be read as planned."""


class InputMissing(ReadError):
    """Nothing is where the config says that the input is."""


class InputChanged(ReadError):
    """A pinned input file was replaced or removed after the plan was made."""


class FileDamaged(ReadError):
    """The bytes of a file are at fault, and not the way to them: it is no Parquet, or not as it was written."""


class RowError(EtlError):
    """A row is at fault, and the spec says `fail`."""

    row: int | None = None
    """Its position in the batch, of several the first one's; None where it is no row's fault, or on another process."""

    @classmethod
    def at(cls, row: int, message: str) -> Self:
        """An error of a row."""
        error = cls(message)
        error.row = row
        return error


class ContractError(RowError):
    """A file's schema breaks the contract, or a value does where the contract says `fail`."""


class TransformError(RowError):
    """A step of the spec cannot be applied to a value, or a row breaks an expectation, and the spec says `fail`."""


class StorageError(EtlError):
    """The store refused an operation, or lacks one that the publication protocol needs."""


class PendingLost(StorageError):
    """Neither the pending file nor its final name exists: the receipt that names it is void."""


class ReceiptsVoid(PendingLost):
    """Files of some splits are gone, so those are to be scored again."""

    attempts: frozenset[str] = frozenset()
    """Names of the attempts whose receipts these are; empty on another process."""

    @classmethod
    def of(cls, attempts: Iterable[str], message: str) -> Self:
        """An error of the receipts of some attempts."""
        error = cls(message)
        error.attempts = frozenset(attempts)
        return error


class PendingTaken(StorageError):
    """The final name of a pending file is taken by other bytes."""


class NotShipped(EtlError):
    """Spark does not take code or files to its workers."""


class AccountError(EtlError):
    """The row account of a split does not add up; nothing may be published."""


class PublishError(EtlError):
    """The commit certainly did not land."""


class Superseded(PublishError):
    """Another publisher took the place that this run wanted."""


class OutcomeUnknown(PublishError):
    """The commit may have landed: the store's answer was lost and it could not be asked again."""
