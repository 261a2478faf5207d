"""Two accounts: what the web's may not read, and what shows that there is only one."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.db import DatabaseError

from maintenance.conf import config
from maintenance.models import MaintenanceSetting


def accounts() -> Iterator[CheckMessage]:
    """Of the account that DBMAINT_WEB_USER names; run as that of the worker."""
    name = settings.WEB_USER
    if not name:
        yield Error(
            "DBMAINT_WEB_USER is not set: nobody knows whether web and worker are two accounts.",
            hint="DBMAINT_WEB_USER=db_web, as in deploy/environment.",
            id="maintenance.E141",
        )
        return
    try:
        web = pwd.getpwnam(name)
    except KeyError:
        yield Error(f"DBMAINT_WEB_USER is {name}; there is no such account.", id="maintenance.E142")
        return
    if web.pw_uid == 0 or web.pw_uid == worker_uid():
        yield Error(
            f"Web and worker both run as {name}: whoever takes over the web has the backups and every key.",
            hint="deploy/systemd has a unit with an account of its own for each.",
            id="maintenance.E143",
        )
        return
    for what, path in _not_for_the_web():
        if readable_by(web, path):
            yield Error(f"{name}, the web's account, may read {what}: {path}.", id="maintenance.E144")


def worker_uid() -> int:
    """Whose the key of the audit chain is; before there is one, who runs this."""
    try:
        return Path(settings.AUDIT_KEY).stat().st_uid
    except OSError:
        return os.geteuid()


def _not_for_the_web() -> Iterator[tuple[str, Path]]:
    yield "the key of the audit chain", Path(settings.AUDIT_KEY)
    yield "the key of the marks on targets", Path(settings.MARK_KEY)
    try:
        known = config.load()
    except config.ConfigError:
        return  # told by the check of the configuration
    if known.seal.identity_file is not None:
        yield "the key of the backups", known.seal.identity_file
    folders = set(known.backup_roots)
    try:
        for places in MaintenanceSetting.objects.values_list("backup_dir", "alternate_backup_dir"):
            folders.update(Path(place) for place in places if place)
    except DatabaseError:
        pass  # the control database has no tables yet, which another check tells
    yield from (("the backup folder", folder) for folder in sorted(folders))


def readable_by(account: pwd.struct_passwd, path: Path) -> bool:
    """Return whether the permissions let this account read the file or folder; False where it is not there."""
    groups = {account.pw_gid, *(group.gr_gid for group in grp.getgrall() if account.pw_name in group.gr_mem)}
    try:
        real = path.resolve(strict=True)
        way = all(_may(account.pw_uid, groups, parent, stat.S_IXOTH) for parent in real.parents)
        return way and _may(account.pw_uid, groups, real, stat.S_IROTH)
    except OSError:
        return False


def _may(uid: int, groups: set[int], path: Path, bit: int) -> bool:
    found = path.stat()
    if found.st_uid == uid:
        return bool(found.st_mode & bit << 6)
    return bool(found.st_mode & (bit << 3 if found.st_gid in groups else bit))
