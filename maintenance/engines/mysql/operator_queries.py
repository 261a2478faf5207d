"""Functional checks and benchmark queries: what people without rights on data let our powerful account run.

They read in a transaction that cannot write. What reading alone can do is refused by its words, comments and texts
left out: files, user locks, sequences, and functions of others that would run with our rights. An answer is bounded,
and an error is told by its number alone: the server's words may quote rows and files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy.exc import DBAPIError

from ..errors import Damaged, EngineError, Unable
from ..messages import Message, msg
from .connection import Row, Session
from .driver_errors import LOST, code_of
from .names import canonical, full
from .repair.corruption import spared_tables
from .target import Server

ROWS = 1000
"""Rows of an answer that are kept; the rest is read and dropped."""
READING = re.compile(
    r"^[\s(]*(SELECT|WITH|SHOW|EXPLAIN|DESCRIBE|DESC|TABLE|VALUES|CHECKSUM|ANALYZE\s+(FORMAT|SELECT))\b", re.IGNORECASE
)
TOKENS = re.compile(
    r"""(?P<program>/\*M?!)                                      # a comment that the server runs
      | (?P<comment>/\*.*?\*/ | \#[^\n]* | --(?=[\s\x00]|\Z)[^\n]*)
      | (?P<text>'(?:[^'\\]|''|\\.)*' | "(?:[^"\\]|""|\\.)*")
      | (?P<open>/\* | ['"`])                                    # one of these that is never closed
    """,
    re.DOTALL | re.VERBOSE,
)
NAMES = re.compile(r"`((?:[^`]|``)+)`|([\w$\u0080-\uffff]+)")
CALLS = re.compile(rf"(?:{NAMES.pattern})\s*\(")
REFUSED = frozenset(
    ("INTO", "OUTFILE", "DUMPFILE", "LOAD_FILE", "GET_LOCK", "RELEASE_LOCK", "RELEASE_ALL_LOCKS", "NEXTVAL", "SETVAL")
)
NAME = r"`(?:[^`]|``)+`"
OURS = re.compile(
    rf"SELECT COUNT\((?:\*|DISTINCT {NAME})\) FROM {NAME}\.{NAME} (?:USE INDEX \(\)|FORCE INDEX \({NAME}\))"
)
"""What the console measures with where nobody registered a query: it reads one table, whoever wrote it."""
PROBE = "SELECT 1 INTO OUTFILE '/dev/null/dbmaint'"
"""No file can be there. Without the right FILE the server says so before it looks."""
NO_FILE_RIGHT = frozenset((1045, 1227))
NEXT_VALUE = re.compile(r"\bNEXT\s+VALUE\s+FOR\b", re.IGNORECASE)


def query(server: Server, sql: str) -> list[Row]:
    """Return at most ROWS rows. Raises Unable for what does more than read, and for an account that may read files;
    other errors without the server's words."""
    refuse_writing(sql)
    with session_for_questions(server, "asking") as session, reading(session, sql):
        return session.first(sql, ROWS)


@contextmanager
def session_for_questions(server: Server, doing: str) -> Iterator[Session]:
    """A session in the target schema whose errors are told without the server's words."""
    refuse_harm(server)
    try:
        with server.session(doing, canonical(server.schema), database=True) as session:
            yield session
    except EngineError as error:
        if isinstance(error.__cause__, DBAPIError):
            raise type(error)(doing, canonical(server.schema), _without_words(error.__cause__)) from None
        raise


@contextmanager
def reading(session: Session, sql: str) -> Iterator[None]:
    """A transaction that cannot write, for this question. Raises Unable for what does more than read."""
    refuse_writing(sql)
    _refuse_functions(session, sql)
    if not OURS.fullmatch(sql):
        _refuse_file_right(session, sql)
    session.ask("START TRANSACTION READ ONLY")
    try:
        yield
    finally:
        with suppress(DBAPIError):
            session.ask("ROLLBACK")


def _without_words(error: DBAPIError) -> Message:
    return msg("the server refused it with error {code}", code=code_of(error) or 0)


def bare(sql: str) -> str:
    """Return a statement without its comments and texts, names in backticks kept. Raises Unable for a comment that the
    server would run, and for what begins and never ends."""
    kept, at = [], 0
    while at < len(sql):
        name = NAMES.match(sql, at) if sql[at] == "`" else None
        if name is not None:
            kept.append(name[0])
            at = name.end()
            continue
        token = TOKENS.match(sql, at)
        if token is None:
            kept.append(sql[at])
            at += 1
        elif token.lastgroup in ("program", "open"):
            raise Unable("asking", sql[:60], msg("comments that the server runs are not allowed here"))
        else:
            kept.append(" '' " if token.lastgroup == "text" else " ")
            at = token.end()
    return "".join(kept)


def refuse_writing(sql: str) -> None:
    """Raise Unable for what is not a question, or does more than answer it."""
    words = bare(sql)
    if not READING.match(words):
        raise Unable("asking", sql[:60], msg("only questions (SELECT, SHOW, …) are allowed here"))
    found = sorted({name.upper() for name in _names(NAMES, words)} & REFUSED)
    if NEXT_VALUE.search(words):
        found.append("NEXT VALUE FOR")
    if found:
        raise Unable("asking", sql[:60], msg("{words} is not allowed here: it does more than read", words=found[0]))


def refuse_harm(server: Server) -> None:
    """Raise Damaged while a table may not be read: which tables a question of an operator reads, nobody knows."""
    for table, why in spared_tables(server).items():
        raise Damaged("asking", canonical(table), why)


def _refuse_file_right(session: Session, sql: str) -> None:
    """Raise Unable where the account has the right FILE, of its own or by a role: a view of somebody else's may use
    it, and texts that use it may be spelled in ways that nobody has thought of."""
    try:
        session.verbatim(PROBE)
    except DBAPIError as error:
        if code_of(error) in NO_FILE_RIGHT:
            return
        if code_of(error) in LOST:
            raise
    words = msg(
        "not asked: the console's account may read files of the server; give the console an account without the right"
        " FILE"
    )
    raise Unable("asking", sql[:60], words)


def _refuse_functions(session: Session, sql: str) -> None:
    """Raise Unable where a function of somebody else's would run with our rights: one with SQL SECURITY INVOKER, or a
    loadable one, in the question or in a view that it reads."""
    dangerous = _functions_run_as_us(session)
    if not dangerous:
        return
    texts, seen = [bare(sql)], set()
    while texts:
        text = texts.pop()
        names, called = _names(NAMES, text), _names(CALLS, text)
        if found := sorted(called & dangerous):
            words = msg(
                "the function {name} would run with the rights of the console's account; define it with"
                " SQL SECURITY DEFINER, or ask without it",
                name=found[0],
            )
            raise Unable("asking", sql[:60], words)
        for schema, view in _views(session):
            if view.lower() in names and (schema, view) not in seen:
                seen.add((schema, view))
                texts.append(bare(str(session.ask(f"SHOW CREATE VIEW {full(schema, view)}")[0][1])))


def _names(pattern: re.Pattern[str], text: str) -> set[str]:
    return {(name[1] or name[2]).replace("``", "`").lower() for name in pattern.finditer(text)}


def _functions_run_as_us(session: Session) -> set[str]:
    rows = session.ask(
        "SELECT routine_name FROM information_schema.routines WHERE routine_type = 'FUNCTION'"
        " AND security_type = 'INVOKER' AND routine_schema NOT IN ('sys', 'mysql')"
    )
    try:
        rows += session.ask("SELECT name FROM mysql.func")
    except DBAPIError:
        pass  # without rights on that table nothing is known of loadable functions
    return {str(row[0]).lower() for row in rows}


def _views(session: Session) -> list[tuple[str, str]]:
    """Schema and name of every view; reads definition files only."""
    rows = session.ask(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'VIEW'"
        " AND table_schema NOT IN ('sys', 'mysql', 'information_schema', 'performance_schema')"
    )
    return [(str(schema), str(view)) for schema, view in rows]
