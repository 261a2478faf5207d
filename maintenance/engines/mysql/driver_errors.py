"""The server's error codes, and what each means for us."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from ..errors import AccessDenied, Damaged, EngineError, Interrupted, ResourceShortage, Transient, Unable, Unreachable
from ..programs import CommandFailed, CommandStopped

MEANING: dict[int, type[EngineError]] = {
    **dict.fromkeys((2000, 2001, 2002, 2003, 2004, 2005, 2026), Unreachable),
    # lost connection, shutdown, killed, lock timeout, deadlock, statement limit
    **dict.fromkeys(
        (1053, 1077, 1078, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1205, 1213, 1317, 1637, 1637, 1927, 1969),
        Transient,
    ),
    **dict.fromkeys((2006, 2012, 2013, 2055, 3024, 3032, 3169, 4031, 1094, 1412, 1615), Transient),
    # disk full, out of memory, too many connections or files
    **dict.fromkeys((3, 28, 1021, 1023, 1037, 1038, 1040, 1041, 1114, 1129, 1203, 1226, 1296), ResourceShortage),
    **dict.fromkeys(
        (1044, 1045, 1095, 1131, 1132, 1142, 1143, 1227, 1251, 1370, 1410, 1419, 1698, 3118, 4151), AccessDenied
    ),
    # wrong key file, crashed, corrupt index, corrupt table, not in the storage engine
    **dict.fromkeys(
        (126, 127, 144, 145, 1016, 1017, 1024, 1030, 1032, 1033, 1034, 1035, 1194, 1195, 1344, 1459), Damaged
    ),
    **dict.fromkeys((1707, 1712, 1808, 1812, 1815, 1877, 1932), Damaged),
    **dict.fromkeys((1049, 1193, 1235, 1238, 1290, 1792, 1836), Unable),
}
"""Codes below 1000 are the storage engines' own, 1000-1999 and 3000-4999 the server's, 2000-2999 the client's.
https://mariadb.com/kb/en/mariadb-error-code-reference/"""

ENDED_FROM_OUTSIDE = frozenset((1317, 1927, 1969, 2006, 2013, 2055, 3024))
"""What a statement answers when somebody, perhaps we, ended it."""

LOST = frozenset((2006, 2013, 2055))

REFUSED_PLUGIN = frozenset((2059, 5010))
"""The server asked for a client plugin that is not there, or that is not allowed."""

DEADLOCK = "Deadlock found"

DISK_FULL_WORDS = ("No space left on device", "errno 28", "errno: 28", "Temporary file write failure")


def code_of(error: BaseException) -> int | None:
    """The number in a driver error, None where it has none."""
    original = error.orig if isinstance(error, DBAPIError) else error
    args: tuple[object, ...] = getattr(original, "args", ())
    return args[0] if len(args) > 0 and isinstance(args[0], int) else None


def words_of(error: BaseException) -> str:
    """Return the server's words with its code."""
    original = error.orig if isinstance(error, DBAPIError) else error
    args: tuple[object, ...] = getattr(original, "args", ())
    return f"{args[1]} ({args[0]})" if len(args) > 1 else str(original)


def from_driver(error: DBAPIError, doing: str, object: str, stopping: bool) -> EngineError:
    """`error` in our tree. `stopping`: we asked for an end ourselves."""
    code = code_of(error)
    if stopping and code in ENDED_FROM_OUTSIDE:
        return Interrupted(doing, object, words_of(error))
    return MEANING.get(code or 0, EngineError)(doing, object, words_of(error))


def from_words(words: str, doing: str, object: str) -> EngineError:
    """For what has no code: result rows of OPTIMIZE and its kind."""
    if any(phrase in words for phrase in DISK_FULL_WORDS):
        return ResourceShortage(doing, object, words)
    if "Lock wait timeout" in words or "interrupted" in words or DEADLOCK in words:
        return Transient(doing, object, words)
    if "denied" in words:
        return AccessDenied(doing, object, words)
    return Damaged(doing, object, words)


def from_command(error: CommandFailed, doing: str, object: str) -> EngineError:
    """For a native tool: its messages quote the server's codes, e.g. 'Error 1034: …' or 'ERROR 1045 (28000)'."""
    if isinstance(error, CommandStopped):
        return Interrupted(doing, object, str(error))
    if any(phrase in error.output for phrase in DISK_FULL_WORDS):
        return ResourceShortage(doing, object, str(error))
    for word in error.output.replace(":", " ").replace("(", " ").split():
        if word.isdigit() and int(word) >= 1000 and int(word) in MEANING:
            return MEANING[int(word)](doing, object, str(error))
    return EngineError(doing, object, str(error))
