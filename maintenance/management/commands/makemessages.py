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
        super().write_po_file(potfile, locale)
        path = Path(potfile).parent / locale / "LC_MESSAGES" / f"{self.domain}.po"
        text = BOTH.sub(r"\1python-brace-format", path.read_text(encoding="utf-8"))
        path.write_text(CLOCK.sub("", text), encoding="utf-8")
