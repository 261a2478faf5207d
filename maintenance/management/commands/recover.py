"""Takes up every run whose worker is gone, and ends it properly, in this process."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from maintenance import ending, notify, procedure, tasks, terminal
from maintenance.models import MaintenanceRun, RunTarget, Status
from reports.outcome import outcome


class Command(BaseCommand):
    help = "Takes up every run whose worker is gone."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        taken: list[int] = []
        for target in tasks.without_worker(alone=tasks.workers_alive() == 0):
            self.stderr.write(f"Taking up {target.database} of run {target.run_id} at node {target.node}.")
            if procedure.advance(target.pk):
                taken.append(target.run_id)
        for run in MaintenanceRun.objects.filter(finished_at=None).exclude(status=Status.AWAITING_APPROVAL):
            if ending.conclude(run.pk):
                taken.append(run.pk)
        notify.deliver_pending()
        runs = list(MaintenanceRun.objects.filter(pk__in=taken).order_by("pk"))
        for run in runs:
            terminal.show_outcome(run)
        if options["json"]:
            terminal.write_json(self.stdout, {"recovered": [outcome(run) for run in runs]})
        if not runs:
            busy = RunTarget.objects.filter(status__in=[Status.RUNNING, Status.CANCELLING]).count()
            self.stderr.write(
                f"Nothing to recover; {busy} targets have a live worker." if busy else "Nothing to recover."
            )
        sys.exit(max([terminal.exit_code(run.status) for run in runs], default=0))
