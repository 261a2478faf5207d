"""For load balancers and watchdogs: no login, no words about any database."""

from __future__ import annotations

import time
from threading import Lock

from django.db import Error
from django.http import HttpRequest, JsonResponse

from maintenance import queue

LAST_ANSWER_COUNTS = 5.0
"""Seconds in which those who ask meanwhile get the last answer."""
_asking = Lock()
_last: tuple[float, int, dict[str, str | int]] | None = None


def healthz(request: HttpRequest) -> JsonResponse:
    """The process answers. Called by the first middleware, so that nothing else is needed for it."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """The control database answers and a worker lives: a launch would be carried out.

    However many ask, and however slow the database is, one of them at a time asks it in each process.
    """
    global _last
    if not _asking.acquire(blocking=False):
        at, status, told = _last or (0.0, 503, {})
        fresh = time.monotonic() - at < LAST_ANSWER_COUNTS
        return JsonResponse(told if fresh else {"status": "somebody asks already"}, status=status if fresh else 503)
    try:
        status, told = _ready()
        _last = (time.monotonic(), status, told)
    finally:
        _asking.release()
    return JsonResponse(told, status=status)


def _ready() -> tuple[int, dict[str, str | int]]:
    try:
        workers = queue.workers_alive()
    except Error:
        return 503, {"status": "the control database does not answer"}
    if not workers:
        return 503, {"status": "no worker is alive", "workers": 0}
    return 200, {"status": "ok", "workers": workers}
