"""Signs of damage in the server's own log, whatever language the server speaks.

Decided by the SQLSTATE of each line where the log holds it (csvlog, jsonlog, or `%e` in log_line_prefix). Where it
does not, a line counts that names one of the server's own files, which no translation changes, or says what only an
English server says. Any client can have a line written, so no line alone makes anything be done.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance.engines.messages import msg
from maintenance.engines.values import Finding

from ..sql import ask
from .inconclusive import refused

TAIL = 256 * 1024
"""Bytes of the log's end that are read."""

CODES = {"XX000", "XX001", "XX002", "58030", "53100"}
"""internal_error, data_corrupted, index_corrupted, io_error, disk_full"""
FILE_MISSING = "58P01"
"""undefined_file: also of a file that a client named in COPY, so it counts for the server's own only."""
OWN_FILE = re.compile(r"\b(?:base/\d+|global|pg_tblspc/\d+/PG_[^/]+/\d+)/t?\d+|pg_toast_\d+|\bpg_(?:xact|multixact)/")
ENGLISH = re.compile(
    r"PANIC|invalid page in block|page verification failed|could not read block|missing chunk|unexpected chunk"
    r"|could not access status of transaction|invalid memory alloc|terminated by signal|No space left"
)
NO_EVENT = re.compile(r"\b(?:STATEMENT|ANWEISUNG|INSTRUCTION|SENTENCIA|文|ОПЕРАТОР|语句):")
ESCAPES = {"d": r"(?P<database>[^ |:,\]@]*)", "e": r"(?P<code>[0-9A-Z]{5})", "%": "%"}

FORMATS = ("jsonlog", "csvlog", "stderr")
CSV_DATABASE, CSV_SEVERITY, CSV_CODE, CSV_MESSAGE, CSV_DETAIL = 2, 11, 12, 13, 14
"""https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-LOGGING-CSVLOG"""

CONTENT = """
SELECT pg_read_binary_file(f, greatest(s - %(tail)s, 0), %(tail)s, true)
FROM (SELECT f, (pg_stat_file(f, true)).size AS s FROM pg_current_logfile(%(format)s) f) x WHERE s IS NOT NULL
"""


@dataclass(frozen=True)
class Line:
    """One event. `database` and `code` are None where the log does not hold them."""

    words: str
    database: str | None = None
    code: str | None = None

    def tells_of_damage(self, databases: set[str]) -> bool:
        if self.database and self.database != "[unknown]" and self.database not in databases:
            return False
        if self.code == FILE_MISSING:
            return OWN_FILE.search(self.words) is not None
        if self.code is not None:
            return self.code in CODES or ENGLISH.search(self.words) is not None
        return bool(OWN_FILE.search(self.words) or ENGLISH.search(self.words))


def log_findings(connection: Connection, databases: set[str]) -> list[Finding]:
    """Of lines about these databases, or about none."""
    try:
        [(destinations,)] = ask(connection, "SELECT current_setting('log_destination')")
        # A server before 15 calls it an error to be asked for its jsonlog.
        for format in (format for format in FORMATS if format in str(destinations)):
            rows = ask(connection, CONTENT, tail=TAIL, format=format)
            if rows and rows[0][0]:
                break
        else:
            return []
        [(prefix,)] = ask(connection, "SELECT current_setting('log_line_prefix')")
    except DBAPIError as error:
        return refused(error, "the server's log")
    text = bytes(rows[0][0]).decode(errors="replace")
    lines = [line.words for line in parsed(text, format, str(prefix)) if line.tells_of_damage(databases)]
    if not lines:
        return []
    return [
        Finding(
            "server_log_errors",
            "high",
            "",
            msg(
                "{count} lines of the server's log tell of damage, the last: {line}",
                count=len(lines),
                line=lines[-1][:300],
            ),
            msg("Look into the log around that time; the cause is often storage, memory or a full disk"),
        )
    ]


def parsed(text: str, format: str, prefix: str) -> Iterator[Line]:
    """Return the events of a log's end, whose first line is likely cut off."""
    if format == "jsonlog":
        for entry in text.splitlines():
            try:
                event = json.loads(entry)
            except ValueError:
                continue
            if isinstance(event, dict):
                words = " ".join(str(event.get(part, "")) for part in ("error_severity", "message", "detail"))
                yield Line(words, event.get("dbname") or "", event.get("state_code"))
    elif format == "csvlog":
        for fields in csv.reader(io.StringIO(text.partition("\n")[2].replace("\0", ""))):
            if len(fields) > CSV_DETAIL:
                words = " ".join((fields[CSV_SEVERITY], fields[CSV_MESSAGE], fields[CSV_DETAIL]))
                yield Line(words, fields[CSV_DATABASE], fields[CSV_CODE])
    else:
        pattern = re.compile(pattern_of(prefix))
        for entry in text.splitlines():
            found = pattern.match(entry)
            if found and not NO_EVENT.search(entry):
                known = found.groupdict()
                yield Line(entry, known.get("database"), known.get("code"))


def pattern_of(prefix: str) -> str:
    """Return the lines that begin as log_line_prefix says; what a process without a session leaves out may be
    absent."""
    always, _, session = prefix.partition("%q")
    seen: set[str] = set()

    def expression(part: str) -> str:
        pieces: list[str] = []
        for letter, plain in re.findall(r"%-?\d*([a-zA-Z%])|([^%]+)", part):
            if plain:
                pieces.append(re.escape(plain))
            elif letter in ESCAPES and letter not in seen:
                seen.add(letter)
                pieces.append(ESCAPES[letter])
            else:
                pieces.append(".*?")
        return "".join(pieces)

    return expression(always) + (f"(?:{expression(session)})?" if session else "")
