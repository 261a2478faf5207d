"""The production check list that `manage.py check --deploy` enforces, beside Django's own."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning, register
from django.db import DatabaseError

from maintenance.checks.accounts import accounts
from maintenance.conf import config
from maintenance.models import MaintenanceSetting

Found = Iterator[CheckMessage]


@register(deploy=True)
def production(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """Of an installation: one that has a DBMAINT_HOME of its own. A source tree has nothing to check yet."""
    if Path(settings.HOME) == settings.BASE_DIR / "var":
        return [
            Info(
                "DBMAINT_HOME is not set: this is no installation, its check list was not gone through.",
                id="maintenance.I120",
            )
        ]
    return [message for look in LIST for message in look()]


def config_file() -> Found:
    path = Path(settings.CONFIG_FILE)
    if not path.exists():
        yield Error(f"{path} is not there.", hint="Copy deploy/config.json and change it.", id="maintenance.E121")
        return
    if path.stat().st_uid != 0:
        yield Error(f"{path} does not belong to root.", hint=f"chown root:db_maintenance {path}", id="maintenance.E122")
    if path.parent.stat().st_mode & stat.S_IWOTH:
        yield Error(f"Everybody may write in {path.parent}.", hint=f"chmod 755 {path.parent}", id="maintenance.E123")


def encryption() -> Found:
    try:
        seal = config.load().seal
    except config.ConfigError:
        return  # told by the check of the configuration
    if not seal.recipients:
        yield Error(
            "encryption.recipients is empty: backups would be readable for whoever gets the file.",
            hint="age-keygen -o /etc/db-maintenance/age.key; its public key goes into config.json.",
            id="maintenance.E124",
        )
    elif seal.identity_file is None:
        yield Error(
            "encryption.identity_file is missing: no backup could be read back, so none would count.",
            id="maintenance.E125",
        )
    elif not seal.identity_file.exists():
        yield Error(f"encryption.identity_file: {seal.identity_file} is not there.", id="maintenance.E125")
    elif seal.identity_file.stat().st_mode & 0o007:
        yield Error(
            f"Everybody may read {seal.identity_file}.",
            hint=f"chown root:db_admin {seal.identity_file}; chmod 640 {seal.identity_file}",
            id="maintenance.E126",
        )


def home() -> Found:
    folder = Path(settings.HOME)
    if folder.stat().st_mode & 0o007:
        yield Error(f"Everybody may look into {folder}.", hint=f"chmod o-rwx {folder}", id="maintenance.E127")


def web() -> Found:
    if not settings.SECURE:
        yield Error("DBMAINT_INSECURE is 1: logins travel unencrypted.", id="maintenance.E128")
    if not settings.SECOND_FACTOR_REQUIRED:
        yield Error("DBMAINT_SECOND_FACTOR is not required.", id="maintenance.E129")
    if settings.DEBUG:
        yield Error("DBMAINT_DEBUG is 1: error pages would show what is inside.", id="maintenance.E130")
    site = urlsplit(settings.SITE_URL)
    if site.scheme != "https":
        yield Warning(
            f"DBMAINT_SITE_URL is {settings.SITE_URL}: links in messages lead nowhere, or through plain http.",
            hint="https://… as people reach the console.",
            id="maintenance.W131",
        )
    elif site.hostname not in settings.ALLOWED_HOSTS:
        yield Warning(
            f"DBMAINT_ALLOWED_HOSTS does not have {site.hostname} of DBMAINT_SITE_URL: pages would be refused.",
            id="maintenance.W132",
        )


def audit_chain() -> Found:
    control = settings.DATABASES["default"]
    if control["ENGINE"].endswith("sqlite3"):
        folder = Path(str(control["NAME"])).resolve().parent
        for name, path in (("DBMAINT_AUDIT_KEY", settings.AUDIT_KEY), ("DBMAINT_AUDIT_FILE", settings.AUDIT_FILE)):
            if folder in (Path(path).resolve().parent, Path(path).resolve().parent.parent):
                yield Warning(
                    f"{name} lies with the control database: who takes one gets both.",
                    hint="/etc/db-maintenance/audit.key and a folder on another disk.",
                    id="maintenance.W133",
                )


def backups() -> Found:
    try:
        found = list(MaintenanceSetting.objects.filter(enabled=True))
    except DatabaseError:
        yield Warning("The control database has no tables yet: manage.py migrate.", id="maintenance.W134")
        return
    for setting in found:
        if not setting.alternate_backup_dir:
            yield Warning(f"{setting.name} has no alternate backup folder (specification 6.1).", id="maintenance.W135")
        elif _device(setting.backup_dir) == _device(setting.alternate_backup_dir):
            yield Warning(
                f"Both backup folders of {setting.name} are on one file system: one full disk takes both.",
                id="maintenance.W136",
            )


def _device(folder: str) -> int:
    """Of the folder, or of what there is of the way to it."""
    path = Path(folder)
    while not path.exists():
        path = path.parent
    return path.stat().st_dev


LIST: Sequence[Callable[[], Found]] = (config_file, encryption, home, web, accounts, audit_chain, backups)
