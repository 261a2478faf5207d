"""E: stop the applications, in order, each proven stopped by its own check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from django.db import transaction
from django.utils import timezone

from maintenance.conf.config import Application
from maintenance.engines.errors import Unable
from maintenance.engines.messages import msg
from maintenance.models import ACTIVE, ApplicationHold, MaintenanceRun, Node, RunTarget

from .. import applications
from ..flowchart import leading_to
from .context import Context, Outcome, done


def run(ctx: Context) -> Outcome:
    """Stop the applications (E); one shared by several targets of the run is stopped by the first."""
    mine = configured(ctx)
    if ctx.run.rehearsal:
        return Outcome("finished", msg("This is a rehearsal: no application is stopped."))
    if not mine:
        return Outcome("finished", msg("No applications are named for {database}.", database=ctx.target.database))
    if ctx.target.outage_started_at is None:
        ctx.change(outage_started_at=timezone.now())
    for application in mine:
        hold(ctx, application)
    return Outcome("finished", msg("Stopped {names}.", names=", ".join(a.name for a in mine)))


def configured(ctx: Context) -> list[Application]:
    """Return the applications of this target in the order of stopping. Raises Unable for an unknown name."""
    unknown = [name for name in ctx.setting.applications if name not in ctx.config.applications]
    if unknown:
        raise Unable(
            "stopping the applications of",
            ctx.target.database,
            msg("{names} not described in config.json; an administrator has to add it there", names=", ".join(unknown)),
        )
    return sorted((ctx.config.applications[n] for n in ctx.setting.applications), key=lambda a: (a.order, a.name))


def hold(ctx: Context, application: Application) -> None:
    """Remember whether it ran, durably, before it is stopped. Raises EngineError."""
    held = ApplicationHold.objects.filter(target=ctx.target, name=application.name).first()
    if held is None:
        running = applications.is_running(application) or _ran_before(ctx, application.name)
        held = ApplicationHold.objects.create(
            run=ctx.run, target=ctx.target, name=application.name, was_running=running
        )
    ctx.again(
        f"stop {application.name}",
        lambda: done(applications.stop(application, ctx.engine.stopping)),
        {"application": application.name, "was_running": held.was_running},
    )


def _ran_before(ctx: Context, name: str) -> bool:
    """Another target of this run stopped it already, and it ran before that."""
    return ApplicationHold.objects.filter(run=ctx.run, name=name, was_running=True).exists()


@dataclass(frozen=True)
class Released:
    """Names of applications: started now; and left stopped for other targets of the run."""

    started: list[str]
    left: list[str]


def release_applications(ctx: Context) -> Released:
    """Start, in reverse order, what this run stopped and no target of it needs stopped any longer; return which.

    Goes by what was stopped, not by today's settings. Raises EngineError when one does not start.
    """
    mine = ApplicationHold.objects.filter(target=ctx.target).order_by("-id").values_list("name", flat=True)
    # Others may have left to us what they share with us, although we never stopped it.
    names = list(dict.fromkeys([*mine, *reversed(ctx.setting.applications)]))
    started, left = [], []
    for name in names:
        match _turn(ctx, name):
            case "ours":
                if _start(ctx, name):
                    started.append(name)
            case "others":
                left.append(name)
    return Released(started, left)


def _turn(ctx: Context, name: str) -> Literal["ours", "others", "nobody"]:
    """Whose part it is to start this application, decided for all targets of the run one after the other."""
    with transaction.atomic():
        MaintenanceRun.objects.select_for_update().get(pk=ctx.run.pk)
        holds = ApplicationHold.objects.filter(run=ctx.run, name=name)
        holds.filter(target=ctx.target, released_at=None).update(released_at=timezone.now())
        if not holds.filter(was_running=True).exists():
            return "nobody"
        others = RunTarget.objects.filter(run=ctx.run, status__in=ACTIVE, node__in=leading_to(Node.STOP_APPLICATIONS))
        coming = any(
            target.setting is not None and name in target.setting.applications
            for target in others.exclude(pk=ctx.target.pk).select_related("setting")
        )
        return "others" if coming or holds.filter(released_at=None).exists() else "ours"


def left_stopped(target: RunTarget) -> str:
    """Return names of applications that this target was to start and never will, as it cannot be worked on.

    Call it in the transaction that ends the target: nobody may leave it another one meanwhile.
    """
    MaintenanceRun.objects.select_for_update().get(pk=target.run_id)
    if target.outage_ended_at is not None:
        return ""
    stopped = ApplicationHold.objects.filter(run=target.run_id, was_running=True)
    mine = set(stopped.filter(target=target).values_list("name", flat=True))
    shared = stopped.filter(name__in=target.setting.applications if target.setting is not None else [])
    held_by_others = stopped.filter(released_at=None).exclude(target=target).values("name")
    return ", ".join(sorted(mine.union(shared.exclude(name__in=held_by_others).values_list("name", flat=True))))


def _start(ctx: Context, name: str) -> bool:
    """False when it runs already, because it was started before."""
    application = ctx.config.applications.get(name)
    if application is None:
        raise Unable("starting application", name, "config.json does not describe it any more; start it by hand")
    if applications.is_running(application):
        return False
    ctx.again(f"start {name}", lambda: done(applications.start(application, ctx.engine.stopping)))
    return True
