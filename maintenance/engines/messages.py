"""Messages that can be shown in another language than the one they were made in.

A message is plain English text wherever text is wanted (journal, log, API, test). It also keeps the
template and the values it was made of, so that a page can translate the template and fill in the
same values: `dump` and `load` are its way through JSON, `maintenance.text.render` translates it, and
`makemessages` collects the first argument of `msg`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

SINGULAR = {"template", "values"}
COUNTING = {*SINGULAR, "plural"}
"""Keys of a stored message."""


class Message(str):
    """English text with its template (`str.format` style) and values. One that counts has a plural template too,
    and its number in the value `n`."""

    template: str
    values: Mapping[str, object]
    plural: str

    def __new__(cls, template: str, values: Mapping[str, object] | None = None, plural: str = "") -> Self:
        values = dict(values or {})
        chosen = plural if plural and values["n"] != 1 else template
        text = super().__new__(cls, chosen.format(**values) if values else chosen)
        text.template, text.values, text.plural = template, values, plural
        return text


def dump(value: object) -> object:
    """Return the value as JSON types: each message in it as its template, values and plural template."""
    if isinstance(value, Message):
        stored = {"template": value.template, "values": dump(value.values)}
        return {**stored, "plural": value.plural} if value.plural else stored
    if isinstance(value, Mapping):
        return {key: dump(item) for key, item in value.items()}
    return [dump(item) for item in value] if isinstance(value, list | tuple) else value


def load(stored: Any) -> Any:
    """Return what `dump` was given, with its messages."""
    if isinstance(stored, list):
        return [load(item) for item in stored]
    if not isinstance(stored, dict):
        return stored
    loaded = {key: load(item) for key, item in stored.items()}
    return Message(**loaded) if loaded.keys() in (SINGULAR, COUNTING) else loaded


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


def span(seconds: float) -> Message:
    """A time in the largest units that keep its digits: '0.4 s', '7.0 s', '3 min 12 s', '2 h 05 min'."""
    if round(seconds, 1) < 60:
        return msg("{seconds} s", seconds=f"{seconds:.1f}")
    whole = round(seconds)
    if whole < 3600:
        return msg("{minutes} min {seconds} s", minutes=whole // 60, seconds=f"{whole % 60:02d}")
    minutes = round(seconds / 60)
    return msg("{hours} h {minutes} min", hours=minutes // 60, minutes=f"{minutes % 60:02d}")
