"""Collects messages also from `say("…")`, so that the sentences of the journal can be told in other languages."""

from __future__ import annotations

import re
from pathlib import Path

from django.core.management.commands import makemessages

BOTH = re.compile(r"^(#, .*)python-format, python-brace-format$", re.MULTILINE)
"""A sentence such as '{share} % of the rows' is taken for a format of the old kind, which it is not."""
CLOCK = re.compile(r'^"POT-Creation-Date: .*\n', re.MULTILINE)
"""Would change with every run although no message did."""


class Command(makemessages.Command):
    xgettext_options = [*makemessages.Command.xgettext_options, "--keyword=say", "--keyword=lazy"]

    def write_po_file(self, potfile: str, locale: str) -> None:
        _change(Path(potfile), BOTH, r"\1python-brace-format")
        super().write_po_file(potfile, locale)
        _change(Path(potfile).parent / locale / "LC_MESSAGES" / f"{self.domain}.po", CLOCK, "")


def _change(path: Path, what: re.Pattern[str], into: str) -> None:
    path.write_text(what.sub(into, path.read_text(encoding="utf-8")), encoding="utf-8")
