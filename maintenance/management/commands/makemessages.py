"""Collects messages also from `say("…")`, so that the sentences of the journal can be told in other languages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from django.core.management.commands import makemessages

BOTH = re.compile(r"^(#, .*)python-format, python-brace-format$", re.MULTILINE)
"""A sentence such as '{share} % of the rows' is taken for a format of the old kind, which it is not."""
NOT_SHOWN = ("tests/*", "demo/*", "bench/*", "chaos/*", "var/*", ".venv/*")
CLOCK = re.compile(r'^"POT-Creation-Date: .*\n', re.MULTILINE)
"""Would change with every run although no message did."""


class Command(makemessages.Command):
    xgettext_options = [*makemessages.Command.xgettext_options, "--keyword=say", "--keyword=lazy"]

    def handle(self, *args: Any, **options: Any) -> None:
        """As the catalogue is kept: one line a message, no line numbers, nothing obsolete, no tests and tools."""
        options |= {"no_wrap": True, "no_obsolete": True, "add_location": "file"}
        options["ignore_patterns"] = [*options["ignore_patterns"], *NOT_SHOWN]
        super().handle(*args, **options)

    def write_po_file(self, potfile: str, locale: str) -> None:
        _change(Path(potfile), BOTH, r"\1python-brace-format")
        super().write_po_file(potfile, locale)
        _change(Path(potfile).parent / locale / "LC_MESSAGES" / f"{self.domain}.po", CLOCK, "")


def _change(path: Path, what: re.Pattern[str], into: str) -> None:
    path.write_text(what.sub(into, path.read_text(encoding="utf-8")), encoding="utf-8")
