"""E: stop the applications, in order, each proven stopped by its own check."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from .. import applications
from ..config import Application
from ..engines.errors import Unable
from ..engines.words import say
from ..models import ApplicationHold, MaintenanceRun
from .context import Context, Done, Outcome


def run(ctx: Context) -> Outcome:
    """An application shared by several targets of the run is stopped by the first."""
    mine = configured(ctx)
    if not mine:
        return Outcome("finished", say("No applications are named for {database}.", database=ctx.target.database))
    if ctx.target.outage_started_at is None:
        ctx.change(outage_started_at=timezone.now())
    for application in mine:
        hold(ctx, application)
    return Outcome("finished", say("Stopped {names}.", names=", ".join(a.name for a in mine)))


def configured(ctx: Context) -> list[Application]:
    """The applications of this target in the order of stopping. Raises Unable for an unknown name."""
    unknown = [name for name in ctx.setting.applications if name not in ctx.config.applications]
    if unknown:
        raise Unable(
            "stopping the applications of",
            ctx.target.database,
            f"{', '.join(unknown)} not described in config.json; an administrator has to add it there",
        )
    return sorted((ctx.config.applications[n] for n in ctx.setting.applications), key=lambda a: (a.order, a.name))


def hold(ctx: Context, application: Application) -> None:
    """Remembers whether it ran, durably, before it is stopped."""
    held = ApplicationHold.objects.filter(target=ctx.target, name=application.name).first()
    if held is None:
        running = applications.is_running(application) or _held_by_others(ctx, application.name)
        held = ApplicationHold.objects.create(
            run=ctx.run, target=ctx.target, name=application.name, was_running=running
        )
    ctx.again(
        f"stop {application.name}",
        lambda: Done(applications.stop(application, ctx.engine.stopping)),
        {"application": application.name, "was_running": held.was_running},
    )


def _held_by_others(ctx: Context, name: str) -> bool:
    """Another target of this run stopped it already, and it ran before that."""
    return ApplicationHold.objects.filter(run=ctx.run, name=name, released_at=None, was_running=True).exists()


def let_go(ctx: Context) -> list[str]:
    """Starts, in reverse order, what no target of this run holds any longer; returns the names started.

    Raises EngineError when one does not start.
    """
    started: list[str] = []
    for application in reversed(configured(ctx)):
        with transaction.atomic():
            MaintenanceRun.objects.select_for_update().get(pk=ctx.run.pk)
            ApplicationHold.objects.filter(target=ctx.target, name=application.name, released_at=None).update(
                released_at=timezone.now()
            )
            holds = ApplicationHold.objects.filter(run=ctx.run, name=application.name)
            last = not holds.filter(released_at=None).exists()
            wanted = holds.filter(was_running=True).exists()
        if last and wanted:
            ctx.again(
                f"start {application.name}",
                lambda application=application: Done(applications.start(application, ctx.engine.stopping)),  # type: ignore[misc]
            )
            started.append(application.name)
    return started
