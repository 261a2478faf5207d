"""Last resort: opens a target again from its black box alone, with or without the control database."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

from django.core.management.base import CommandParser
from django.db import Error, connection, transaction
from django.utils import timezone
from sqlalchemy.engine import make_url

from maintenance import terminal
from maintenance.auditing import chain
from maintenance.conf import config
from maintenance.conf.secrets import SecretUnreadable, mark_signer
from maintenance.engines import open_engine
from maintenance.engines.base import Engine
from maintenance.engines.errors import EngineError, Transient, Unable
from maintenance.engines.messages import msg
from maintenance.engines.values import Limits, Tag
from maintenance.models import ACTIVE, RunTarget, Status
from maintenance.models.setting import with_password
from maintenance.workflow import applications, conclusion, journal
from maintenance.workflow.blackbox import BlackBox, link


class Busy(Exception):
    """A live worker has the target."""


class NotAsBefore(Exception):
    """Something of the state before could not be brought back."""


class Held(Exception):
    """Another maintenance has the target: nothing may be opened, nor started, behind its back."""


FAILURES = (EngineError, SecretUnreadable, config.ConfigError, LookupError, OSError)
"""What may go wrong with one part."""


class Command(terminal.PersonsCommand):
    needs = ("launch_maintenance",)
    help = "Brings a target's connections and applications back to the state before, from the black box file alone."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--black-box", type=Path, help="the file, when DBMAINT_HOME does not lead to it")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        path = options["black_box"] or link(name)
        if not os.path.exists(path):  # Path.exists raises for a name too long for a file
            self.stderr.write(f"There is no black box {path}: no maintenance ever began on {name}.")
            sys.exit(2)
        box = BlackBox(path.resolve())
        found = Remembered(box)
        if found.is_over and released_unseen(found, self.who.name):
            self.stdout.write(f"{name} was released at {found.released_at}; the control database knows it now.")
            return
        if found.is_over:
            self.stderr.write(f"The last maintenance of {name} ended {found.ended}; there is nothing to release.")
            sys.exit(2)
        try:
            with claimed(found, self.who.name) as token:
                found.release(token, self.stderr.write)
                box.write({"kind": "released", "by": self.who.name})
        except Busy as error:
            self.stderr.write(f"{name} is being worked on by {error}; cancel the run instead.")
            sys.exit(4)
        except (*FAILURES, Held, NotAsBefore) as error:
            self.stderr.write(f"{name} could not be released: {error}")
            sys.exit(3)
        self.stdout.write(f"{name} is open as before.")


class Remembered:
    """What the black box holds of the state before."""

    def __init__(self, box: BlackBox) -> None:
        self.url, self.sealed, self.target, self.token, self.site = "", "", 0, 0, ""
        self.gate: dict[str, Any] | None = None
        self.running: list[str] = []
        self.ended, self.released_at = "", ""
        for line in box.lines():
            self.take(line)

    @property
    def is_over(self) -> bool:
        """The maintenance brought service back itself; to open again could undo what was set since."""
        return self.ended not in ("", Status.NEEDS_OPERATOR)

    def take(self, line: dict[str, Any]) -> None:
        self.token = max(self.token, int(line.get("token") or 0))
        match line:
            case {"kind": "opened", "url": url, "sealed_password": sealed, "target": target}:
                self.url, self.sealed, self.target = url, sealed, target
                self.site = line.get("site", "")
            case {"kind": "changed", "gate": gate} | {"kind": "started", "part": "cut", "before": gate} if gate:
                self.gate = gate
            case {"kind": "started", "before": {"application": name, "was_running": True}}:
                if name not in self.running:
                    self.running.append(name)
            case {"kind": "ended", "status": status}:
                self.ended = status
            case {"kind": "released", "at": at}:
                self.ended, self.released_at = "released by hand", at

    def release(self, token: int, tell: Callable[[str], object]) -> None:
        """Try each part, past the failure of another: what was done stays done and may be repeated. Raises Held,
        before anything is done, or NotAsBefore with all that could not be brought back."""
        failed = [*self._open_connections(token, tell), *self._start_applications(tell)]
        if failed:
            raise NotAsBefore("; ".join(failed))

    def _open_connections(self, token: int, tell: Callable[[str], object]) -> list[str]:
        """Return what could not be opened, and why."""
        if self.gate is None:
            tell("Connections had not been cut.")
            return []
        try:
            with closing(self._engine(token)) as engine:
                engine.gate.recall(self.gate)
                fence(engine)
                engine.gate.open(self.gate, None)
                left = engine.gate.differences(self.gate)
        except FAILURES as error:
            return [str(error)]
        if not left:
            tell("Connections are as before.")
        return left

    def _engine(self, token: int) -> Engine:
        given, url = os.environ.get("DBMAINT_TARGET_PASSWORD"), make_url(self.url)
        url = with_password(url, "").set(password=given) if given else with_password(url, self.sealed)
        return open_engine(url, Tag(self.target, token, self.site, mark_signer()), Limits())

    def _start_applications(self, tell: Callable[[str], object]) -> list[str]:
        """Return what could not be started, and why."""
        if not self.running:
            return []
        try:
            known = config.load().applications
        except FAILURES as error:
            return [f"start {', '.join(self.running)} by hand: {error}"]
        failed: list[str] = []
        for name in reversed(self.running):
            if name not in known:
                failed.append(f"start {name} by hand: config.json does not describe it any more")
                continue
            try:
                tell(applications.start(known[name], Event()))
            except EngineError as error:
                failed.append(str(error))
        return failed


def fence(engine: Engine) -> None:
    """Take the maintenance lock. Raises Held where another maintenance has it: its cut is not ours to open."""
    try:
        engine.lock.fence()
    except (Transient, Unable) as error:
        raise Held(str(error)) from error


@contextmanager
def claimed(found: Remembered, who: str) -> Iterator[int]:
    """The fencing token to act with. Where the control database answers, the run is claimed first, so that no
    worker takes it up meanwhile, and ended afterwards, so that none takes it up later. Raises Busy."""
    try:
        connection.ensure_connection()
        target = RunTarget.objects.filter(pk=found.target).first()
    except Error as error:
        sys.stderr.write(f"The control database does not answer, going on without it: {error}\n")
        target = None
    if target is None:
        yield found.token + 1
        return
    if target.status in ACTIVE:
        mine = journal.claim(target.pk)
        if mine is None:
            raise Busy(target.worker)
        with mine.beating():
            yield mine.token
        mine.ended(
            Status.NEEDS_OPERATOR,
            msg("Released by hand by {who} from the black box.", who=who),
            outage_ended_at=timezone.now(),
            released_at=timezone.now(),
        )
        conclusion.conclude(target.run_id)
        chain.record(who, "target.released", f"{target.database} in run {target.run_id}")
    else:
        yield max(found.token, target.token) + 1
        open_since(target, timezone.now(), who)


def open_since(target: RunTarget, at: datetime, who: str) -> None:
    """The outage that outlived its run is over."""
    with transaction.atomic():
        RunTarget.objects.filter(pk=target.pk, outage_ended_at=None).update(outage_ended_at=at)
        RunTarget.objects.filter(pk=target.pk).update(released_at=at)
        if target.run.finished_at is not None:
            conclusion.recount(target.run)
        chain.record(who, "target.released", f"{target.database} in run {target.run_id}")


def released_unseen(found: Remembered, who: str) -> bool:
    """Tells the control database of a release while it did not answer: it would refuse the database for ever."""
    try:
        waiting = RunTarget.objects.filter(pk=found.target, status=Status.NEEDS_OPERATOR, outage_ended_at=None)
        target = waiting.first() if found.released_at else None
    except Error:
        return False
    if target is None:
        return False
    open_since(target, datetime.fromisoformat(found.released_at), who)
    return True
