"""Plan, launch, approve, reject, cancel: the only doors, for form, API and command line alike.

Bad input gets one sentence and starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from maintenance import queue
from maintenance.auditing import chain
from maintenance.conf import config
from maintenance.engines.messages import Message, msg
from maintenance.models import (
    ACTIVE,
    Acknowledgement,
    ApplicationHold,
    Approval,
    Comment,
    MaintenanceRun,
    ReleaseRequest,
    RunTarget,
    ScopeHold,
    Status,
    StoredPlan,
    letters,
)
from maintenance.models.asked import asked_with, digest, settings_digest
from maintenance.notifications import events
from maintenance.workflow import conclusion

from .four_eyes import outdated, refuse_outdated, refuse_same_person, refuse_who_changed_it
from .planning import forget_unused, plan, plan_now
from .rehearsals import rehearsed
from .request import (
    Actor,
    BadInput,
    Checked,
    Locked,
    NotFound,
    NotPermitted,
    Outdated,
    Refused,
    Request,
    check,
    engine_of,
    identity_of,
    refuse_unreleased,
)
from .rule import needs_second_person, with_other_names

__all__ = [
    "Actor",
    "BadInput",
    "Locked",
    "NotFound",
    "NotPermitted",
    "Outdated",
    "Refused",
    "Request",
    "approve",
    "ask_for_plan",
    "cancel",
    "comment",
    "launch",
    "plan",
    "plan_now",
    "reject",
    "release",
]


def ask_for_plan(actor: Actor, request: Request) -> StoredPlan:
    """Return a plan that a worker makes; until then `made_at` is empty. Raises NotPermitted."""
    actor.need("launch_maintenance", "launch a maintenance")
    forget_unused()
    with transaction.atomic():
        asked = StoredPlan.objects.create(asked_by=actor.name, request=request.stored())
        queue.enqueue_plan(asked.pk)
    return asked


P = ParamSpec("P")
R = TypeVar("R")


def _databases(about: object) -> Sequence[str]:
    return about.target_databases or ["all"] if isinstance(about, Request) else []


def refusals_audited(door: Callable[Concatenate[Actor, P], R]) -> Callable[Concatenate[Actor, P], R]:
    """Audit every refusal for want of permission, by a lock or by the four eyes, and nothing else."""

    @wraps(door)
    def guarded(actor: Actor, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return door(actor, *args, **kwargs)
        except BadInput:
            raise
        except Refused as refusal:
            about = args[0]
            named = about.number if isinstance(about, MaintenanceRun) else ", ".join(_databases(about))
            operation = f"run.{door.__name__}_refused"
            chain.record(actor.name, operation, named, after={"because": str(refusal), "origin": actor.origin})
            raise

    return guarded


@refusals_audited
def launch(
    actor: Actor,
    request: Request,
    enqueue: bool = True,
    key: str | None = None,
    agreed: StoredPlan | None = None,
    break_glass: str = "",
    rehearsal: bool = False,
) -> MaintenanceRun:
    """Start a run: row, targets, holds, audit entry and messages are one commit. A person uses a `key` once.

    `agreed` is the plan that was seen and confirmed, and is started once: it is carried out, or planned again where the
    database has changed since. `break_glass` says why it must begin without the second person whose approval is needed.
    A `rehearsal` works on copies; it touches nothing that would need a second person, and its plan can be started yet.
    Any other run refers to the newest rehearsal of the same work.
    Raises NotPermitted, BadInput or Locked; then nothing was started.
    """
    actor.need("launch_maintenance", "launch a maintenance")
    if request.allow_data_loss:
        actor.need("allow_data_loss", "allow data loss in a maintenance")
    if agreed is not None:
        _refuse_other_plan(actor, request, agreed)
    checked = check(request, rehearsal)
    if agreed is not None:
        _refuse_outdated_plan(checked, agreed)
    waits = not rehearsal and needs_second_person(with_other_names(checked), request)
    if waits and agreed is None:
        agreed = plan_now(actor.name, request)  # Nobody agrees to what they cannot see.
    try:
        with transaction.atomic():
            if agreed is not None and not rehearsal:
                _refuse_started_plan(agreed)
            run = _create(actor, checked, Status.AWAITING_APPROVAL if waits else Status.QUEUED, key, agreed, rehearsal)
            _hold_scope(run, checked)
            for setting in checked.settings:
                # Once more: who held the scope until now may have left it closed.
                refuse_unreleased(setting, checked.facts[setting.name])
            if waits and break_glass:
                go_without_approval(actor, run, break_glass)
            elif waits:
                events.announce(run, "awaiting_approval")
            elif enqueue:
                for target in run.targets.all():
                    queue.enqueue(target.pk)
    except IntegrityError as error:
        raise _locked(checked) from error
    return run


def _refuse_other_plan(actor: Actor, request: Request, agreed: StoredPlan) -> None:
    """A plan is confirmed by the person who asked for it, and for what it was asked."""
    if agreed.asked_by != actor.name:
        raise BadInput(
            msg("Plan {plan} was made for {who}; make one of your own.", plan=agreed.pk, who=agreed.asked_by)
        )
    if agreed.made_at is None or agreed.refused:
        why = agreed.refused or msg("it still waits")
        raise BadInput(msg("Plan {plan} was not made: {why}", plan=agreed.pk, why=why))
    if agreed.request != request.stored():
        raise BadInput(
            msg("Plan {plan} was made for other parameters; plan again with those you ask for now.", plan=agreed.pk)
        )


def _refuse_outdated_plan(checked: Checked, agreed: StoredPlan) -> None:
    """Raises Outdated where the plan is about other databases than `all` are by now, or was made by other settings."""
    planned = {target["database"]: target.get("settings") for target in agreed.targets}
    names = {setting.name for setting in checked.settings}
    if names != planned.keys():
        words = msg("since then other databases are registered: {names}", names=", ".join(names ^ planned.keys()))
        raise Outdated(msg("Plan {plan} was not started: {why}. Plan again.", plan=agreed.pk, why=words))
    changed = [setting.name for setting in checked.settings if planned[setting.name] != settings_digest(setting)]
    if changed:
        words = msg("the settings of {names} changed since it was made", names=", ".join(changed))
        raise Outdated(msg("Plan {plan} was not started: {why}. Plan again.", plan=agreed.pk, why=words))


def _refuse_started_plan(agreed: StoredPlan) -> None:
    """Inside the transaction that starts it: of two at once, one waits for the other. Raises BadInput."""
    run = StoredPlan.objects.select_for_update().get(pk=agreed.pk).launched()
    if run is not None:
        raise BadInput(msg("Plan {plan} was started already, as {run}.", plan=agreed.pk, run=run.number))


def _create(
    actor: Actor, checked: Checked, status: Status, key: str | None, agreed: StoredPlan | None, rehearsal: bool
) -> MaintenanceRun:
    request = checked.request
    run = MaintenanceRun.objects.create(
        maintenance_type=request.maintenance_type,
        target_databases=[s.name for s in checked.settings],
        target_tables=list(request.target_tables),
        severity_level=request.severity_level,
        reason=request.reason.strip(),
        allow_data_loss=request.allow_data_loss,
        rehearsal=rehearsal,
        rehearsed_in=None if rehearsal else rehearsed(request, [s.name for s in checked.settings]),
        requested_by=actor.user,
        requested_by_name=actor.name,
        origin=actor.origin,
        request_key=key,
        agreed_plan=agreed,
        asked_settings=asked_with(checked.settings),
        status=status,
    )
    for setting in checked.settings:
        RunTarget.objects.create(
            run=run,
            setting=setting,
            database=setting.name,
            engine=engine_of(setting).name,
            version=checked.facts[setting.name].version[:200],
            identity=identity_of(checked.facts[setting.name]),
            site=letters(),
            tables=checked.tables[setting.name] or None,
            status=status,
            enqueued_at=timezone.now(),
        )
    chain.record(
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
            "plan": agreed.pk if agreed else None,
            "rehearsal": rehearsal,
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
    return [f"database:{identity_of(facts)}" for facts in checked.facts.values()]


def _locked(checked: Checked) -> Locked:
    keys = ["all", *_keys(checked)]
    hold = ScopeHold.objects.filter(key__in=keys).select_related("run").first() or ScopeHold.objects.first()
    if hold is None:
        return Locked(msg("Another maintenance began at the same instant; try again."))
    return Locked(
        msg(
            "{run} of {databases} holds the lock since {since}; wait for its end or cancel it.",
            run=hold.run.number,
            databases=", ".join(hold.run.target_databases),
            since=timezone.localtime(hold.since).isoformat(timespec="seconds"),
        )
    )


@refusals_audited
def approve(actor: Actor, run: MaintenanceRun) -> None:
    """Start the run by a second person's word. Raises NotPermitted for the one who asked, and BadInput."""
    actor.need("approve_maintenance", "approve a maintenance")
    refuse_same_person(actor, run)
    refuse_who_changed_it(actor, run)
    with transaction.atomic():
        refuse_outdated(run)
        bound = digest(run)
        _let_begin(run, Approval(run=run, by=actor.user, by_name=actor.name, digest=bound))
        chain.record(actor.name, "run.approved", run.number, after={"digest": bound})
        events.announce(run, "approved", msg("{who} approved it.", who=actor.name))


@refusals_audited
def reject(actor: Actor, run: MaintenanceRun, comment: str) -> None:
    """End the request by a second person's no; whoever asked hears why. Raises NotPermitted, BadInput."""
    actor.need("approve_maintenance", "reject a maintenance")
    if not comment.strip():
        raise BadInput(msg("A comment is required: say what would have to be otherwise."))
    why = msg("{who} rejected it: {comment}", who=actor.name, comment=comment.strip())
    if not _end_waiting(run, actor.name, "run.rejected", "rejected", why):
        raise BadInput(msg("{run} does not wait for an approval.", run=run.number))
    conclusion.conclude(run.pk)


def end_outdated(run: MaintenanceRun) -> bool:
    """End a request that nobody may approve any more, so that it holds the lock no longer; return whether it did."""
    why = outdated(run)
    if why is None or not _end_waiting(run, "console", "run.outdated", "outdated", msg("{why}; ask again.", why=why)):
        return False
    conclusion.conclude(run.pk)
    return True


def _end_waiting(run: MaintenanceRun, by: str, operation: str, event: str, why: Message) -> bool:
    """By one compare-and-set; False when it no longer waits. The caller concludes it, or else the sweep."""
    with transaction.atomic():
        waiting = MaintenanceRun.objects.filter(pk=run.pk, status=Status.AWAITING_APPROVAL)
        if not waiting.update(status=Status.CANCELLING):
            return False
        run.targets.filter(status=Status.AWAITING_APPROVAL).update(
            status=Status.CANCELLED, ended_because=why, finished_at=timezone.now()
        )
        chain.record(by, operation, run.number, after={"because": str(why)})
        events.announce(run, event, why)
    return True


@refusals_audited
def go_without_approval(actor: Actor, run: MaintenanceRun, reason: str) -> None:
    """Break the glass: nobody is there to approve, and waiting does more harm. Audited, told, in the report.

    Raises BadInput.
    """
    actor.need("break_glass", "begin a maintenance without its approval")
    if not reason.strip():
        raise BadInput(msg("A reason is required: say why nobody can approve, and what waiting would cost."))
    with transaction.atomic():
        refuse_outdated(run)
        bound = digest(run)
        word = Approval(run=run, by=actor.user, by_name=actor.name, digest=bound, broken_glass=reason.strip())
        _let_begin(run, word)
        chain.record(actor.name, "run.glass_broken", run.number, after={"reason": reason.strip(), "digest": bound})
        sentence = msg("{who} began it without the approval it needs: {reason}", who=actor.name, reason=reason.strip())
        events.announce(run, "glass_broken", sentence)


def _let_begin(run: MaintenanceRun, word: Approval) -> None:
    """Queued, by one compare-and-set. Raises BadInput when the run does not wait for it."""
    changed = MaintenanceRun.objects.filter(pk=run.pk, status=Status.AWAITING_APPROVAL).update(status=Status.QUEUED)
    if not changed:
        raise BadInput(msg("{run} does not wait for an approval.", run=run.number))
    run.status = Status.QUEUED
    word.save()
    run.targets.filter(status=Status.AWAITING_APPROVAL).update(status=Status.QUEUED)
    for target in run.targets.all():
        queue.enqueue(target.pk)


@refusals_audited
def cancel(actor: Actor, run: MaintenanceRun) -> None:
    """Ask the workers to stop; what nobody began ends at once, unless something stopped was left to it to start.

    Raises BadInput.
    """
    actor.need("cancel_maintenance", "cancel a maintenance")
    with transaction.atomic():
        open_states = [Status.AWAITING_APPROVAL, *ACTIVE]
        changed = MaintenanceRun.objects.filter(pk=run.pk, status__in=open_states, cancel_requested_at=None).update(
            cancel_requested_at=timezone.now(), cancel_requested_by=actor.name, status=Status.CANCELLING
        )
        if not changed:
            raise BadInput(msg("{run} has ended or is being cancelled already.", run=run.number))
        why = msg("Cancelled by {who} before it began.", who=actor.name)
        run.targets.filter(pk__in=_left_to_start(run), status=Status.QUEUED).update(status=Status.CANCELLING)
        run.targets.filter(status__in=[Status.AWAITING_APPROVAL, Status.QUEUED]).update(
            status=Status.CANCELLED,
            ended_because=why,
            finished_at=timezone.now(),
        )
        run.targets.filter(status=Status.RUNNING).update(status=Status.CANCELLING)
        chain.record(actor.name, "run.cancelled", run.number, before={"status": run.status})
    conclusion.conclude(run.pk)


def _left_to_start(run: MaintenanceRun) -> list[int]:
    """Ids of targets that share an application which another target of the run stopped: a worker has to end them."""
    stopped = set(ApplicationHold.objects.filter(run=run, was_running=True).values_list("name", flat=True))
    targets = run.targets.filter(setting__isnull=False).select_related("setting")
    return [t.pk for t in targets if t.setting is not None and stopped.intersection(t.setting.applications)]


def acknowledge(actor: Actor, run: MaintenanceRun) -> None:
    """Stop the reminders of a run that needs an operator: somebody is on it. Raises NotPermitted, BadInput."""
    actor.need("launch_maintenance", "acknowledge a maintenance")
    if not run.targets.filter(status=Status.NEEDS_OPERATOR).exists():
        raise BadInput(msg("{run} does not need an operator.", run=run.number))
    with transaction.atomic():
        word, new = Acknowledgement.objects.get_or_create(run=run, defaults={"by": actor.user, "by_name": actor.name})
        if not new:
            raise BadInput(msg("{run} was acknowledged by {who} already.", run=run.number, who=word.by_name))
        chain.record(actor.name, "run.acknowledged", run.number)
        events.announce(run, "acknowledged", msg("{who} is on it.", who=actor.name))


def release(actor: Actor, target: RunTarget) -> ReleaseRequest:
    """Have a worker open again what waits for people, after a person looked at its data. Raises BadInput or
    NotPermitted."""
    actor.need("launch_maintenance", "release a database")
    if target.status != Status.NEEDS_OPERATOR or target.released_at is not None:
        raise BadInput(msg("{database} does not wait for an operator.", database=target.database))
    with transaction.atomic():
        asked = ReleaseRequest.objects.create(target=target, by_name=actor.name)
        chain.record(actor.name, "target.release_asked", f"{target.database} in run {target.run_id}")
        queue.enqueue_release(asked.pk)
    return asked


def comment(actor: Actor, run: MaintenanceRun, text: str, handed_to: str = "") -> None:
    """Keep what a person has to say of a run; with `handed_to`, a user's name, that person is on it from now on.

    Raises BadInput or NotPermitted.
    """
    actor.need("launch_maintenance", "comment on a maintenance")
    if not text.strip():
        raise BadInput(msg("A comment is required."))
    if handed_to and not User.objects.filter(username=handed_to, is_active=True).exists():
        raise BadInput(msg("There is no person {name}.", name=handed_to))
    with transaction.atomic():
        Comment.objects.create(run=run, by_name=actor.name, text=text.strip(), handed_to=handed_to)
        operation = "run.handed_over" if handed_to else "run.commented"
        chain.record(actor.name, operation, run.number, after={"comment": text.strip(), "to": handed_to})
        if handed_to:
            because = msg("{who} handed it over to {to}: {comment}", who=actor.name, to=handed_to, comment=text.strip())
            events.announce(run, "handed_over", because)
