"""Opens a target again from its black box alone, with or without the control database."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from maintenance import terminal
from maintenance.workflow.blackbox import BlackBox, link
from maintenance.workflow.release import (
    FAILURES,
    Busy,
    Held,
    NotAsBefore,
    Remembered,
    release_by_box,
    released_unseen,
)


class Command(terminal.PersonsCommand):
    needs = ("launch_maintenance",)
    help = "Brings a target's connections and applications back to the state before, from the black box file alone."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--black-box", type=Path, help="the file, when DBMAINT_HOME does not lead to it")

    def handle(self, *args: object, **options: Any) -> None:
        name = options["name"]
        path = options["black_box"] or link(name)
        if not os.path.exists(path):  # Path.exists raises for a name too long for a file
            self.stderr.write(f"There is no black box {path}: no maintenance ever began on {name}.")
            sys.exit(2)
        found = Remembered(BlackBox(path.resolve()))
        if found.is_over and released_unseen(found, self.who.name):
            self.stdout.write(f"{name} was released at {found.released_at}; the control database knows it now.")
            return
        if found.is_over:
            self.stderr.write(f"The last maintenance of {name} ended {found.ended}; there is nothing to release.")
            sys.exit(2)
        try:
            release_by_box(path, self.who.name, self.stderr.write)
        except Busy as error:
            self.stderr.write(f"{name} is being worked on by {error}; cancel the run instead.")
            sys.exit(4)
        except (*FAILURES, Held, NotAsBefore) as error:
            self.stderr.write(f"{name} could not be released: {error}")
            sys.exit(3)
        self.stdout.write(f"{name} is open as before.")
