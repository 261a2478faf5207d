"""Sentences that can be said again in another language.

A sentence is plain English text wherever text is wanted (journal, log, test). It also keeps the
template and the values it was made of, so that a page can translate the template and fill in the
same values. `makemessages` collects the first argument of `say`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self


class Sentence(str):
    """English text with its template (`str.format` style) and values."""

    template: str
    values: Mapping[str, object]

    def __new__(cls, template: str, values: Mapping[str, object] | None = None) -> Self:
        values = dict(values or {})
        text = super().__new__(cls, template.format(**values) if values else template)
        text.template = template
        text.values = values
        return text


def say(template: str, **values: object) -> Sentence:
    """One sentence. Values must be JSON types; `{rows:,}` and the like are allowed in the template.

    A template without values is taken as it stands, braces included.
    """
    return Sentence(template, values)


def listed(parts: Iterable[str], by: str = "; ") -> Sentence:
    """Several sentences as one, of which each can still be told in another language."""
    values = {f"p{number}": part for number, part in enumerate(parts)}
    return Sentence(by.join(f"{{{name}}}" for name in values), values)


def size(count: int | None) -> str:
    """Bytes in words a person reads, decimal units: 1536 -> '1.5 kB'; None -> 'unknown size'."""
    if count is None:
        return say("unknown size")
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
