"""Accounts of the operating system that may do what no permission of the console covers."""

from __future__ import annotations

import os
import pwd

from django.core.management.base import CommandError

ALMIGHTY = "db_admin"


def operator() -> str:
    """Return root or db_admin as the audit log names them, by the real user id, whatever the environment says.

    Raises:
        CommandError: it is somebody else; the exit code is 4.
    """
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    if os.getuid() != 0 and name != ALMIGHTY:
        raise CommandError(f"Only root and {ALMIGHTY} may do this, not {name}.", returncode=4)
    return f"{name} (command line)"
