"""A second person's no from the command line: the same door as the page and the API."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from maintenance import terminal
from maintenance.requests import launch


class Command(terminal.PersonsCommand):
    needs = ("approve_maintenance",)
    help = "Rejects a run that waits for an approval; whoever asked is told why."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", help="its number (EM-2026-0147) or id (147)")
        parser.add_argument("--comment", required=True, help="what would have to be otherwise")

    def handle(self, *args: object, **options: Any) -> None:
        run = terminal.named(options["run"])
        if run is None:
            self.stderr.write(f"There is no maintenance {options['run']}.")
            sys.exit(2)
        try:
            launch.reject(self.who, run, options["comment"])
        except launch.BadInput as refusal:
            self.stderr.write(str(refusal))
            sys.exit(2)
        except launch.Refused as refusal:
            self.stderr.write(str(refusal))
            sys.exit(4)
        self.stdout.write(f"{run.number} is rejected.")
