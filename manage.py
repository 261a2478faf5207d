#!/usr/bin/env python3
"""Command line of the console: `manage.py help`."""

import os
import sys


def refuse_undecodable(arguments: list[str]) -> None:
    """No file, log or table could hold what is not UTF-8: end with exit code 2 before anything is begun."""
    for given in arguments:
        try:
            given.encode()
        except UnicodeEncodeError:
            shown = given.encode(errors="surrogateescape").decode(errors="backslashreplace")
            print(f"{shown}: this is not UTF-8. Give the file a name that is, or a link to it.", file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    refuse_undecodable(sys.argv)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dbmaint_site.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
