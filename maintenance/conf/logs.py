"""Logs of specification 7.2: JSON lines, one file a day and kind, removed when they are old enough.

Each line says which run and which database it is about. Several processes write to the same file: every line
is one write to a file opened for appending, and a new day is a new name, so nobody has to rename anything.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from .secrets import masked

TOLD = ("run", "database", "step", "object", "seconds", "figures")
"""What a line may carry beside its message: `log.info(…, extra={"step": …})`."""
_about: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)


@contextmanager
def about(run: str, database: str) -> Iterator[None]:
    """Lines of this thread that are written meanwhile name this run and this database."""
    token = _about.set({"run": run, "database": database})
    try:
        yield
    finally:
        _about.reset(token)


class About(logging.Filter):
    """Adds what `about` said to lines that do not say it themselves."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in (_about.get() or {}).items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class ErrorsAndResponses(logging.Filter):
    """The error log: errors, and what was done about them (lines marked `response`)."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or bool(getattr(record, "response", False))


class JsonLine(logging.Formatter):
    """One object a line; known passwords and whatever looks like one are masked."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        told |= {name: _clean(getattr(record, name)) for name in TOLD if getattr(record, name, None) is not None}
        if record.exc_info:
            told["error"] = masked(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=False, default=str)


class Line(logging.Formatter):
    """For people who look at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def _clean(value: object) -> object:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: _clean(x) for key, x in value.items()}
    return [_clean(x) for x in value] if isinstance(value, list | tuple) else value


class DailyFile(logging.Handler):
    """`KIND-2026-11-23.jsonl` in `folder`. Opening the first file of a day removes those older than `keep_days`."""

    def __init__(self, folder: str | Path, kind: str, keep_days: int) -> None:
        super().__init__()
        self.folder, self.kind, self.keep_days = Path(folder), kind, keep_days
        self._day: date | None = None
        self._descriptor = -1

    def emit(self, record: logging.LogRecord) -> None:
        """A log that cannot be written is told on stderr and never stops the work."""
        try:
            data = f"{self.format(record)}\n".encode()
            self._open(datetime.fromtimestamp(record.created, UTC).date())
            while data:
                data = data[os.write(self._descriptor, data) :]
        except Exception:
            self.handleError(record)

    def path(self, day: date) -> Path:
        return self.folder / f"{self.kind}-{day:%Y-%m-%d}.jsonl"

    def _open(self, day: date) -> None:
        if day == self._day:
            return
        path = self.path(day)
        first = not path.exists()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        fresh = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        self._shut()
        self._descriptor, self._day = fresh, day
        if first:
            self._remove_old(day)

    def _remove_old(self, today: date) -> None:
        oldest = self.path(today - timedelta(days=self.keep_days)).name
        for path in self.folder.glob(f"{self.kind}-????-??-??.jsonl"):
            if path.name < oldest:
                path.unlink(missing_ok=True)

    def _shut(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._day = -1, None

    def close(self) -> None:
        self.acquire()
        try:
            self._shut()
        finally:
            self.release()
        super().close()
