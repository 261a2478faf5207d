"""What the effects of a step left as evidence: the only reader and writer of `StepRecord.result`.

Each value is frozen and goes to JSON types and back. `maintenance.workflow.steps` write them, later steps, results and
reports read them; it lies with the tables because both need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from maintenance.engines.values import Check, Cut, Fingerprint, Image, Json, Load, Restored, Stage

Stored = Mapping[str, Any]
"""JSON types, with messages in them: what a `MessagesField` gives back."""


@dataclass(frozen=True)
class StepEvidence:
    """What one effect left; nothing but its sentence, unless a subclass says more."""

    def to_json(self) -> Json:
        """Return it as `StepRecord.result` keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Stored) -> Self:
        """Return what `to_json` was made of. Raises TypeError for anything else."""
        return cls(**stored)


E = TypeVar("E", bound=StepEvidence)


@dataclass(frozen=True)
class BackupEvidence(StepEvidence):
    """A file that was written and read back whole. `bytes`: its size."""

    path: str
    bytes: int


@dataclass(frozen=True)
class RestoreEvidence(StepEvidence):
    """A backup restored beside; None where neither this product nor this backup offers it."""

    restored: Restored | None

    @classmethod
    def from_json(cls, stored: Stored) -> Self:
        """See StepEvidence.from_json."""
        return cls(Restored(**stored["restored"]) if stored["restored"] else None)


@dataclass(frozen=True)
class EarlyChecks(StepEvidence):
    """What was checked while everybody worked; None where that had to wait for the cut."""

    checks: tuple[Check, ...] | None

    @classmethod
    def from_json(cls, stored: Stored) -> Self:
        """See StepEvidence.from_json."""
        return cls(None if stored["checks"] is None else _checks(stored["checks"]))


@dataclass(frozen=True)
class CutEvidence(StepEvidence):
    """Connections were cut; `manual_commands` open the target without this console, as they were at that moment."""

    cut: Cut
    manual_commands: tuple[str, ...]

    @classmethod
    def from_json(cls, stored: Stored) -> Self:
        """See StepEvidence.from_json."""
        return cls(Cut(**stored["cut"]), tuple(stored["manual_commands"]))


@dataclass(frozen=True)
class StillClosed(StepEvidence):
    """Whether the target was closed when its dead man's switch was put off."""

    closed: bool


@dataclass(frozen=True)
class ChecksBefore(StepEvidence):
    """Under the cut, before the first change: checks, definitions by name, and what guards each object."""

    checks: tuple[Check, ...] = ()
    catalog: Mapping[str, str] = field(default_factory=dict)
    encryption: Mapping[str, list[str]] = field(default_factory=dict)
    tls: Mapping[str, list[str]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, stored: Stored) -> Self:
        """See StepEvidence.from_json."""
        return cls(**{**stored, "checks": _checks(stored["checks"])})


@dataclass(frozen=True)
class Baseline(StepEvidence):
    """Fingerprints under the cut, before the first change, by canonical name of the table."""

    tables: Mapping[str, Fingerprint]

    @classmethod
    def from_json(cls, stored: Stored) -> Self:
        """See StepEvidence.from_json."""
        return cls(_fingerprints(stored["tables"]))


@dataclass(frozen=True)
class ImageEvidence(StepEvidence):
    """What a rollback restores from; kept in `RunTarget.image`, too."""

    image: Image

    def to_json(self) -> Json:
        """See StepEvidence.to_json."""
        path = self.image.path
        return {**asdict(self.image), "path": str(path) if path else None}

    @classmethod
    def from_json(cls, stored: Stored) -> Self:
        """See StepEvidence.from_json."""
        path = Path(stored["path"]) if stored["path"] else None
        return cls(Image(**{**stored, "tables": tuple(stored["tables"]), "path": path}))


@dataclass(frozen=True)
class Proof(StepEvidence):
    """The proof after the work. `level`: 'full' or 'named tables'; `problems` empty: nothing was lost.

    `compared` counts the tables of which every row was compared, `rows` theirs. `foreign`: tables that others wrote to
    although connections were cut, where nothing else is wrong.
    """

    level: str
    tables: Mapping[str, Fingerprint]
    checks: tuple[Check, ...]
    compared: int
    rows: int
    problems: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, stored: Stored) -> Self:
        """See StepEvidence.from_json."""
        return cls(
            level=stored["level"],
            tables=_fingerprints(stored["tables"]),
            checks=_checks(stored["checks"]),
            compared=stored["compared"],
            rows=stored["rows"],
            problems=tuple(stored["problems"]),
            foreign=tuple(stored["foreign"]),
        )


@dataclass(frozen=True)
class LoadEvidence(StepEvidence):
    """The short load test after the work."""

    load: Load

    def to_json(self) -> Json:
        """See StepEvidence.to_json."""
        return asdict(self.load)

    @classmethod
    def from_json(cls, stored: Stored) -> Self:
        """See StepEvidence.from_json."""
        return cls(Load(**stored))


@dataclass(frozen=True)
class StageEvidence(StepEvidence):
    """The copy on which a maintenance is rehearsed."""

    stage: Stage

    @classmethod
    def from_json(cls, stored: Stored) -> Self:
        """See StepEvidence.from_json."""
        return cls(Stage(**stored["stage"]))


@dataclass(frozen=True)
class SideCopy(StepEvidence):
    """The side copy that a swap is about to put in place: the state before it."""

    side: str


@dataclass(frozen=True)
class DataBack(StepEvidence):
    """How the data came back: `tables` are as at the cut, or were put in place anew.

    `kept`: where the broken database is kept. `image`: the copy of the cut that stays for people, because nobody can
    tell who changed the data. `foreign`: tables that others wrote to, whose rows stay.
    """

    tables: int
    kept: str = ""
    image: str = ""
    foreign: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, stored: Stored) -> Self:
        """See StepEvidence.from_json."""
        return cls(**{**stored, "foreign": tuple(stored["foreign"])})


@dataclass(frozen=True)
class CleanUp(StepEvidence):
    """What of ours was removed from the target, what could not be, and what was kept for people."""

    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, stored: Stored) -> Self:
        """See StepEvidence.from_json."""
        return cls(**{name: tuple(names) for name, names in stored.items()})


def _checks(stored: Any) -> tuple[Check, ...]:
    return tuple(Check(**entry) for entry in stored)


def _fingerprints(stored: Any) -> dict[str, Fingerprint]:
    return {name: Fingerprint(**entry) for name, entry in stored.items()}
