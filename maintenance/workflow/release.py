"""Last resort: opens a target again from its black box alone, with or without the control database."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

from django.db import Error, connection, transaction
from django.utils import timezone
from sqlalchemy.engine import make_url

from maintenance.auditing import chain
from maintenance.conf import config
from maintenance.conf.secrets import SecretUnreadable, mark_signer
from maintenance.engines import open_engine
from maintenance.engines.base import Engine
from maintenance.engines.errors import EngineError, Transient, Unable
from maintenance.engines.messages import Message, msg
from maintenance.engines.values import Limits, Tag
from maintenance.models import ACTIVE, ReleaseRequest, RunTarget, Status
from maintenance.models.setting import with_password

from . import applications, conclusion, journal
from .blackbox import BlackBox, link
from .signals import target_released

log = logging.getLogger("maintenance")


class Busy(Exception):
    """A live worker has the target."""


class NotAsBefore(Exception):
    """Something of the state before could not be brought back."""


class Held(Exception):
    """Another maintenance has the target: nothing may be opened, nor started, behind its back."""


FAILURES = (EngineError, SecretUnreadable, config.ConfigError, LookupError, OSError)
"""What may go wrong with one part."""


def carry_out(request_id: int) -> None:
    """A worker's part of a release that a person asked for on a page. Done twice it opens what is open already.

    Raises NotAsBefore.
    """
    asked = ReleaseRequest.objects.select_related("target").filter(pk=request_id, finished_at=None).first()
    if asked is None:
        return
    failed: Message | str = msg("it broke off; the log of the worker says where")
    path = link(asked.target.database)
    try:
        found = Remembered(BlackBox(path.resolve()))
        if found.is_over or found.target != asked.target_id:
            raise NotAsBefore("its last maintenance has ended, there is nothing to release")
        release_by_box(path, asked.by_name, lambda said: log.info("%s", said))
        failed = ""
    except (Busy, Held, NotAsBefore, *FAILURES) as error:
        failed = error.sentence if isinstance(error, EngineError) else msg("{text}", text=str(error))
    finally:
        asked.finished_at, asked.failed = timezone.now(), failed
        asked.save()


def release_by_box(path: Path, who: str, tell: Callable[[str], object]) -> None:
    """Open connections and start applications as the black box remembers them. Raises Busy, Held, NotAsBefore or what
    is in FAILURES; what was done until then stays done."""
    box = BlackBox(path.resolve())
    found = Remembered(box)
    with claimed(found, who, tell) as token:
        found.release(token, tell)
        box.write({"kind": "released", "by": who})


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
def claimed(found: Remembered, who: str, tell: Callable[[str], object]) -> Iterator[int]:
    """The fencing token to act with. Where the control database answers, the run is claimed first, so that no
    worker takes it up meanwhile, and ended afterwards, so that none takes it up later. Raises Busy."""
    try:
        connection.ensure_connection()
        target = RunTarget.objects.filter(pk=found.target).first()
    except Error as error:
        tell(f"The control database does not answer, going on without it: {error}")
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
    target_released.send(RunTarget, target=target, who=who)


def released_unseen(found: Remembered, who: str) -> bool:
    """Tell the control database of a release while it did not answer: it would refuse the database for ever."""
    try:
        waiting = RunTarget.objects.filter(pk=found.target, status=Status.NEEDS_OPERATOR, outage_ended_at=None)
        target = waiting.first() if found.released_at else None
    except Error:
        return False
    if target is None:
        return False
    open_since(target, datetime.fromisoformat(found.released_at), who)
    return True
