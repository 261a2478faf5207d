"""SQLite knows no accounts: what is needed are rights on the file and its folder."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ..messages import msg
from ..parts import Privileges
from ..values import Grant
from .target import DatabaseFile


class FilePrivileges(Privileges):
    """Rights of the operating system."""

    def __init__(self, file: DatabaseFile) -> None:
        self.file = file

    def grants(self, role: str | None = None) -> list[Grant]:
        """See Privileges.grants. `role` is a system user; only this process's own rights are looked at."""
        file = self.file
        file.require()
        who = shlex.quote(role) if role else str(os.geteuid())
        folder = Path(file.path).parent
        own = role is None
        return [
            Grant(
                f"setfacl -m u:{who}:rw {shlex.quote(str(file.path))}",
                msg("The console's system user must be able to read and write {path}", path=str(file.path)),
                own and os.access(file.path, os.R_OK | os.W_OK),
                "high",
            ),
            Grant(
                f"setfacl -m u:{who}:rwx {shlex.quote(str(folder))}",
                msg(
                    "The console's system user must be able to create files in {path}, beside the database",
                    path=str(folder),
                ),
                own and os.access(folder, os.R_OK | os.W_OK | os.X_OK),
                "high",
            ),
        ]
