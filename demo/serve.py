"""`make serve`: the web console and a worker over demo databases, until Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .stage import PROJECT, databases, manage, msg, prepare, worker

HOME = Path(os.environ.get("DBMAINT_HOME", PROJECT / "var" / "serve")).resolve()
ADDRESS = os.environ.get("DBMAINT_ADDRESS", "127.0.0.1:8905")
PASSWORD = "demo-only-password"
PEOPLE = {
    "dba": ("DBA", False),
    "dba2": ("DBA", False),
    "manager": ("Management", False),
    "administrator": ("Maintenance administrators", True),
    "auditor": ("Auditors", False),
}
"""Name -> group, and whether the admin site is theirs."""


def people() -> None:
    """Makes the demo logins that are not there yet."""
    lines = ["from django.contrib.auth.models import Group, User"]
    for name, (group, staff) in PEOPLE.items():
        lines += [
            f"u, new = User.objects.get_or_create(username={name!r}, defaults=dict(is_staff={staff}))",
            f"new and (u.set_password({PASSWORD!r}), u.save())",
            f"u.groups.add(Group.objects.get(name={group!r}))",
        ]
    manage("shell", "--no-imports", "-v0", "-c", "\n".join(lines))


def main() -> int:
    os.environ.setdefault("DBMAINT_SITE_URL", f"http://{ADDRESS}")
    prepare(HOME)
    people()
    manage("collectstatic", "--noinput", "-v0")
    with databases(HOME), worker(HOME):
        msg(f"\nhttp://{ADDRESS}/")
        msg(f"Demo logins, password {PASSWORD} for each: {', '.join(PEOPLE)}. Ctrl-C ends everything.\n")
        web = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "dbmaint_site.wsgi",
                "--bind",
                ADDRESS,
                "--threads",
                "8",
                "--no-control-socket",
            ],
            cwd=PROJECT,
        )
        try:
            return web.wait()
        except KeyboardInterrupt:
            web.terminate()
            web.wait()
            return 0


if __name__ == "__main__":
    sys.exit(main())
