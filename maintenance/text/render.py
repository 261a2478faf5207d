"""Messages in the active language: the translated template with the same values."""

from __future__ import annotations

from django.utils.translation import get_language, gettext, ngettext

from maintenance.engines.messages import Message
from maintenance.text import labels

PHRASES = ("doing", "words", "check", "why")
"""Values that may be phrases of ours; `makemessages` collects them. Never the name of a table, which may be a word."""
PEOPLE = ("who", "to")


def render(message: str) -> str:
    """Return the message in the active language; what is only text stays as it is.

    A translation that does not fit its values never costs a page: the English text stays.
    """
    if not isinstance(message, Message) or (get_language() or "en").startswith("en"):
        return str(message)
    try:
        return _translated(message)
    except (KeyError, IndexError, ValueError):
        return str(message)


def _translated(message: Message) -> str:
    if not message.template:
        return ""  # gettext would answer with the head of the catalogue.
    values = {name: _value(name, value) for name, value in message.values.items()}
    if message.plural:
        template = ngettext(message.template, message.plural, int(str(message.values["n"])))
    else:
        template = gettext(message.template)
    return template.format(**values) if values else template


def _value(name: str, value: object) -> object:
    """A message inside a message is translated too, and so are our own phrases; all else is a name, a number, or the
    words of a server."""
    if isinstance(value, Message):
        return _translated(value)
    if not isinstance(value, str) or not value:
        return value
    if name == "step":
        return labels.label(labels.STEPS, value)
    if name in PEOPLE:
        return person(value)
    return gettext(value) if name in PHRASES else value


def person(name: str) -> str:
    """Return the name of a person; who came by the command line is named after the account of the machine."""
    account = name.removesuffix(" (command line)")
    return name if account == name else gettext("{account} (command line)").format(account=account)
