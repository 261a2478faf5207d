"""One maintenance at a time on a file: a lock file that the system frees when its process dies."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ..errors import AccessDenied, Transient
from ..messages import say
from ..values import Tag
from .names import Sides


class Holder(Protocol):
    """An engine object of this process that may hold the lock file."""

    tag: Tag

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


_OURS: weakref.WeakValueDictionary[Path, Holder] = weakref.WeakValueDictionary()
"""Lock file -> who in this process holds it: an older claim here is closed, not killed."""


SCRIPTS = (".py", ".rb", ".php", ".js", ".pl", ".sh", ".jar")


def started(pid: int) -> int | None:
    """When a process began, in clock ticks since boot: tells it from a later one with the same number."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def command(pid: int) -> str:
    """The program and its script, never the other arguments: a password may stand in them."""
    try:
        program = Path(f"/proc/{pid}/comm").read_text().strip()
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "unknown"
    script = next((Path(a).name for a in arguments[1:3] if a.endswith(SCRIPTS)), "")
    return f"{program} {script}".strip()


def holders(path: Path) -> list[int]:
    """Processes, ours not among them, that have the file open, as far as we may look into them."""
    try:
        wanted = path.stat()
    except OSError:
        return []
    return [pid for pid in _processes() if pid != os.getpid() and _has_open(pid, wanted)]


def named(pids: list[int]) -> str:
    return ", ".join(f"process {pid} ({command(pid)})" for pid in pids)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False  # it ended, or belongs to somebody else
    return any(_is_open(f"/proc/{pid}/fd/{descriptor}", wanted) for descriptor in descriptors)


def _is_open(descriptor: str, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(descriptor), wanted)
    except OSError:
        return False  # closed meanwhile


class Claim:
    """The lock file of one engine object. `take` may be called again; `release` removes the file."""

    def __init__(self, sides: Sides, tag: Tag, owner: Holder) -> None:
        self.path, self.tag, self.owner = sides.lock, tag, owner
        self._descriptor: int | None = None

    @property
    def taken(self) -> bool:
        return self._descriptor is not None

    def take(self, seconds: float) -> int:
        """Returns how many older claims of this run target were ended. Raises Transient, AccessDenied."""
        ended = 0
        until = time.monotonic() + seconds
        while not self.taken:
            if self._try():
                break
            ended += self._end_older()
            if time.monotonic() > until:
                raise Transient("claiming", self.path.name, say("held by {who}", who=self._who()))
            time.sleep(0.05)
        return ended

    def release(self) -> None:
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

    def is_anothers(self) -> bool:
        """Whether a process that lives holds the file for another installation."""
        held = self._signature()
        return self.tag.is_anothers(held) and started(held["pid"]) == held["started"]

    def _try(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
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
        text = json.dumps({"pid": pid, "started": started(pid), **self.tag.mark, "token": self.tag.token})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
        os.fsync(descriptor)

    def _signature(self) -> dict[str, Any]:
        try:
            read = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return read if isinstance(read, dict) else {}

    def _who(self) -> str:
        held = self._signature()
        if not held:
            return say("another maintenance")
        return say(
            "run target {target} in process {pid} ({command})",
            target=held["target"],
            pid=held["pid"],
            command=command(held["pid"]),
        )

    def _end_older(self) -> int:
        """Ends an older claim of the same run target; anybody else is left alone."""
        held = self._signature()
        if not self.tag.wrote(held) or held.get("token", self.tag.token) >= self.tag.token:
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
