"""Creates a token for the API, and shows it this one time."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any, NoReturn

from django.contrib.auth.models import User
from django.core.management.base import CommandParser

from maintenance import terminal
from maintenance.api import tokens
from maintenance.models import ApiToken

LONGEST = 3650


class Command(terminal.PersonsCommand):
    needs = ("launch_maintenance", "view_maintenancerun")
    help = "Creates a bearer token that acts in a person's name. It is shown once; only its SHA-256 is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="whose permissions it has")
        parser.add_argument("name", help="what it is for")
        parser.add_argument(
            "--scope", action="append", choices=ApiToken.Scope.values, help="once for each; default: read"
        )
        parser.add_argument("--days", type=int, default=90, help="until it expires; default: 90")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: object, **options: Any) -> None:
        user = User.objects.filter(username=options["user"], is_active=True).first()
        if user is None:
            self.refuse(f"There is no person {options['user']} who may log in.")
        if self.who.user is not None and self.who.user != user and not self.who.user.is_superuser:
            self.stderr.write(f"{self.who.name} may make tokens of their own only.")
            sys.exit(4)
        if not 1 <= options["days"] <= LONGEST:
            self.refuse(f"--days is {options['days']}; it is 1 to {LONGEST}.")
        if not 1 <= len(options["name"]) <= 100:
            self.refuse("The name has 1 to 100 characters.")
        scopes = list(dict.fromkeys(options["scope"] or [ApiToken.Scope.READ.value]))
        by = self.who.name
        try:
            plain, token = tokens.issue(user, options["name"], scopes, timedelta(days=options["days"]), by)
        except tokens.NeedsFactor as why:
            self.refuse(str(why))
        expires = token.expires_at.isoformat(timespec="seconds")
        if options["json"]:
            told = {"token": plain, "user": user.username, "name": token.name, "scopes": scopes, "expires_at": expires}
            terminal.write_json(self.stdout, told)
            return
        self.stderr.write(f"Keep it now, it is not shown again. Scopes: {', '.join(scopes)}; expires {expires}.")
        self.stdout.write(plain)

    def refuse(self, sentence: str) -> NoReturn:
        self.stderr.write(sentence)
        sys.exit(2)
