"""Cancels a run from the command line: the same door as the page and the API."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from maintenance import terminal
from maintenance.requests import launch


class Command(terminal.PersonsCommand):
    needs = ("cancel_maintenance",)
    help = "Cancels a run; its worker ends the statement in hand and brings service back."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", help="the run's number, e.g. EM-2026-0147 or 147")

    def handle(self, *args: object, **options: Any) -> None:
        run = terminal.named(options["run"])
        if run is None:
            self.stderr.write(f"There is no run {options['run']}.")
            sys.exit(2)
        try:
            launch.cancel(self.who, run)
        except launch.BadInput as error:
            self.stderr.write(str(error))
            sys.exit(2)
        except launch.Refused as error:
            self.stderr.write(str(error))
            sys.exit(4)
        self.stdout.write(f"{run.number} is being cancelled.")
