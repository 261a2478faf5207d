"""SQLite's result codes, and what each means for the procedure (https://sqlite.org/rescode.html)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import AccessDenied, Damaged, EngineError, Interrupted, ResourceShortage, Transient, Unable, Unreachable
from ..messages import msg

BUSY, LOCKED, READONLY, INTERRUPT, CORRUPT, FULL, NOTADB = 5, 6, 8, 9, 11, 13, 26
UNSUPPORTED = "unsupported file format"
"""The header tells a format of the schema that no version has; SQLite gives it no code of its own."""
OTHER_ENCODING = "attached databases must use the same text encoding as main database"
"""Also said of a main database, whose header tells an encoding that there is not or another than it did before."""
_EXTENDED: dict[int, type[EngineError]] = {
    522: Damaged,  # IOERR_SHORT_READ: the file ends before a page does
    8202: Damaged,  # IOERR_DATA: checksum wrong
    8458: Damaged,  # IOERR_CORRUPTFS
    3082: ResourceShortage,  # IOERR_NOMEM
}
_PRIMARY: dict[int, type[EngineError]] = {
    3: AccessDenied,  # PERM
    BUSY: Transient,
    LOCKED: Transient,
    7: ResourceShortage,  # NOMEM
    READONLY: AccessDenied,
    INTERRUPT: Interrupted,
    10: Transient,  # IOERR
    CORRUPT: Damaged,
    FULL: ResourceShortage,
    14: Unreachable,  # CANTOPEN
    15: Transient,  # PROTOCOL: locking race in WAL mode
    17: Transient,  # SCHEMA
    19: Damaged,  # CONSTRAINT
    23: AccessDenied,  # AUTH
    24: Damaged,  # FORMAT
    NOTADB: Damaged,
}


def primary(error: sqlite3.Error) -> int:
    """The primary result code, 0 when the error did not come from SQLite itself."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def from_driver(error: sqlite3.Error, doing: str, object: str) -> EngineError:
    """Return SQLite's error as ours, by its result code."""
    code = int(getattr(error, "sqlite_errorcode", 0) or 0)
    kind = _EXTENDED.get(code) or _PRIMARY.get(code & 0xFF, Unable)
    if str(error) in (UNSUPPORTED, OTHER_ENCODING):
        kind = Damaged
    name = getattr(error, "sqlite_errorname", None)
    return kind(doing, object, f"{error} ({name})" if name else str(error))


def from_reading(error: sqlite3.Error, doing: str, object: str) -> EngineError:
    """As `from_driver`, of a statement that only reads: a full disk is then a page beyond the end of any file."""
    if primary(error) == FULL:
        return Damaged(doing, object, msg("a page number leads beyond the end of any file"))
    return from_driver(error, doing, object)


@contextmanager
def translated(doing: str, object: str) -> Iterator[None]:
    """Turn the driver's errors and the disk's into ours. Raises Damaged, Unreachable or ResourceShortage."""
    try:
        yield
    except sqlite3.Error as error:
        raise from_driver(error, doing, object) from error
    except UnicodeError as error:
        # Python can neither send such a name nor read an error that contains it.
        raise Damaged(doing, object, msg("a name or a text of its schema is not valid")) from error
    except FileNotFoundError as error:
        raise Unreachable(doing, object, str(error)) from error
    except OSError as error:
        raise ResourceShortage(doing, object, str(error)) from error
