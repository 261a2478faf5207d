"""Takes up every run whose worker is gone, and ends it properly, in this process."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from maintenance import tasks, terminal
from maintenance.models import ACTIVE, MaintenanceRun, RunTarget, Status
from maintenance.notifications import delivery
from maintenance.results.outcome import outcome
from maintenance.workflow import conclusion, lease, runner


class Command(terminal.PersonsCommand):
    needs = ("launch_maintenance",)
    help = "Takes up every run whose worker is gone."
    # The others import every page, which costs an emergency half a second of processor time.
    requires_system_checks = ["queue"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true")

    def is_ours_again(self, target_id: int) -> bool:
        """The attempt failed before anything could be done, and its lease is this process's own."""
        target = RunTarget.objects.get(pk=target_id)
        if target.status not in ACTIVE or target.worker != lease.this_worker():
            return False
        RunTarget.objects.filter(pk=target_id, token=target.token).update(lease_until=None)
        return True

    def handle(self, *args: object, **options: Any) -> None:
        taken: list[int] = []
        for target in tasks.without_worker():
            self.stderr.write(f"Taking up {target.database} of run {target.run_id} at node {target.node}.")
            while not runner.advance(target.pk) and self.is_ours_again(target.pk):
                self.stderr.write(f"{target.database} could not be taken up; trying again.")
            taken.append(target.run_id)
        for run in MaintenanceRun.objects.filter(finished_at=None).exclude(status=Status.AWAITING_APPROVAL):
            if conclusion.conclude(run.pk):
                taken.append(run.pk)
        delivery.deliver_pending()
        runs = list(MaintenanceRun.objects.filter(pk__in=taken, finished_at__isnull=False).order_by("pk"))
        for run in runs:
            terminal.show_outcome(run)
        if options["json"]:
            terminal.write_json(self.stdout, {"recovered": [outcome(run) for run in runs]})
        if not runs:
            busy = RunTarget.objects.in_work().count()
            self.stderr.write(
                f"Nothing to recover; {busy} targets have a live worker." if busy else "Nothing to recover."
            )
        unfinished = MaintenanceRun.objects.filter(pk__in=taken, finished_at=None).exists()
        if unfinished:
            self.stderr.write("Not every run could be ended: see the log, mend the cause, and recover again.")
            sys.exit(3)
        sys.exit(max([terminal.exit_code(run.status) for run in runs], default=0))
