"""What could not be looked at is told, too."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from maintenance.engines.messages import msg
from maintenance.engines.values import Finding

from ..driver_errors import lost
from ..sql import words_of


def refused(error: DBAPIError, topic: str) -> list[Finding]:
    """A right that lacks has a finding of its own; a session that is lost ends the diagnosis."""
    if lost(error.orig):
        raise error
    if getattr(error.orig, "pgcode", None) == "42501":
        return []
    return [cannot_tell(topic, words_of(error))]


def cannot_tell(topic: str, words: str) -> Finding:
    """Return the finding for a check that could not run."""
    return Finding(
        "cannot_tell",
        "low",
        "",
        msg("Cannot tell about {topic}: {words}", topic=topic, words=words),
        msg("Give the console's account more rights, or look by hand"),
    )
