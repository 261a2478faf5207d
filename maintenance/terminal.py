"""What the command line shows: progress while it lasts, one table at the end. On stderr; JSON has stdout alone."""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, OutputWrapper
from django.db import Error
from django.utils import timezone
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .conf import config
from .conf.config import ConfigError
from .conf.control_database import wait_for_control_database
from .engines.messages import msg, size
from .models import ENDED, MaintenanceRun, RunTarget, Status, StepRecord
from .requests.launch import Actor, NotPermitted
from .results.outcome import outcome
from .results.sizes import of_objects

MARKS = {"started": "▶", "finished": "✓", "failed": "✕", "interrupted": "■", "undone": "↺"}
EXIT = {Status.SUCCEEDED: 0, Status.NEEDS_OPERATOR: 3}
"""Everything else ends with 1; 2 is bad input and 4 refused."""


ALMIGHTY = "db_admin"
"""The account that may do everything, as root may."""


class PersonsCommand(BaseCommand):
    """A command of people: refused with 4 unless the account of its user id is that of somebody who may run it."""

    needs: ClassVar[tuple[str, ...]]
    """Permissions of `maintenance`, of which one is enough."""

    def execute(self, *args: object, **options: Any) -> str | None:
        try:
            self.who = actor()
            if not any(self.who.may(permission) for permission in self.needs):
                raise NotPermitted(
                    msg("{who} has none of the permissions: {names}.", who=self.who.name, names=", ".join(self.needs))
                )
        except NotPermitted as refusal:
            self.stderr.write(str(refusal))
            sys.exit(4)
        except ConfigError as error:
            self.stderr.write(str(error))
            sys.exit(2)
        return super().execute(*args, **options)


def account() -> str:
    """The operating system's name for the real user id of this process, whatever its environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def actor() -> Actor:
    """Who runs this command: root and db_admin as such, anybody else as the user that config.json names for them.

    Raises NotPermitted when it names nobody, ConfigError when it cannot be read.
    """
    name = account()
    if os.getuid() == 0 or name == ALMIGHTY:
        return Actor(name=f"{name} (command line)", origin="command")
    username = config.load().command_line_users.get(name)
    try:
        user = User.objects.filter(username=username, is_active=True).first() if username else None
    except Error as error:
        raise NotPermitted(
            msg("The control database does not answer; without it only root and db_admin may do this.")
        ) from error
    if user is None:
        raise NotPermitted(
            msg(
                "config.json names no user of the console for the account {account} (command_line_users).", account=name
            )
        )
    return Actor(name=user.get_username(), origin="command", user=user)


def named(text: str) -> MaintenanceRun | None:
    """The run that a person typed, by number (EM-2026-0147) or id (147); None when there is no such run."""
    number = re.fullmatch(r"(?:EM-\d{4}-)?0*(\d{1,18})", text, re.ASCII)
    run = MaintenanceRun.objects.filter(pk=number[1]).first() if number else None
    return None if run is None or (text.startswith("EM") and text != run.number) else run


def exit_code(status: str) -> int:
    return EXIT.get(Status(status), 1)


def write_json(stdout: OutputWrapper, value: object) -> None:
    stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def follow(run_id: int, working: Callable[[], bool] = lambda: True) -> MaintenanceRun:
    """Shows the run until it has ended, or until `working` says that nobody works on it any more."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            while not _over(run_id) and working():
                live.update(_picture(run_id))
                time.sleep(0.25)
    else:
        shown = 0
        while True:
            over = _over(run_id) or not working()
            shown = _new_lines(run_id, shown)
            if over:
                break
            time.sleep(0.25)
    return found(run_id)


@wait_for_control_database
def found(run_id: int) -> MaintenanceRun:
    """The run as it is now."""
    return MaintenanceRun.objects.get(pk=run_id)


@wait_for_control_database
def _over(run_id: int) -> bool:
    return MaintenanceRun.objects.filter(pk=run_id, finished_at__isnull=False).exists()


@wait_for_control_database
def _new_lines(run_id: int, shown: int) -> int:
    """Plain lines for a log file: every journal line once, when it is closed."""
    lines = StepRecord.objects.filter(target__run_id=run_id, finished_at__isnull=False).order_by("finished_at")
    for line in lines[shown:].select_related("target"):
        mark = MARKS.get(line.state, "·")
        print(
            f"{timezone.localtime(line.finished_at):%H:%M:%S} {line.target.database:12} {mark} {line.sentence}",
            file=sys.stderr,
        )
        shown += 1
    return shown


@wait_for_control_database
def _picture(run_id: int) -> RenderableType:
    targets = RunTarget.objects.filter(run_id=run_id)
    table = Table(box=None, pad_edge=False)
    for heading in ("database", "step", "work", "left", "outage", "now"):
        table.add_column(heading)
    for target in targets:
        share = target.progress.get("share")
        bar = f"{share:4.0%} {'━' * int(share * 20):20}" if share is not None else ""
        left = target.progress.get("left_seconds")
        still = f"about {left:.0f} s" if left is not None else ""
        line = target.steps.order_by("-id").first()
        outage = f"{target.outage_seconds:.1f} s" if target.outage_started_at else ""
        done = target.status in ENDED
        now = target.ended_because if done else (line.sentence or f"{line.step} {line.part}") if line else "queued"
        table.add_row(target.database, target.status if done else (line.step if line else ""), bar, still, outage, now)
    return Group(table, Text("Ctrl-C leaves the display; the worker goes on.", style="dim"))


def show_outcome(run: MaintenanceRun) -> None:
    """Rows proven equal, sizes and times before and after, outage, files."""
    console = Console(stderr=True)
    if not console.is_terminal:
        console = Console(stderr=True, width=160)
    told = outcome(run)
    table = Table(title=f"{run.number} {run.maintenance_type}: {run.status}")
    for heading in ("database", "status", "rows proven equal", "size", "queries", "outage", "backup"):
        table.add_column(heading, overflow="fold")
    for target in told["targets"]:
        table.add_row(
            target["database"],
            target["status"],
            _rows(target),
            _sizes(target),
            _times(target),
            f"{target['outage_seconds']:.1f} s",
            "\n".join(f"{b['method']} {size(b['bytes'])}" for b in target["backup_files"] if b["verified"]),
        )
    console.print(table)
    for target in told["targets"]:
        if target["ended_because"]:
            console.print(f"{target['database']}: {target['ended_because']}", highlight=False)
    console.print(f"Report:      {run.report_pdf or 'not made'}", soft_wrap=True, highlight=False)
    console.print(f"Performance: {run.performance_csv or 'not made'}", soft_wrap=True, highlight=False)


def _rows(target: dict[str, Any]) -> str:
    proof = target["integrity"]
    if proof is None:
        return "not proven"
    equal = [t for t in proof["tables"] if t["fingerprint_equal"]]
    return f"{sum(t['rows_after'] or 0 for t in equal):,} in {len(equal)} of {len(proof['tables'])} tables"


def _sizes(target: dict[str, Any]) -> str:
    done = [a for a in target["actions"] if a["bytes_before"] is not None and a["bytes_after"] is not None]
    known = of_objects((a["object"], a["bytes_before"], a["bytes_after"]) for a in done)
    return "–" if known is None else f"{size(known[0])} → {size(known[1])}"


def _times(target: dict[str, Any]) -> str:
    return "–" if target["benchmark_told"] is None else str(target["benchmark_told"])
