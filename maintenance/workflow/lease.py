"""Who works on a run target, and whether that worker is still there."""

from __future__ import annotations

import hashlib
import os
import socket
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from maintenance.models import ACTIVE, RunTarget, Status

MACHINE_ID = Path("/etc/machine-id")


def _place() -> tuple[str, str]:
    """This host and its namespace of process ids (containers may share a host name), and this boot of it.

    Hosts may share a name too: the machine's id, of which only a digest is told, keeps them apart where there is one.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    machine = MACHINE_ID.read_bytes().strip() if MACHINE_ID.exists() else b""
    host = f"{socket.gethostname()}/{hashlib.sha256(machine).hexdigest()[:8] if machine else '-'}"
    return f"{host}/{os.stat('/proc/self/ns/pid').st_ino}", boot[:8]


def _born(pid: int) -> str | None:
    """When the process began, in clock ticks since boot: unlike a time of day nothing moves it. None: no process."""
    try:
        # The program's name, in parentheses, may hold anything; field 22 of the whole is 20 of the rest.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def this_worker() -> str:
    """Return place, process id, and boot with start time, so that a reused id is not taken for us."""
    place, boot = _place()
    return f"{place}:{os.getpid()}:{boot}/{_born(os.getpid())}"


def worker_is_gone(worker: str) -> bool:
    """Return True only when it surely is gone: a process of this host that no longer runs."""
    try:
        place, pid, birth = worker.rsplit(":", 2)
        boot, ticks = birth.split("/")
    except ValueError:
        return False
    here, this_boot = _place()
    return place == here and (boot != this_boot or _born(int(pid)) != ticks)


def worker_lost(target: RunTarget) -> bool:
    """Return what pages tell of a target in work: its worker is gone, gave it up, or was silent for a whole lease."""
    if target.status not in (Status.RUNNING, Status.CANCELLING) or target.beat_at is None:
        return False
    silent = timezone.now() - target.beat_at > timedelta(seconds=settings.LEASE_SECONDS)
    return silent or target.lease_until is None or worker_is_gone(target.worker)


def out_of_lease() -> Q:
    """Return the condition that no lease is in force; one too far ahead is of a clock that has jumped since."""
    now, lease = timezone.now(), timedelta(seconds=settings.LEASE_SECONDS)
    return Q(lease_until__isnull=True) | Q(lease_until__lt=now) | Q(lease_until__gt=now + 2 * lease)


def abandoned() -> Q:
    """Return the condition for targets that were worked on and whose lease ran out, by the clock of this host."""
    return Q(status__in=[Status.RUNNING, Status.CANCELLING]) & out_of_lease()


def expire(token: int, beat_at: datetime | None, target_id: int) -> bool:
    """Take the lease from a worker that was watched and is silent; return False when it was heard meanwhile."""
    silent = RunTarget.objects.filter(pk=target_id, token=token, beat_at=beat_at, status__in=ACTIVE)
    return bool(silent.update(lease_until=None))
