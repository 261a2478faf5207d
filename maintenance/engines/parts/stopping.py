"""Ending work when somebody asked for it."""

from __future__ import annotations

import threading

from ..errors import Interrupted


def raise_if_stopping(stopping: threading.Event, doing: str, object: str) -> None:
    """Call between pieces of long work. Raises Interrupted once the engine was asked to stop."""
    if stopping.is_set():
        raise Interrupted(doing, object, "stopped on request")
