"""Lets a person try again at once who typed a wrong password too often."""

from __future__ import annotations

import sys
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandParser
from django.db import transaction

from maintenance import terminal
from maintenance.auditing import chain
from maintenance.identity import throttle


class Command(terminal.PersonsCommand):
    help = "Ends the waiting time of a person after too many wrong passwords or codes."
    needs = ("change_user",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: object, **options: Any) -> None:
        name = options["username"]
        if not User.objects.filter(username=name).exists():
            self.stderr.write(f"There is nobody called {name}.")
            sys.exit(2)
        with transaction.atomic():
            throttle.unlock(name)
            chain.record(self.who.name, "login.unlocked", name)
        self.stdout.write(f"{name} may try again.")
