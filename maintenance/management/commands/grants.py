"""Prints the statements that give the console's account what it needs on one target."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from maintenance import terminal
from maintenance.engines.errors import EngineError
from maintenance.engines.values import Grant
from maintenance.models import MaintenanceSetting
from maintenance.observation import privileges


class Command(terminal.PersonsCommand):
    needs = ("change_maintenancesetting",)
    help = "Prints the GRANT statements that a registered database's account needs, as SQL with comments."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--role", help="an account other than the registered one, e.g. db_admin, there or not yet")
        parser.add_argument("--missing", action="store_true", help="only what is not given yet")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: object, **options: Any) -> None:
        setting = MaintenanceSetting.objects.filter(name=options["name"]).first()
        if setting is None:
            known = ", ".join(MaintenanceSetting.objects.values_list("name", flat=True)) or "none"
            self.stderr.write(f"There is no database {options['name']}; registered are: {known}.")
            sys.exit(2)
        try:
            grants = privileges.needed(setting, options["role"])
        except EngineError as error:
            self.stderr.write(str(error))
            sys.exit(1)
        shown = [grant for grant in grants if not (options["missing"] and grant.given)]
        if options["json"]:
            told = {"database": setting.name, "role": options["role"], "grants": [described(grant) for grant in shown]}
            terminal.write_json(self.stdout, told)
        else:
            self.stdout.write("\n".join(script(setting.name, shown, bool(grants))))


def described(grant: Grant) -> dict[str, Any]:
    return {
        "statement": grant.statement or None,
        "where": grant.where or None,
        "purpose": str(grant.purpose),
        "given": grant.given,
        "severity": grant.severity,
    }


def script(name: str, grants: list[Grant], any_needed: bool) -> list[str]:
    """To be run by an administrator's psql or mysql: statements that are needed, what each is for, in its database."""
    if not any_needed:
        return [f"-- {name}: the account may do everything; name another one with --role to see what that needs."]
    lines, entered = [f"-- {name}"], ""
    for grant in grants:
        lines += commented(f"{grant.purpose}{' (given)' if grant.given else ''}.")
        if grant.given and grant.statement:
            lines += commented(f"{grant.statement};")
        elif grant.statement:
            if grant.enter not in ("", entered):
                entered = grant.enter
                lines.append(entered)
            lines.append(f"{grant.statement};")
    return lines


def commented(text: str) -> list[str]:
    """Names may hold line breaks, and nothing of them may be run."""
    return [f"-- {line}" for line in text.splitlines()]
