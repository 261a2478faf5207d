"""How a session, an event or a process that may write to the target is told to a person."""

from __future__ import annotations

from .messages import Message, listed, msg


def told(what: str, *, account: str = "", address: str = "", application: str = "", since: str = "") -> Message:
    """Return one writer in words, as far as the server told of it. Never its statement: rows may stand there."""
    parts = [
        what,
        *([msg("account {name}", name=account)] if account else []),
        *([msg("from {address}", address=address)] if address else []),
        *([msg("application {name}", name=application)] if application else []),
        *([msg("last statement begun {when}", when=since)] if since else []),
    ]
    return listed(parts, by=", ")
