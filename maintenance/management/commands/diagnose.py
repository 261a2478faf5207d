"""Looks at one database, read-only, and writes what it found to TBL-097."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from maintenance import terminal
from maintenance.models import DatabaseState, MaintenanceSetting
from maintenance.observation import watch


class Command(terminal.PersonsCommand):
    needs = ("launch_maintenance",)
    help = "Diagnoses a registered database."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: object, **options: Any) -> None:
        setting = MaintenanceSetting.objects.filter(name=options["name"]).first()
        if setting is None:
            known = ", ".join(MaintenanceSetting.objects.values_list("name", flat=True)) or "none"
            self.stderr.write(f"There is no database {options['name']}; registered are: {known}.")
            sys.exit(2)
        state = watch.look(setting.pk, DatabaseState.Source.DIAGNOSIS)
        if options["json"]:
            terminal.write_json(
                self.stdout,
                {
                    "database": setting.name,
                    "state": state.state,
                    "health": state.health,
                    "version": state.version,
                    "size_bytes": state.size_bytes,
                    "free_bytes": state.free_bytes,
                    "connections": state.connections,
                    "findings": state.findings,
                    "tables": state.tables,
                    "error": state.error or None,
                    "measured_at": state.measured_at.isoformat(),
                },
            )
        else:
            self.stdout.write(f"{setting.name}: {state.state}, health {state.health}, {state.version}")
            for f in state.findings:
                why = " ".join(f"{part.rstrip('.')}." for part in (f["evidence"], f["hint"]))
                self.stdout.write(f"  {f['severity']:8} {f['code']:24} {f['object']}: {why}")
        if state.error:
            self.stderr.write(state.error)
            sys.exit(1)
