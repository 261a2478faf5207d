"""What a PostgreSQL server did for the console, by its own log: every statement with its end and its duration."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .figures import Span

SETTINGS = {"log_min_duration_statement": "0", "log_line_prefix": "'%n [%a] '", "log_rotation_size": "0"}
"""%n: seconds since the epoch with milliseconds, when the line is written, which is when the statement ends.
https://www.postgresql.org/docs/current/runtime-config-logging.html"""

ENDED = re.compile(r"^(\d+\.\d+) \[(.*?)\] LOG:  duration: (\d+\.\d+) ms  (?:statement|execute [^:]*): (.*)")
BEGINS = re.compile(r"^\d+\.\d+ \[")


@dataclass(frozen=True)
class Statement:
    """`text` with its white space made single blanks."""

    text: str
    span: Span


def parsed(lines: Iterable[str], application: str) -> list[Statement]:
    """The statements of sessions whose application name is of this pattern."""
    found: list[tuple[Span, list[str]]] = []
    ours = False
    for line in lines:
        match = ENDED.match(line)
        if match:
            at, who, milliseconds, text = match.groups()
            ours = re.fullmatch(application, who) is not None
            if ours:
                found.append((Span(float(at) - float(milliseconds) / 1000, float(at)), [text]))
        elif BEGINS.match(line):
            ours = False
        elif ours:
            found[-1][1].append(line)
    return [Statement(" ".join(" ".join(texts).split()), span) for span, texts in found]


class ServerLog:
    """The log files of a server, read from where the last reading ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, int] = {}

    def since_last_time(self) -> list[str]:
        lines: list[str] = []
        for path in sorted(self.folder.glob("*.log")):
            with open(path, errors="replace") as file:
                file.seek(self._read.get(path, 0))
                lines += file.read().splitlines()
                self._read[path] = file.tell()
        return lines


def saying(statements: Sequence[Statement], words: str, window: Span) -> list[Span]:
    """Spans, inside the window, of the statements in which the pattern occurs."""
    return [s.span.within(window) for s in statements if re.search(words, s.text)]
