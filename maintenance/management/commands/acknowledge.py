"""Says that somebody is on a run that needs an operator; its reminders stop."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from django.core.management.base import CommandParser

from maintenance import terminal
from maintenance.requests import launch


class Command(terminal.PersonsCommand):
    needs = ("launch_maintenance",)
    help = "Acknowledges a run that needs an operator: nobody is reminded of it any more."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", help="its number (EM-2026-0147) or id (147)")

    def handle(self, *args: object, **options: Any) -> None:
        run = terminal.named(options["run"])
        if run is None:
            self.refuse(f"There is no maintenance {options['run']}.")
        try:
            launch.acknowledge(self.who, run)
        except launch.Refused as refusal:
            self.refuse(str(refusal))
        self.stdout.write(f"{run.number} is acknowledged.")

    def refuse(self, sentence: str) -> NoReturn:
        self.stderr.write(sentence)
        sys.exit(2)
