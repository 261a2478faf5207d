"""Adds or updates a row of TBL-098."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser
from django.db import transaction

from maintenance import terminal
from maintenance.auditing import chain
from maintenance.engines import ENGINES
from maintenance.models import MaintenanceSetting
from maintenance.requests.rule import settle_rule


class Command(terminal.PersonsCommand):
    needs = ("add_maintenancesetting", "change_maintenancesetting")
    help = "Registers a target database: name, SQLAlchemy URL and backup folders."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument(
            "url", help="postgresql://user@host:port/db, mysql://… or sqlite:////abs/path; '-' reads it from stdin"
        )
        parser.add_argument("--backup-dir", help="default: DBMAINT_HOME/backups/NAME")
        parser.add_argument("--alternate-backup-dir", default=None)
        parser.add_argument(
            "--set", action="append", default=[], metavar="FIELD=VALUE", help="any other field of TBL-098"
        )
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: object, **options: Any) -> None:
        name = options["name"]
        url = sys.stdin.readline().strip() if options["url"] == "-" else options["url"]
        setting = MaintenanceSetting.objects.filter(name=name).first() or MaintenanceSetting(name=name)
        before = described(setting) if setting.pk else None
        setting.url = url
        if options["backup_dir"] or not setting.backup_dir:
            setting.backup_dir = str(Path(options["backup_dir"] or Path(settings.HOME) / "backups" / name).absolute())
        if options["alternate_backup_dir"] is not None:
            alternate = options["alternate_backup_dir"]
            setting.alternate_backup_dir = str(Path(alternate).absolute()) if alternate else ""
        try:
            for pair in options["set"]:
                assign(setting, pair)
            setting.full_clean()
            if setting.engine_url.get_backend_name() not in ENGINES:
                raise ValidationError({"url": f"Use one of: {', '.join(sorted(ENGINES))}."})
        except ValidationError as error:
            for field, messages in error.message_dict.items():
                self.stderr.write(f"{field}: {' '.join(messages)}")
            sys.exit(2)
        with transaction.atomic():
            waits = settle_rule(setting, self.who)
            setting.save()
            chain.record(self.who.name, "setting.registered", name, before, described(setting))
        if options["json"]:
            terminal.write_json(self.stdout, described(setting))
        else:
            self.stdout.write(f"Registered {name}: {setting.url}, backups in {setting.backup_dir}.")
        if waits:
            self.stderr.write("The weaker rule of approval waits until a second person asks for the same.")
            sys.exit(4)


def assign(setting: MaintenanceSetting, pair: str) -> None:
    """FIELD=VALUE, with the value as the field reads it (JSON for lists)."""
    name, _, value = pair.partition("=")
    known = {f.name: f for f in MaintenanceSetting._meta.fields if f.editable and f.name not in ("id", "name", "url")}
    if name not in known:
        raise ValidationError({name or pair: f"There is no such setting; known are {', '.join(sorted(known))}."})
    try:
        is_list = known[name].get_internal_type() == "JSONField"
        setattr(setting, name, json.loads(value) if is_list else known[name].to_python(value))
    except ValidationError as error:
        raise ValidationError({name: error.messages}) from error
    except ValueError as error:
        raise ValidationError({name: f"This is not JSON: {error}"}) from error


def described(setting: MaintenanceSetting) -> dict[str, Any]:
    """Everything but the password, as JSON types."""
    hidden = {"id", "sealed_password", "proposed_rule", "created_at", "updated_at"}
    told = {f.name: getattr(setting, f.name) for f in MaintenanceSetting._meta.fields if f.name not in hidden}
    return {**told, "password_set": bool(setting.sealed_password)}
