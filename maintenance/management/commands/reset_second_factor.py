"""Removes a person's second factor: when the telephone and the recovery codes are lost."""

from __future__ import annotations

import sys
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandParser

from maintenance import terminal
from maintenance.identity.factors import remove


class Command(terminal.PersonsCommand):
    needs = ("change_user",)
    help = "Removes the second factor of a person who lost it. Make sure first that it is that person who asks."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: object, **options: Any) -> None:
        name = options["username"]
        user = User.objects.filter(username=name).first()
        if user is None:
            self.stderr.write(f"There is nobody called {name}.")
            sys.exit(2)
        if remove(user, self.who.name):
            self.stdout.write(f"The second factor is removed: {name} logs in with the password alone until it is new.")
        else:
            self.stdout.write(f"{name} has no second factor.")
