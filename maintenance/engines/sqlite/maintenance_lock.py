"""One maintenance at a time on a file: a lock file that the system frees when its process dies."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import URL

from ..errors import AccessDenied, Transient
from ..messages import msg
from ..parts import MaintenanceLock
from ..values import Tag
from .marker import marked, read_small
from .processes import command, started
from .target import DatabaseFile


class Holder(Protocol):
    """An engine object of this process that may hold the lock file."""

    tag: Tag

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


_OURS: weakref.WeakValueDictionary[Path, Holder] = weakref.WeakValueDictionary()
"""Lock file -> who in this process holds it: an older claim here is closed, not killed."""


class FileLock(MaintenanceLock):
    """The lock file of one engine object. `acquire` may be called again; `release` removes the file."""

    def __init__(self, file: DatabaseFile, url: URL, owner: Holder) -> None:
        self.file, self.url, self.tag, self.owner = file, url, file.tag, owner
        self.path = file.sides.lock
        self._descriptor: int | None = None

    @property
    def taken(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> int:
        """See MaintenanceLock.acquire. An older worker that still lives is killed: it would write on when it wakes.

        Raises Transient, AccessDenied.
        """
        self.file.require()
        ended = 0
        until = time.monotonic() + self.file.limits.lock_seconds
        while not self.taken:
            if self._try():
                break
            ended += self._end_older()
            if time.monotonic() > until:
                raise Transient("claiming", self.path.name, msg("held by {who}", who=self._who()))
            time.sleep(0.05)
        return ended

    def mark(self) -> Mapping[str, object] | None:
        """See MaintenanceLock.mark."""
        return marked(self.file)

    def release(self) -> None:
        """Remove the lock file, also one that a dead worker of this run target left."""
        self._take_what_is_left()
        if self._descriptor is None:
            return
        # Removed while still locked: whoever waits sees that the name has gone and makes a new file.
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None
        _OURS.pop(self.path, None)

    def _take_what_is_left(self) -> None:
        """The file of an older claim that died; who only ends the run never took it."""
        if not self.taken and self.tag.wrote(self._signature()):
            with suppress(AccessDenied):
                self._try()

    def is_held_elsewhere(self) -> bool:
        """Whether a process that lives holds the file for another installation."""
        held = self._signature()
        return self.tag.is_anothers(held) and started(held["pid"]) == held["started"]

    def _try(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise AccessDenied("claiming", self.path.name, str(error)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.fstat(descriptor).st_ino == self.path.stat().st_ino
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        self._sign(descriptor)
        _OURS[self.path] = self.owner
        return True

    def _sign(self, descriptor: int) -> None:
        pid = os.getpid()
        claim = {"pid": pid, "started": started(pid), **self.tag.mark, "token": self.tag.token}
        text = json.dumps(self.tag.signer.signed(claim, str(self.path)))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
        os.fsync(descriptor)

    def _signature(self) -> dict[str, Any]:
        try:
            read = json.loads(read_small(self.path))
        except (OSError, ValueError):
            return {}
        return read if isinstance(read, dict) else {}

    def _who(self) -> str:
        held = self._signature()
        if not held:
            return msg("another maintenance")
        return msg(
            "run target {target} in process {pid} ({command})",
            target=held["target"],
            pid=held["pid"],
            command=command(held["pid"]),
        )

    def _end_older(self) -> int:
        """End an older claim of the same run target; anybody else is left alone."""
        held = self._signature()
        if not self.tag.wrote(held) or not self.tag.signer.is_signed(held, str(self.path)):
            return 0  # whoever may write into the folder could name any process
        if held.get("token", self.tag.token) >= self.tag.token:
            return 0
        if held["pid"] == os.getpid():
            older = _OURS.get(self.path)
            if older is None or older is self.owner or older.tag.token >= self.tag.token:
                return 0
            older.interrupt()
            older.close()
            return 1
        if started(held["pid"]) != held["started"]:
            return 0
        return _kill(held["pid"], held["started"])


def _kill(pid: int, since: int) -> int:
    """A paused worker would go on writing when it wakes, so it must not wake."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return 0
    try:
        # Looked at again with the handle open: from here on the number cannot mean another process.
        if started(pid) != since:
            return 0
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return 0
    finally:
        os.close(handle)
    return 1
