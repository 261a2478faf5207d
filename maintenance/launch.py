"""Plan, launch, approve, cancel: the only doors, for form, API and command line alike.

Bad input gets one sentence and starts nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from . import audit, config, ending, notify, tasks
from .control import control_url
from .engines import open_engine
from .engines.base import Engine
from .engines.errors import EngineError
from .engines.values import Facts, Tag
from .engines.words import Sentence, say
from .models import (
    ACTIVE,
    Approval,
    MaintenanceRun,
    MaintenanceSetting,
    MaintenanceType,
    RunTarget,
    ScopeHold,
    SeverityLevel,
    Status,
)
from .secrets import SecretUnreadable
from .steps.context import stored_action
from .steps.decide import refuse_without_room

PLANNING = Tag(0, 0)


class Refused(Exception):
    """The request cannot be; the sentence names the thing and what would be right."""

    def __init__(self, sentence: Sentence) -> None:
        self.sentence = sentence
        super().__init__(str(sentence))


class BadInput(Refused):
    """Something in the request is wrong."""


class NotFound(BadInput):
    """It names a database that is not registered."""


class Locked(Refused):
    """Another maintenance holds the scope."""


class NotPermitted(Refused):
    """This person may not do it."""


@dataclass(frozen=True)
class Request:
    """The specification's parameters (3.3), with its names."""

    maintenance_type: str
    target_databases: Sequence[str] | None
    """Names of settings; None for all."""
    severity_level: str
    reason: str
    target_tables: Sequence[str] = ()
    allow_data_loss: bool = False


@dataclass(frozen=True)
class Actor:
    """Who asks. `user` is None for the command line, which the operating system guards."""

    name: str
    origin: str
    user: User | None = None

    def may(self, permission: str) -> bool:
        return self.user is None or self.user.has_perm(f"maintenance.{permission}")

    def need(self, permission: str, doing: str) -> None:
        if not self.may(permission):
            raise NotPermitted(say("{who} may not {doing}.", who=self.name, doing=doing))


@dataclass
class Checked:
    """A request that could be started: its settings, and per database the canonical table names."""

    request: Request
    settings: list[MaintenanceSetting]
    tables: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, Facts] = field(default_factory=dict)


def check(request: Request) -> Checked:
    """Connects to each target read-only. Raises BadInput."""
    _one_of("maintenance_type", request.maintenance_type, MaintenanceType.values)
    _one_of("severity_level", request.severity_level, SeverityLevel.values)
    if not request.reason.strip():
        raise BadInput(say("A reason is required: say what is wrong and who asked for the maintenance."))
    checked = Checked(request, _settings(request))
    known: dict[str, list[str]] = {}
    for setting in checked.settings:
        _refuse_unreleased(setting)
        engine = _engine(setting)
        try:
            facts = engine.facts()
            _refuse_target(setting, facts)
            found, unknown = engine.resolve(list(request.target_tables)) if request.target_tables else ([], [])
        except EngineError as error:
            raise BadInput(say("{database}: {error}", database=setting.name, error=str(error))) from error
        finally:
            engine.close()
        for name, other in checked.facts.items():
            if other.identity == facts.identity:
                raise BadInput(
                    say("{one} and {two} are the same database; name one of them.", one=name, two=setting.name)
                )
        checked.facts[setting.name] = facts
        checked.tables[setting.name] = found
        known[setting.name] = unknown
    for table in request.target_tables:
        if all(table in unknown for unknown in known.values()):
            raise BadInput(
                say(
                    "There is no table {table} in {databases}.",
                    table=table,
                    databases=", ".join(s.name for s in checked.settings),
                )
            )
    if request.target_tables:
        for setting in checked.settings:
            if not checked.tables[setting.name]:
                raise BadInput(
                    say(
                        "None of the tables {tables} is in {database}; leave that database out.",
                        tables=", ".join(request.target_tables),
                        database=setting.name,
                    )
                )
    return checked


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise BadInput(
            say("{name} is {value}; it is one of {allowed}.", name=name, value=repr(value), allowed=", ".join(allowed))
        )


def _settings(request: Request) -> list[MaintenanceSetting]:
    if request.target_databases is None:
        found = list(MaintenanceSetting.objects.filter(enabled=True))
        if not found:
            raise BadInput(say("No database is registered: use register_target or the admin site first."))
        return found
    if not request.target_databases:
        raise BadInput(say("Name at least one database, or all."))
    found = []
    for name in dict.fromkeys(request.target_databases):
        setting = MaintenanceSetting.objects.filter(name=name).first()
        if setting is None:
            known = ", ".join(MaintenanceSetting.objects.values_list("name", flat=True)) or "none"
            raise NotFound(say("There is no database {name}; registered are: {known}.", name=name, known=known))
        if not setting.enabled:
            raise BadInput(say("Database {name} is switched off in its settings.", name=name))
        found.append(setting)
    return found


def _refuse_unreleased(setting: MaintenanceSetting) -> None:
    """What an earlier run left closed has doubtful data: taking it for the truth would hide the loss."""
    last = RunTarget.objects.filter(setting=setting).exclude(status__in=ACTIVE).order_by("-id").first()
    closed = last is not None and last.gate is not None and last.outage_ended_at is None
    if last is not None and closed and last.status == Status.NEEDS_OPERATOR:
        raise BadInput(
            say(
                "{database} waits for an operator since {run}; check its data, then: manage.py release {database}",
                database=setting.name,
                run=last.run.number,
            )
        )


def _engine(setting: MaintenanceSetting) -> Engine:
    try:
        return open_engine(setting.engine_url, PLANNING, setting.limits)
    except (LookupError, SecretUnreadable) as error:
        raise BadInput(say("{database}: {error}", database=setting.name, error=str(error))) from error


def _refuse_target(setting: MaintenanceSetting, facts: Facts) -> None:
    if facts.is_replica:
        raise BadInput(
            say("{database} is a replica; maintain its primary, the replica follows.", database=setting.name)
        )
    if facts.identity == _control_identity():
        raise BadInput(
            say(
                "{database} is the control database of this console itself; it cannot be its target.",
                database=setting.name,
            )
        )
    if facts.data_directory:
        data = Path(facts.data_directory).resolve()
        for folder in filter(None, (setting.backup_dir, setting.alternate_backup_dir)):
            place = Path(folder).resolve()
            if place == data or (data in place.parents and setting.url.split(":")[0].split("+")[0] != "sqlite"):
                raise BadInput(
                    say(
                        "The backup folder {folder} of {database} is the data folder; choose another disk or folder.",
                        folder=folder,
                        database=setting.name,
                    )
                )


def _control_identity() -> str:
    engine = open_engine(control_url(connection.settings_dict), PLANNING, MaintenanceSetting().limits)
    try:
        return engine.facts().identity
    except EngineError:
        return ""
    finally:
        engine.close()


def plan(request: Request) -> dict[str, Any]:
    """What would be done, and why; changes nothing. Raises BadInput."""
    checked = check(request)
    return {
        "maintenance_type": request.maintenance_type,
        "severity_level": request.severity_level,
        "targets": [_plan_one(checked, setting) for setting in checked.settings],
    }


def _plan_one(checked: Checked, setting: MaintenanceSetting) -> dict[str, Any]:
    request = checked.request
    tables = checked.tables[setting.name] or None
    engine = _engine(setting)
    try:
        diagnosis = engine.diagnose(setting.thresholds, tables)
        actions = engine.plan(
            request.maintenance_type,  # type: ignore[arg-type]
            diagnosis,
            setting.thresholds,
            tables,
            request.allow_data_loss,
        )
        refused = None
        try:
            refuse_without_room(actions, diagnosis, setting.limits.jobs, setting.name)
        except EngineError as error:
            refused = str(error)
    except EngineError as error:
        raise BadInput(say("{database}: {error}", database=setting.name, error=str(error))) from error
    finally:
        engine.close()
    return {
        "database": setting.name,
        "engine": engine.name,
        "version": diagnosis.version,
        "size_bytes": diagnosis.size_bytes,
        "free_bytes": diagnosis.free_bytes,
        "connections": diagnosis.connections,
        "applications": setting.applications,
        "refused": refused,
        "findings": [
            {"code": f.code, "severity": f.severity, "object": f.object, "evidence": f.evidence, "hint": f.hint}
            for f in diagnosis.findings
        ],
        "actions": [{k: v for k, v in stored_action(a).items() if k != "said"} for a in actions],
        "disk_needed_bytes": sum(sorted((a.disk_bytes for a in actions), reverse=True)[: setting.limits.jobs]),
    }


def launch(
    actor: Actor, request: Request, enqueue: bool = True, key: str | None = None, break_glass: str = ""
) -> MaintenanceRun:
    """Starts a run: row, targets, holds, audit entry and messages are one commit. A person uses a `key` once.

    `break_glass` says why it must begin without the second person whose approval is needed.
    Raises NotPermitted, BadInput or Locked; then nothing was started.
    """
    actor.need("launch_maintenance", "launch a maintenance")
    if request.allow_data_loss:
        actor.need("allow_data_loss", "allow data loss in a maintenance")
    checked = check(request)
    waits = any(request.severity_level in s.approval_severities for s in checked.settings)
    try:
        with transaction.atomic():
            run = _create(actor, checked, Status.AWAITING_APPROVAL if waits else Status.QUEUED, key)
            _hold_scope(run, checked)
            if waits and break_glass:
                go_without_approval(actor, run, break_glass)
            elif waits:
                notify.announce(run, "awaiting_approval")
            elif enqueue:
                for target in run.targets.all():
                    tasks.enqueue(target.pk)
    except IntegrityError as error:
        raise _locked(checked) from error
    return run


def _create(actor: Actor, checked: Checked, status: Status, key: str | None) -> MaintenanceRun:
    request = checked.request
    run = MaintenanceRun.objects.create(
        maintenance_type=request.maintenance_type,
        target_databases=[s.name for s in checked.settings],
        target_tables=list(request.target_tables),
        severity_level=request.severity_level,
        reason=request.reason.strip(),
        allow_data_loss=request.allow_data_loss,
        requested_by=actor.user,
        requested_by_name=actor.name,
        origin=actor.origin,
        request_key=key,
        status=status,
    )
    for setting in checked.settings:
        RunTarget.objects.create(
            run=run,
            setting=setting,
            database=setting.name,
            engine=_engine(setting).name,
            version=checked.facts[setting.name].version[:200],
            tables=checked.tables[setting.name] or None,
            status=status,
            enqueued_at=timezone.now(),
        )
    audit.record(
        actor.name,
        "run.launched",
        run.number,
        after={
            "maintenance_type": run.maintenance_type,
            "target_databases": run.target_databases,
            "target_tables": run.target_tables,
            "severity_level": run.severity_level,
            "reason": run.reason,
            "allow_data_loss": run.allow_data_loss,
            "origin": actor.origin,
        },
    )
    return run


def _hold_scope(run: MaintenanceRun, checked: Checked) -> None:
    """One running maintenance at a time over its scope: the unique key decides between two at once."""
    if config.load().exclusive_scope == "all":
        if ScopeHold.objects.exists():
            raise _locked(checked)
        ScopeHold.objects.create(key="all", run=run)
        return
    if ScopeHold.objects.filter(key="all").exists():
        raise _locked(checked)
    for key in _keys(checked):
        ScopeHold.objects.create(key=key, run=run)


def _keys(checked: Checked) -> list[str]:
    """By identity, not by name: one database may be registered twice."""
    return [f"database:{hashlib.sha256(f.identity.encode()).hexdigest()[:40]}" for f in checked.facts.values()]


def _locked(checked: Checked) -> Locked:
    keys = ["all", *_keys(checked)]
    hold = ScopeHold.objects.filter(key__in=keys).select_related("run").first() or ScopeHold.objects.first()
    if hold is None:
        return Locked(say("Another maintenance began at the same instant; try again."))
    return Locked(
        say(
            "{run} of {databases} holds the lock since {since}; wait for its end or cancel it.",
            run=hold.run.number,
            databases=", ".join(hold.run.target_databases),
            since=timezone.localtime(hold.since).isoformat(timespec="seconds"),
        )
    )


def approve(actor: Actor, run: MaintenanceRun) -> None:
    """A second person's word starts the run. The one who asked cannot give it, superusers included."""
    actor.need("approve_maintenance", "approve a maintenance")
    if actor.name == run.requested_by_name or (actor.user is not None and actor.user.pk == run.requested_by_id):
        raise NotPermitted(
            say("{who} asked for {run}; a second person has to approve it.", who=actor.name, run=run.number)
        )
    with transaction.atomic():
        _let_begin(run, Approval(run=run, by=actor.user, by_name=actor.name))
        audit.record(actor.name, "run.approved", run.number)


def go_without_approval(actor: Actor, run: MaintenanceRun, reason: str) -> None:
    """Break-glass: nobody is there to approve, and waiting does more harm. Audited, told to people, in the report."""
    actor.need("break_glass", "begin a maintenance without its approval")
    if not reason.strip():
        raise BadInput(say("A reason is required: say why nobody can approve, and what waiting would cost."))
    with transaction.atomic():
        _let_begin(run, Approval(run=run, by=actor.user, by_name=actor.name, broken_glass=reason.strip()))
        audit.record(actor.name, "run.glass_broken", run.number, after={"reason": reason.strip()})
        notify.announce(run, "glass_broken", f"{actor.name} began it without the approval it needs: {reason.strip()}")


def _let_begin(run: MaintenanceRun, word: Approval) -> None:
    """Queued, by one compare-and-set. Raises BadInput when the run does not wait for it."""
    changed = MaintenanceRun.objects.filter(pk=run.pk, status=Status.AWAITING_APPROVAL).update(status=Status.QUEUED)
    if not changed:
        raise BadInput(say("{run} does not wait for an approval.", run=run.number))
    run.status = Status.QUEUED
    word.save()
    run.targets.filter(status=Status.AWAITING_APPROVAL).update(status=Status.QUEUED)
    for target in run.targets.all():
        tasks.enqueue(target.pk)


def cancel(actor: Actor, run: MaintenanceRun) -> None:
    """Asks the workers to stop; what nobody began ends at once."""
    actor.need("cancel_maintenance", "cancel a maintenance")
    with transaction.atomic():
        open_states = [Status.AWAITING_APPROVAL, *ACTIVE]
        changed = MaintenanceRun.objects.filter(pk=run.pk, status__in=open_states, cancel_requested_at=None).update(
            cancel_requested_at=timezone.now(), cancel_requested_by=actor.name, status=Status.CANCELLING
        )
        if not changed:
            raise BadInput(say("{run} has ended or is being cancelled already.", run=run.number))
        run.targets.filter(status__in=[Status.AWAITING_APPROVAL, Status.QUEUED]).update(
            status=Status.CANCELLED,
            ended_because=f"Cancelled by {actor.name} before it began.",
            finished_at=timezone.now(),
        )
        run.targets.filter(status=Status.RUNNING).update(status=Status.CANCELLING)
        audit.record(actor.name, "run.cancelled", run.number, before={"status": run.status})
    ending.conclude(run.pk)
