"""Checks the whole audit chain."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from maintenance import audit


class Command(BaseCommand):
    help = "Checks the whole audit chain; exit 1 and the first bad entry if it is broken."

    def handle(self, *args: Any, **options: Any) -> None:
        verdict = audit.verify()
        if verdict.whole:
            self.stdout.write(f"The audit chain is whole: {verdict.entries} entries.")
            return
        self.stderr.write(f"The audit chain is broken: {verdict.problem}.")
        sys.exit(1)
