"""Last resort: opens a target again from its black box alone, with or without the control database."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import Error
from sqlalchemy.engine import make_url

from maintenance import applications, config, terminal
from maintenance.blackbox import BlackBox, link
from maintenance.engines import open_engine
from maintenance.engines.errors import EngineError
from maintenance.engines.values import Limits, Tag
from maintenance.secrets import SecretUnreadable, open_secret


class Command(BaseCommand):
    help = "Brings a target's connections and applications back to the state before, from the black box file alone."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--black-box", type=Path, help="the file, when DBMAINT_HOME does not lead to it")

    def handle(self, *args: Any, **options: Any) -> None:
        path = options["black_box"] or link(options["name"])
        if not path.exists():
            self.stderr.write(f"There is no black box {path}: no maintenance ever began on {options['name']}.")
            sys.exit(2)
        box = BlackBox(path.resolve())
        found = Remembered(box)
        busy = owner_at_work(found.target)
        if busy:
            self.stderr.write(f"{options['name']} is being worked on by {busy}; cancel the run instead.")
            sys.exit(4)
        try:
            found.release(self.stderr.write)
        except (EngineError, SecretUnreadable) as error:
            self.stderr.write(f"{options['name']} could not be released: {error}")
            sys.exit(3)
        box.write({"kind": "released", "by": terminal.actor().name})
        note_by_hand(found.target, terminal.actor().name)
        self.stdout.write(f"{options['name']} is open as before.")


class Remembered:
    """What the black box holds of the state before."""

    def __init__(self, box: BlackBox) -> None:
        self.url, self.sealed, self.target, self.token = "", "", 0, 0
        self.gate: dict[str, Any] | None = None
        self.running: list[str] = []
        for line in box.lines():
            self.take(line)

    def take(self, line: dict[str, Any]) -> None:
        self.token = max(self.token, int(line.get("token") or 0))
        match line:
            case {"kind": "opened", "url": url, "sealed_password": sealed, "target": target}:
                self.url, self.sealed, self.target = url, sealed, target
            case {"kind": "changed", "gate": gate} if gate:
                self.gate = gate
            case {"kind": "started", "before": {"application": name, "was_running": True}}:
                if name not in self.running:
                    self.running.append(name)

    def release(self, say: Any) -> None:
        """Raises EngineError; whatever was done stays done and may be repeated."""
        password = os.environ.get("DBMAINT_TARGET_PASSWORD") or (open_secret(self.sealed) if self.sealed else None)
        url = make_url(self.url)
        engine = open_engine(
            url.set(password=password) if password else url, Tag(self.target, self.token + 1), Limits()
        )
        try:
            if self.gate is None:
                say("Connections had not been cut.")
            else:
                engine.fence()
                engine.open_gate(self.gate, None)
                left = engine.gate_differences(self.gate)
                say("Connections are as before." if not left else f"Not as before: {'; '.join(left)}")
        finally:
            engine.close()
        known = config.load().applications
        for name in reversed(self.running):
            if name not in known:
                say(f"Start {name} by hand: config.json does not describe it any more.")
                continue
            say(applications.start(known[name], engine.stopping))


def owner_at_work(target_id: int) -> str | None:
    """The live worker of this target, if the control database can tell."""
    from maintenance.journal import worker_is_gone
    from maintenance.models import RunTarget, Status

    try:
        target = RunTarget.objects.filter(pk=target_id, status__in=[Status.RUNNING, Status.CANCELLING]).first()
    except Error:
        return None
    return target.worker if target is not None and not worker_is_gone(target.worker) else None


def note_by_hand(target_id: int, who: str) -> None:
    """Tells the control database, if it is there: nobody must take the target up again."""
    from maintenance import audit, ending, journal
    from maintenance.engines.words import say
    from maintenance.models import RunTarget, Status

    try:
        target = RunTarget.objects.filter(pk=target_id).first()
        if target is None:
            return
        audit.record(who, "target.released", f"{target.database} in run {target.run_id}")
        claimed = journal.claim(target_id)
        if claimed is not None:
            claimed.ended(Status.NEEDS_OPERATOR, say("Released by hand by {who} from the black box.", who=who))
            ending.conclude(target.run_id)
    except Error as error:
        sys.stderr.write(f"The control database was not told: {error}\n")
