"""The only writer about a run: claim, beat, started, finished, undone, failed, measured, ended.

Every write is conditional on the fencing token, in one transaction with what it writes. Whoever lost
the lease gets LeaseLost and must not touch the target again. While the control database does not
answer, a write waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django.db.models import F, Q
from django.utils import timezone

from maintenance.auditing import chain
from maintenance.conf.control_database import wait_for_control_database
from maintenance.engines.errors import EngineError
from maintenance.engines.messages import Message, msg
from maintenance.engines.values import Action, Backup, Diagnosis, Json, Loss, Performed, Sample
from maintenance.models import (
    ACTIVE,
    ActionRecord,
    BackupFile,
    DatabaseState,
    MaintenanceRun,
    Measurement,
    Node,
    RunTarget,
    Status,
    StepRecord,
    StepState,
)
from maintenance.models.evidence import E, StepEvidence
from maintenance.models.recording import write_state
from maintenance.notifications import events

from . import blackbox, crashpoints
from .flowchart import row
from .lease import out_of_lease, this_worker, worker_is_gone

log = logging.getLogger("maintenance")
performance = logging.getLogger("performance")


class LeaseLost(Exception):
    """Another worker has the target now."""


@wait_for_control_database
def claim(target_id: int, worker: str | None = None) -> Journal | None:
    """Take the target if nobody else has it, by one compare-and-set; return None when somebody has.

    The first claim of a run is its beginning: people are told in the same commit.
    """
    worker = worker or this_worker()
    lease = timedelta(seconds=settings.LEASE_SECONDS)
    with transaction.atomic():
        target = RunTarget.objects.filter(pk=target_id).first()
        if target is None:
            return None
        free = out_of_lease()
        if worker_is_gone(target.worker):
            free |= Q(token=target.token)
        now = timezone.now()
        taken = RunTarget.objects.filter(free, pk=target_id, token=target.token, status__in=ACTIVE).update(
            token=F("token") + 1,
            attempt=F("attempt") + 1,
            worker=worker,
            lease_until=now + lease,
            beat_at=now,
            started_at=target.started_at or now,
            status=Status.RUNNING if target.status == Status.QUEUED else target.status,
        )
        if not taken:
            return None
        ActionRecord.objects.filter(target=target, state=StepState.STARTED).update(state=StepState.INTERRUPTED)
        began = MaintenanceRun.objects.filter(pk=target.run_id, started_at__isnull=True).update(started_at=now)
        MaintenanceRun.objects.filter(pk=target.run_id, status=Status.QUEUED).update(status=Status.RUNNING)
        chain.record(
            worker, "target.claimed", f"{target.database} in run {target.run_id}", after={"token": target.token + 1}
        )
        if began:
            events.announce(target.run, "started")
    journal = Journal(target_id, target.token + 1, worker)
    journal.about = {"run": target.run.number, "database": target.database}
    crashpoints.point("claimed")
    return journal


@dataclass(frozen=True)
class Orders:
    """What the heartbeat brings back from the control database."""

    cancel: bool


class Journal:
    """The right to write about one run target, as long as the token is ours. Thread-safe."""

    def __init__(self, target_id: int, token: int, worker: str) -> None:
        self.target_id, self.token, self.worker = target_id, token, worker
        self.about: dict[str, str] = {}
        """Run and database, as log lines name them."""
        self.box: blackbox.BlackBox | None = None
        self._lock = threading.Lock()
        self._boxing = threading.Lock()

    # -- target ------------------------------------------------------------------------------------

    def target(self) -> RunTarget:
        """Return the target as it is stored now, with its run and its setting."""
        return wait_for_control_database(self._target)()

    def _target(self) -> RunTarget:
        return RunTarget.objects.select_related("run", "setting").get(pk=self.target_id)

    @contextmanager
    def _owning(self, **changes: Any) -> Iterator[None]:
        with self._lock, transaction.atomic():
            until = timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
            mine = RunTarget.objects.filter(pk=self.target_id, token=self.token, status__in=ACTIVE)
            if not mine.update(lease_until=until, **changes):
                raise LeaseLost(f"run target {self.target_id} is no longer held with token {self.token}")
            yield

    def _note(self, kind: str, **line: object) -> None:
        entry: Json = {"kind": kind, "token": self.token, **line}
        with self._boxing:
            if self.box is None:
                return
            try:
                self.box.write(entry)
            except OSError:
                log.exception("The black box %s cannot be written; going on in DBMAINT_HOME", self.box.path)
                self.box = self.box.moved_home()
                try:
                    if self.box is not None:
                        self.box.write(entry)
                except OSError:
                    log.exception("DBMAINT_HOME takes no black box either; the journal goes on without")

    def open_box(self, database: str, folders: Sequence[str], header: Json, roots: tuple[Path, ...]) -> None:
        """Write every line to the black box too, from here on. Raises BlackBoxUnwritable."""
        self.box = blackbox.open_box(database, self.target_id, folders, header, roots)
        self.change(black_box=str(self.box.path))

    @wait_for_control_database
    def beat(self, progress: Json | None = None) -> Orders:
        """Renew the lease and return the orders that wait. Raises LeaseLost."""
        changes: dict[str, Any] = {"beat_at": timezone.now()}
        if progress is not None:
            changes["progress"] = progress
        with self._owning(**changes):
            asked = MaintenanceRun.objects.filter(targets=self.target_id, cancel_requested_at__isnull=False).exists()
        return Orders(cancel=asked)

    @wait_for_control_database
    def change(self, **changes: Any) -> None:
        """Set fields of the run target. Raises LeaseLost."""
        with self._owning(**changes):
            pass
        crashpoints.point("changed")
        self._note("changed", **{k: v for k, v in changes.items() if k in ("gate", "image")})

    @wait_for_control_database
    def leave(self) -> None:
        """Give the lease back for a successor: in order, so it does not count as a death."""
        with self._owning():
            mine = RunTarget.objects.filter(pk=self.target_id, token=self.token)
            mine.update(lease_until=None, attempt=F("attempt") - 1)
            chain.record(self.worker, "target.left", f"run target {self.target_id}", after={"token": self.token})
        self._note("left")
        crashpoints.point("left")

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Keep the lease for work outside the procedure."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(settings.LEASE_SECONDS / 4):
                try:
                    self.beat()
                except LeaseLost:
                    return
            connections.close_all()

        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join(timeout=30)

    # -- steps -------------------------------------------------------------------------------------

    def done(self, node: Node, part: str, round: int) -> StepRecord | None:
        """Return the line of this part if it was finished before."""
        lines = StepRecord.objects.filter(
            target=self.target_id, node=node, part=part, round=round, state=StepState.FINISHED
        )
        return wait_for_control_database(lambda: lines.order_by("-id").first())()

    def was_started(self, node: Node, part: str, round: int, kind: type[E]) -> E | None:
        """Return the state before that was written when this part was begun last; None when it never was."""
        lines = StepRecord.objects.filter(target=self.target_id, node=node, part=part, round=round)
        line = wait_for_control_database(lambda: lines.order_by("-id").first())()
        return None if line is None else kind.from_json(line.before or {})

    @wait_for_control_database
    def started(self, node: Node, step: str, part: str, round: int, before: Json | None = None) -> StepRecord:
        """Call before the effect; `before` is what undoing it needs."""
        with self._owning():
            attempt = StepRecord.objects.filter(target=self.target_id, node=node, part=part, round=round).count() + 1
            line = StepRecord.objects.create(
                target_id=self.target_id,
                node=node,
                step=step,
                part=part,
                round=round,
                attempt=attempt,
                before=before,
                token=self.token,
            )
        self._note("started", step=step, part=part, before=before)
        crashpoints.point(f"{step}.{part}.started" if part else f"{step}.started")
        return line

    @wait_for_control_database
    def closed(
        self,
        line: StepRecord,
        state: StepState,
        sentence: Message,
        evidence: StepEvidence | None = None,
        event: str = "",
        **changes: Any,
    ) -> None:
        """Call after the effect was observed; `changes` go to the run target in the same commit.

        So do the messages of an `event`: who takes the next edge has told people, once.
        """
        line.state, line.sentence, line.finished_at = state, sentence, timezone.now()
        if evidence is not None:
            line.keep(evidence)
        with self._owning(**changes):
            line.save(update_fields=["state", "sentence", "result", "finished_at"])
            if event:
                target = self._target()
                events.announce(target.run, event, sentence, target.database)
        level = logging.INFO if state == StepState.FINISHED else logging.ERROR
        fields = {**self.about, "step": line.step, "object": line.part or None, "seconds": line.seconds}
        log.log(level, "%s", sentence, extra={**fields, "response": row(line.node).answers_failure})
        if line.step == "benchmark":
            performance.info("%s", sentence, extra={**fields, "figures": evidence and evidence.to_json()})
        self._note(state.value, step=line.step, part=line.part, sentence=str(sentence), node=changes.get("node"))
        crashpoints.point(f"{line.step}.{line.part}.{state.value}" if line.part else f"{line.step}.{state.value}")

    # -- what steps find out ----------------------------------------------------------------------

    @wait_for_control_database
    def diagnosed(self, source: DatabaseState.Source, diagnosis: Diagnosis) -> None:
        """Write the row of TBL-097."""
        with self._owning(version=diagnosis.version[:200]):
            target = RunTarget.objects.select_related("setting").get(pk=self.target_id)
            if target.setting is not None:
                write_state(target.setting, source, diagnosis, target)

    @wait_for_control_database
    def action_started(self, action: Action, round: int) -> ActionRecord:
        """Write a piece of work down before it begins, and return its line. Raises LeaseLost.

        Work that may give rows up says so at once: nobody knows what it gave up if this process dies at it.
        """
        losses = [asdict(_unknown_loss(action))] if action.needs_data_loss else []
        with self._owning():
            line = ActionRecord.objects.create(
                target_id=self.target_id,
                round=round,
                object=action.object,
                action=action.kind,
                reason=action.reason,
                losses=losses,
            )
        self._note("action started", object=action.object, action=action.kind)
        crashpoints.point("action.started")
        return line

    @wait_for_control_database
    def action_finished(self, line: ActionRecord, performed: Performed) -> None:
        """Write what was observed of the work: sizes in bytes, and losses. Raises LeaseLost."""
        line.state, line.finished_at = StepState.FINISHED, timezone.now()
        line.sentence = performed.sentence
        line.bytes_before, line.bytes_after = performed.bytes_before, performed.bytes_after
        line.losses = [asdict(loss) for loss in performed.losses]
        with self._owning():
            line.save()
        sizes = {"bytes_before": line.bytes_before, "bytes_after": line.bytes_after}
        fields = {**self.about, "step": line.action, "object": line.object, "seconds": line.seconds}
        log.info("%s", line.sentence, extra={**fields, "figures": sizes})
        self._note("action finished", object=line.object, action=line.action, sentence=line.sentence)
        crashpoints.point("action.finished")

    @wait_for_control_database
    def action_failed(self, line: ActionRecord, state: StepState, sentence: Message) -> None:
        """Write that the work failed or was interrupted, and why; it then changed nothing. Raises LeaseLost."""
        line.state, line.finished_at = state, timezone.now()
        line.sentence, line.losses = sentence, []
        with self._owning():
            line.save()
        fields = {**self.about, "step": line.action, "object": line.object, "seconds": line.seconds}
        log.error("%s", line.sentence, extra=fields)
        self._note("action " + state.value, object=line.object, action=line.action, sentence=line.sentence)

    @wait_for_control_database
    def measured(self, phase: str, round: int, samples: Sequence[Sample], block: int = 1) -> None:
        """Write the samples of one block of a phase in place of earlier ones of this round. Raises LeaseLost."""
        with self._owning():
            # In two statements, not several a query: it is done within the outage.
            Measurement.objects.filter(target=self.target_id, phase=phase, round=round, block=block).delete()
            Measurement.objects.bulk_create(
                Measurement(
                    target_id=self.target_id,
                    phase=phase,
                    round=round,
                    block=block,
                    query=sample.query,
                    times_ms=list(sample.times_ms),
                    control_ms=list(sample.control_ms),
                    cut_short=sample.cut_short,
                    cost=sample.cost,
                    cost_unit=sample.cost_unit,
                    rows=sample.rows,
                    error=sample.error or "",
                )
                for sample in {sample.query: sample for sample in samples}.values()
            )
        for sample in samples:
            figures = {
                "phase": phase,
                "round": round,
                "block": block,
                "times_ms": list(sample.times_ms),
                "control_ms": list(sample.control_ms),
                "cost": sample.cost,
                "cost_unit": sample.cost_unit,
                "rows": sample.rows,
            }
            sentence = sample.error or f"Measured {phase} the work: {sample.query}"
            performance.info("%s", sentence, extra={**self.about, "step": "measure", "figures": figures})

    @wait_for_control_database
    def backed_up(self, role: str, backup: Backup) -> None:
        """Write down a backup that reads back, with the fingerprints of its content. Raises LeaseLost."""
        with self._owning():
            BackupFile.objects.create(
                target_id=self.target_id,
                role=role,
                method=backup.method,
                path=str(backup.path),
                bytes=backup.bytes,
                sha256=backup.sha256,
                verified=backup.verified,
                snapshot={name: asdict(print_) for name, print_ in backup.snapshot.items()},
            )
        self._note("backup", role=role, method=backup.method, path=str(backup.path), sha256=backup.sha256)
        crashpoints.point("backed_up")

    @wait_for_control_database
    def backup_failed(self, role: str, method: str, path: str, error: EngineError) -> None:
        """Write down that no backup came about there, and why. Raises LeaseLost."""
        with self._owning():
            BackupFile.objects.create(
                target_id=self.target_id,
                role=role,
                method=method,
                path=path,
                error=_named(error),
            )

    @wait_for_control_database
    def backup_refused(self, path: str, error: EngineError) -> None:
        """Write down that the file is there and reads back, but that nothing can be restored from it."""
        with self._owning():
            BackupFile.objects.filter(target_id=self.target_id, path=path).update(verified=False, error=_named(error))
        self._note("backup_refused", path=path, error=str(error))

    @wait_for_control_database
    def backup_removed(self, pk: int) -> None:
        """Write down that the file is there no more: a rehearsal's are of no use after it."""
        with self._owning():
            BackupFile.objects.filter(pk=pk, target=self.target_id).update(removed_at=timezone.now())

    @wait_for_control_database
    def ended(self, status: Status, because: Message, **changes: Any) -> None:
        """Write the last word on this target; the lease is given back in the same commit. Raises LeaseLost.

        People who are needed are called in it too: other databases of the run may be hours from their end.
        """
        with self._owning(ended_because=because, finished_at=timezone.now(), progress={}, **changes):
            target = RunTarget.objects.get(pk=self.target_id)
            chain.record(
                self.worker,
                "target.ended",
                f"{target.database} in run {target.run_id}",
                before={"status": target.status},
                after={"status": status, "because": str(because)},
            )
            RunTarget.objects.filter(pk=self.target_id, token=self.token).update(status=status, lease_until=None)
            if status == Status.NEEDS_OPERATOR:
                events.announce(target.run, status, because, target.database)
        self._note("ended", status=status.value, sentence=str(because))
        crashpoints.point("target.ended")


def _unknown_loss(action: Action) -> Loss:
    """Return what work gave up of which nobody lived to write it down."""
    detail = msg("its worker died at this work; which rows it gave up is not known, the backup holds what there was")
    return Loss(action.object, None, (), detail)


def _named(error: EngineError) -> Message:
    """Return its own message after its kind, which machines read."""
    return msg("{kind}: {error}", kind=type(error).__name__, error=error.sentence)
