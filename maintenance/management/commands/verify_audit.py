"""Checks the whole audit chain."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings

from maintenance import terminal
from maintenance.auditing import chain


class Command(terminal.PersonsCommand):
    needs = ("verify_audit",)
    help = "Checks the whole audit chain; exit 1 and the first bad entry if it is broken."

    def handle(self, *args: object, **options: Any) -> None:
        verdict = chain.verify()
        if not verdict.whole:
            self.stderr.write(f"The audit chain is broken: {verdict.problem}.")
            sys.exit(1)
        self.stdout.write(f"The audit chain is whole: {verdict.entries} entries.")
        if verdict.accepted:
            self.stdout.write(
                f"The {verdict.sealed} entries before them prove nothing, they were accepted as broken: "
                f"{verdict.accepted}"
            )
        elif verdict.sealed:
            self.stdout.write(f"{verdict.sealed} older entries were removed by retention; their end is signed.")
        if verdict.unsigned:
            self.stdout.write(f"The last {verdict.unsigned} entries wait for a worker to sign them.")
        self.stdout.write(f"{verdict.outside} checkpoints in {settings.AUDIT_FILE} agree.")
