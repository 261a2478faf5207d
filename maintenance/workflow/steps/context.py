"""What a step has in its hands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal

from django.utils import timezone

from maintenance.conf.config import Config
from maintenance.engines.archive import Seal
from maintenance.engines.base import Engine
from maintenance.engines.errors import EngineError, Interrupted
from maintenance.engines.messages import Message
from maintenance.engines.values import Action, Backup, Check, Diagnosis, Fingerprint, Image, Json
from maintenance.models import ActionRecord, BackupFile, MaintenanceRun, MaintenanceSetting, Node, RunTarget, StepState
from maintenance.models.evidence import Baseline, ChecksBefore, E, EarlyChecks, ImageEvidence, StepEvidence

from ..flowchart import Edge
from ..journal import Journal

Reason = Literal["cancelled", "timed_out", "lost", "left"]


@dataclass(frozen=True)
class Outcome:
    """Which edge of the flowchart to take, and the sentence for the journal."""

    edge: Edge
    sentence: Message
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the run target to set in the commit that takes the edge."""


@dataclass(frozen=True)
class Done(Generic[E]):
    """What one effect inside a step brought."""

    sentence: Message
    evidence: E


def done(sentence: Message) -> Done[StepEvidence]:
    """Return an effect that left nothing but its sentence."""
    return Done(sentence, StepEvidence())


class Context:
    """One run target under one claim."""

    def __init__(self, journal: Journal, target: RunTarget, engine: Engine, config: Config) -> None:
        self.journal, self.target, self.engine, self.config = journal, target, engine, config
        self.production = engine
        """The target itself, also while `engine` works on the copy of a rehearsal."""
        assert target.setting is not None
        self.setting: MaintenanceSetting = target.setting
        self.run: MaintenanceRun = target.run
        self.reason: Reason | None = None
        self.step = ""
        self.armed = False
        """Whether this claim armed the dead man's switch."""
        self.diagnosis: Diagnosis | None = None
        """What B has just found, for C alone: nothing happens between the two."""
        self._resolved: tuple[list[str], list[str], list[str]] | None = None
        """Objects of the plan, the tables that they are, and those that are none: names do not change meanwhile."""

    @property
    def on_copy(self) -> bool:
        """Whether the steps work on the copy of a rehearsal."""
        return self.engine is not self.production

    @property
    def seal(self) -> Seal:
        """Return how backups are encrypted."""
        return self.config.seal

    @property
    def tables(self) -> list[str] | None:
        """Return canonical names of a partial maintenance, None for all."""
        return self.target.tables or None

    @property
    def touched(self) -> list[str] | None:
        """Return canonical names of the tables that an optimization works on; otherwise as `tables`.

        The rest stays as it is while connections are cut. None also where the work is on more than tables.
        """
        objects = list(dict.fromkeys(action.object for action in self.plan))
        if self.run.maintenance_type != "optimize" or not objects:
            return self.tables
        if self._resolved is None or self._resolved[0] != objects:
            self._resolved = (objects, *self.engine.sessions.resolve(objects))
        _, tables, unknown = self._resolved
        return self.tables if unknown else tables

    @property
    def measured(self) -> list[str] | None:
        """Return canonical names of the tables whose queries are measured: those of the plan, None for all.

        None also where the work is on more than tables.
        """
        objects = list(dict.fromkeys(action.object for action in self.plan))
        if not objects:
            return self.touched
        tables, unknown = self.engine.sessions.resolve(objects)
        return self.touched if unknown or not tables else tables

    @property
    def rows_stay(self) -> bool:
        """Whether the work may not change any row: then their constraints hold after it as they did before."""
        return self.run.maintenance_type != "repair" and not self.run.allow_data_loss

    @property
    def marker(self) -> Json:
        """Return what is left on the target while connections are cut, so that any host can tell whose cut it is."""
        return {
            "dbmaint": 1,
            "run": str(self.run.pk),
            **self.engine.tag.mark,
            "worker": self.journal.worker,
            "at": timezone.now().isoformat(),
        }

    @property
    def plan(self) -> list[Action]:
        """Return the work that was decided on."""
        return [Action(**entry) for entry in self.target.plan or []]

    @property
    def image(self) -> Image | None:
        """Return what a rollback restores from; None before there is one."""
        return ImageEvidence.from_json(self.target.image).image if self.target.image else None

    @property
    def backup(self) -> Backup | None:
        """Return the newest backup of this run target that reads back; None without one."""
        file = (
            BackupFile.objects.filter(target=self.target, verified=True)
            .exclude(role="catch_up")
            .order_by("-id")
            .first()
        )
        if file is None:
            return None
        snapshot = {name: Fingerprint(**entry) for name, entry in file.snapshot.items()}
        return Backup(Path(file.path), file.method, file.bytes or 0, file.sha256, True, snapshot)

    def recorded(self, node: Node, part: str, kind: type[E]) -> E | None:
        """Return what this part left, in the newest round that finished it; None where none did."""
        for round in range(self.target.round, 0, -1):
            line = self.journal.done(node, part, round)
            if line is not None:
                return line.evidence(kind)
        return None

    def finished(self, node: Node, part: str) -> bool:
        """Whether any round finished this part."""
        return any(self.journal.done(node, part, round) for round in range(self.target.round, 0, -1))

    @property
    def baseline(self) -> dict[str, Fingerprint] | None:
        """Return fingerprints under the cut, before the first change; None before they were taken."""
        baseline = self.recorded(Node.CUT_CONNECTIONS, "fingerprint", Baseline)
        return None if baseline is None else dict(baseline.tables)

    @property
    def checks_before(self) -> ChecksBefore:
        """Return what was checked under the cut, before the first change; nothing where that was not reached."""
        return self.recorded(Node.CUT_CONNECTIONS, "check", ChecksBefore) or ChecksBefore()

    @property
    def untouched(self) -> bool:
        """Whether no piece of work was ever begun: then the data is as it was, and nothing has to be restored."""
        return not ActionRecord.objects.filter(target=self.target).exists()

    @property
    def worked_on(self) -> set[str] | None:
        """Return canonical names of the tables that work was begun on; None where it was on more than tables."""
        objects = sorted(set(ActionRecord.objects.filter(target=self.target).values_list("object", flat=True)))
        tables, unknown = self.engine.sessions.resolve(objects) if objects else ([], [])
        return None if unknown else set(tables)

    def change(self, **changes: Any) -> None:
        """Set fields of the run target, in the database and here. Raises LeaseLost."""
        self.journal.change(**changes)
        self.take_over(changes)

    def take_over(self, changes: Mapping[str, Any]) -> None:
        """Set here what was written to the database."""
        for name, value in changes.items():
            setattr(self.target, name, value)

    def once(self, part: str, kind: type[E], work: Callable[[], Done[E]]) -> E:
        """Do one effect unless this round has it done: evidence kept → returned; else write, act, write."""
        line = self.journal.done(Node(self.target.node), part, self.target.round)
        if line is not None:
            return line.evidence(kind)
        return self.again(part, work)

    def again(self, part: str, work: Callable[[], Done[E]], before: Json | None = None) -> E:
        """Write, act, write - also when it was done before, for effects that a crash undoes."""
        line = self.journal.started(Node(self.target.node), self.step, part, self.target.round, before)
        try:
            brought = work()
        except EngineError as error:
            state = StepState.INTERRUPTED if isinstance(error, Interrupted) else StepState.FAILED
            self.journal.closed(line, state, error.sentence)
            raise
        self.journal.closed(line, StepState.FINISHED, brought.sentence, brought.evidence)
        return brought.evidence

    def wait(self, seconds: float, doing: str) -> None:
        """Sleep; a cancel or a timeout ends it with Interrupted. Raises Interrupted."""
        if self.engine.stopping.wait(seconds):
            raise Interrupted(doing, self.target.database, "stopped on request")


def checked_early(ctx: Context) -> list[Check] | None:
    """Return what was found while everybody worked; None when that had to wait for the cut."""
    early = ctx.recorded(Node.BACK_UP, "check", EarlyChecks) if ctx.rows_stay else None
    return None if early is None or early.checks is None else list(early.checks)
