"""Stored sentences in the active language: where the catalog knows the template, it is told with the same values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import get_language, gettext, ngettext

from maintenance.text import labels

PHRASES = ("doing", "words", "check", "why")
"""Values that may be phrases of ours; `makemessages` collects them. Never the name of a table, which may be a word."""


def again(text: str, said: Mapping[str, Any]) -> str:
    """A translation that does not fit its values never costs the report: the English text stays."""
    if not said.get("template") or in_english():
        return text
    try:
        return _told(said)
    except (KeyError, IndexError, ValueError):
        return text


def each_again(texts: Sequence[str], said: Sequence[Mapping[str, Any]]) -> list[str]:
    """Older records keep the text alone."""
    return [again(text, said[number] if number < len(said) else {}) for number, text in enumerate(texts)]


def _told(said: Mapping[str, Any]) -> str:
    if not said["template"]:
        return ""  # gettext would answer with the head of the catalogue.
    values = {name: _value(name, value) for name, value in (said.get("values") or {}).items()}
    many = said.get("many")
    template = ngettext(said["template"], many, int(values["n"])) if many else gettext(said["template"])
    return template.format(**values) if values else template


def _value(name: str, value: Any) -> Any:
    """A sentence inside a sentence is told too, and so are our own phrases; all else is a name, a number, or the
    words of a server."""
    if isinstance(value, Mapping):
        return _told(value)
    if name == "step":
        return labels.label(labels.STEPS, value)
    return gettext(value) if name in PHRASES and value else value


def in_english() -> bool:
    return (get_language() or "en").startswith("en")
