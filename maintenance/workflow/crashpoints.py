"""Where the tests let this process die: at every write and every effect. Costs a look at one environment variable."""

from __future__ import annotations

import os
import threading
from collections import Counter

_passed: Counter[str] = Counter()
_counting = threading.Lock()


def point(name: str) -> None:
    """Let the process die here if DBMAINT_CRASH_AT names this point; do nothing otherwise.

    `action.started` is its first passing, `action.started#2` its second, `#137` the 137th of any point;
    with `+0.05` at the end the process dies that many seconds later, in the midst of what follows.
    """
    place = os.environ.get("DBMAINT_CRASH_AT")
    if place is None:
        return
    point, _, delay = place.partition("+")
    with _counting:
        _passed.update((name, ""))
        here = point in (f"{name}#{_passed[name]}", f"#{_passed['']}") or (point == name and _passed[name] == 1)
    if here:
        threading.Timer(float(delay), os.kill, (os.getpid(), 9)).start() if delay else os.kill(os.getpid(), 9)
