"""What can go wrong between the console and a target database.

Every error says what was being done, to what, and the server's own words. `kind` decides the retry
rule (specification 6.2).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from .messages import Message, msg

Kind = Literal["transient", "resource", "integrity", "permanent"]


class EngineError(Exception):
    """Something the procedure expects to happen; a bug is any other exception.

    `doing` is a phrase such as "rewriting", `object` names the thing, `words` are the server's own - or ours, then
    a literal or a Message, so that they can be told in other languages.
    """

    kind: ClassVar[Kind] = "permanent"

    def __init__(self, doing: str, object: str, words: str) -> None:
        self.doing, self.object = doing, object
        self.words = words if isinstance(words, Message) else " ".join(words.split())
        super().__init__(str(self.sentence))

    @property
    def guarded(self) -> Message:
        """What people without rights on data may read of it: our own words, else its class. The server's may quote
        rows and files."""
        return (
            self.words
            if isinstance(self.words, Message)
            else msg("an error of class {error}", error=type(self).__name__)
        )

    @property
    def sentence(self) -> Message:
        """Return what went wrong as one sentence that can be said in the reader's language."""
        return msg(
            "Failed while {doing} {object}: {words}",
            doing=self.doing,
            object=self.object,
            words=self.words,
        )


class Unreachable(EngineError):
    """The server does not answer, or the file is not there."""

    kind = "transient"


class AccessDenied(EngineError):
    """The server refused the account, its password or its privileges."""


class Transient(EngineError):
    """It may go better in a minute: lost connection, lock timeout, deadlock, server restarting."""

    kind = "transient"


class ResourceShortage(EngineError):
    """Disk full, out of memory, too many connections."""

    kind = "resource"


class Damaged(EngineError):
    """The data or an index cannot be read or contradicts itself."""

    kind = "integrity"


class Interrupted(EngineError):
    """We ended it ourselves: cancel, timeout or lost lease."""


class Unable(EngineError):
    """This engine or this account cannot do it; the words say why and what would help."""
