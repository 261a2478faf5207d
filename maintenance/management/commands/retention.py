"""Removes what is older than its setting allows, and says what went. A worker does the same once a day."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from maintenance import retention, terminal


class Command(terminal.PersonsCommand):
    needs = ("delete_maintenancerun",)
    help = "Removes old backups, measurements, records and audit entries, as the settings say."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only says what would go")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: object, **options: Any) -> None:
        found = retention.remove(self.who.name, options["dry_run"])
        if options["json"]:
            terminal.write_json(self.stdout, asdict(found))
        else:
            for path in found.backups:
                self.stdout.write(f"backup {path}")
            for number in found.performance:
                self.stdout.write(f"measurements of {number}")
            for number in found.records:
                self.stdout.write(f"run {number}")
            self.stdout.write(str(found))
        for problem in found.problems:
            self.stderr.write(problem)
        sys.exit(1 if found.problems else 0)
