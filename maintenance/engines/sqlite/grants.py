"""SQLite knows no accounts: what is needed are rights on the file and its folder."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ..messages import say
from ..values import Grant
from .file import DatabaseFile


def grants(file: DatabaseFile, role: str | None) -> list[Grant]:
    """See Engine.grants. `role` is a user of the operating system; only this process's own rights are looked at."""
    file.require()
    who = shlex.quote(role) if role else str(os.geteuid())
    folder = Path(file.path).parent
    own = role is None
    return [
        Grant(
            f"setfacl -m u:{who}:rw {shlex.quote(str(file.path))}",
            say("The console's system user must be able to read and write {path}", path=str(file.path)),
            own and os.access(file.path, os.R_OK | os.W_OK),
            "high",
        ),
        Grant(
            f"setfacl -m u:{who}:rwx {shlex.quote(str(folder))}",
            say(
                "The console's system user must be able to create files in {path}, beside the database",
                path=str(folder),
            ),
            own and os.access(folder, os.R_OK | os.W_OK | os.X_OK),
            "high",
        ),
    ]
