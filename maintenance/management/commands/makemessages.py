"""Collects messages also from `msg("…")`, so that the sentences of the journal can be told in other languages,
and the phrases that errors are made of: what was being done, and what we say of it ourselves."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.commands import makemessages

BOTH = re.compile(r"^(#, .*)python-format, python-brace-format$", re.MULTILINE)
"""A sentence such as '{share} % of the rows' is taken for a format of the old kind, which it is not."""
NOT_SHOWN = ("tests/*", "demo/*", "bench/*", "chaos/*", "var/*", ".venv/*")
CLOCK = re.compile(r'^"POT-Creation-Date: .*\n', re.MULTILINE)
"""Would change with every run although no message did."""

DOING = re.compile(r"^[a-z]+ing( [a-z]+)*$")
"""'rewriting', 'connecting to': as `EngineError` takes it first, on whatever way it gets there."""
SPEAKERS = ("engines", "workflow")
ERRORS = frozenset(
    ("EngineError", "Unreachable", "AccessDenied", "Transient", "ResourceShortage", "Damaged", "Interrupted", "Unable")
)
NOT_DOING = frozenset(("gettext_lazy", "get", "select_related", "msg", "label", "values_list"))


class Command(makemessages.Command):
    xgettext_options = [
        *makemessages.Command.xgettext_options,
        "--keyword=msg",
        "--keyword=lazy",
        "--keyword=plural:2,3",
    ]

    def handle(self, *args: object, **options: Any) -> None:
        """As the catalogue is kept: one line a message, no line numbers, nothing obsolete, no tests and tools."""
        options |= {"no_wrap": True, "no_obsolete": True, "add_location": "file"}
        options["ignore_patterns"] = [*options["ignore_patterns"], *NOT_SHOWN]
        super().handle(*args, **options)

    def write_po_file(self, potfile: str, locale: str) -> None:
        _change(Path(potfile), BOTH, r"\1python-brace-format")
        _add_phrases(Path(potfile))
        super().write_po_file(potfile, locale)
        _change(Path(potfile).parent / locale / "LC_MESSAGES" / f"{self.domain}.po", CLOCK, "")


def _change(path: Path, what: re.Pattern[str], into: str) -> None:
    path.write_text(what.sub(into, path.read_text(encoding="utf-8")), encoding="utf-8")


def _add_phrases(template: Path) -> None:
    text = template.read_text(encoding="utf-8")
    places: dict[str, set[str]] = {}
    for speaker in SPEAKERS:
        root = Path("maintenance") / speaker
        for path in [root] if root.is_file() else root.rglob("*.py"):
            for phrase in phrases(ast.parse(path.read_text(encoding="utf-8"))):
                places.setdefault(phrase, set()).add(str(path))
    for phrase, files in sorted(places.items()):
        message = f"msgid {json.dumps(phrase, ensure_ascii=False)}\n"
        if message not in text:
            text += f'\n#: {" ".join(sorted(files))}\n{message}msgstr ""\n'
    template.write_text(text, encoding="utf-8")


def phrases(tree: ast.AST) -> Iterator[str]:
    """Of one module."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        given = [a.value if isinstance(a, ast.Constant) and isinstance(a.value, str) else "" for a in call.args]
        if name in ERRORS:
            yield from filter(None, given[:1] + given[2:3])
        elif name not in NOT_DOING:
            yield from filter(DOING.match, given)
