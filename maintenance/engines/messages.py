"""Sentences that can be said again in another language.

A sentence is plain English text wherever text is wanted (journal, log, test). It also keeps the
template and the values it was made of, so that a page can translate the template and fill in the
same values. `makemessages` collects the first argument of `msg`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self


class Message(str):
    """English text with its template (`str.format` style) and values. One that counts has a template for many too,
    and its number in the value `n`."""

    template: str
    values: Mapping[str, object]
    many: str

    def __new__(cls, template: str, values: Mapping[str, object] | None = None, many: str = "") -> Self:
        values = dict(values or {})
        said = many if many and values["n"] != 1 else template
        text = super().__new__(cls, said.format(**values) if values else said)
        text.template, text.values, text.many = template, values, many
        return text


def msg(template: str, **values: object) -> Message:
    """One sentence. Values must be JSON types; `{rows:,}` and the like are allowed in the template.

    A template without values is taken as it stands, braces included.
    """
    return Message(template, values)


def plural(number: object, one: str, many: str) -> Message:
    """A number with its noun, as a value of a sentence: plural(2, "{n:,} table", "{n:,} tables")."""
    return Message(one, {"n": number}, many)


def listed(parts: Iterable[str], by: str = "; ") -> Message:
    """Several sentences as one, of which each can still be told in another language."""
    values = {f"p{number}": part for number, part in enumerate(parts)}
    return Message(by.join(f"{{{name}}}" for name in values), values)


def size(count: int | None) -> str:
    """Bytes in words a person reads, decimal units: 1536 -> '1.5 kB'; None -> 'unknown size'."""
    if count is None:
        return msg("unknown size")
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
