"""Makes the report of a run again: after a full disk, or in another language."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from maintenance import terminal
from maintenance.models import MaintenanceRun
from reports import write


class Command(terminal.PersonsCommand):
    needs = ("view_maintenancerun", "read_reports")
    help = "Makes the PDF and the CSV of a run again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", help="id or number, e.g. EM-2026-0147")
        parser.add_argument("--language", choices=[code for code, _ in settings.LANGUAGES])
        parser.add_argument("--no-bom", action="store_true", help="CSV without a byte order mark")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: object, **options: Any) -> None:
        run = self.found(options["run"])
        try:
            path = write.make_again(run, self.who.name, options["language"], False if options["no_bom"] else None)
        except Exception as error:
            self.stderr.write(f"The report of {run.number} could not be made: {error}")
            sys.exit(1)
        if options["json"]:
            told = {"id": str(run.pk), "number": run.number, "pdf": str(path), "csv": run.performance_csv or None}
            terminal.write_json(self.stdout, told)
        else:
            self.stdout.write(str(path))

    def found(self, named: str) -> MaintenanceRun:
        """Ends with 2 unless there is such a run and it has ended."""
        run = terminal.named(named)
        if run is None:
            self.stderr.write(f"There is no run {named}.")
            sys.exit(2)
        if run.finished_at is None:
            self.stderr.write(f"{run.number} has not ended; its report is made at the end.")
            sys.exit(2)
        if run.performance_removed_at and Path(run.report_pdf).is_file():
            self.stderr.write(
                f"The measurements of {run.number} were removed on {run.performance_removed_at:%Y-%m-%d}; "
                f"the report from before is {run.report_pdf}."
            )
            sys.exit(2)
        return run
