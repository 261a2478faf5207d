"""Goes on after the audit chain was found broken: with a reason, and never unseen."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from maintenance import terminal
from maintenance.auditing import chain
from maintenance.auditing.keys import KeyUnreadable


class Command(terminal.PersonsCommand):
    needs = ("verify_audit",)
    help = (
        "Accepts a broken audit chain as it is: after its cause was found, after the control database was restored "
        "on purpose, or where a further host begins its own file of checkpoints. The reason stands in the chain."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", required=True, help="what happened, and who looked into it")

    def handle(self, *args: object, **options: Any) -> None:
        if not options["reason"].strip():
            self.stderr.write("A reason is required.")
            sys.exit(2)
        try:
            problem = chain.accept(self.who.name, options["reason"].strip())
        except (OSError, KeyUnreadable) as error:
            self.stderr.write(f"Nothing was changed: {error}")
            sys.exit(1)
        if not problem:
            self.stdout.write("The audit chain is whole; there is nothing to accept.")
            return
        self.stdout.write(f"Accepted, and said so in the chain: {problem}. What follows is signed anew.")
