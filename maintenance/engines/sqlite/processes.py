"""Processes of this machine, and which of them have a file open."""

from __future__ import annotations

import os
from pathlib import Path

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
