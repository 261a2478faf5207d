"""The control database: waited for while it does not answer, and seen as a target would be, so that nobody
maintains it with itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connection
from sqlalchemy import URL

log = logging.getLogger("maintenance")
P = ParamSpec("P")
R = TypeVar("R")


def wait_for_control_database(function: Callable[P, R]) -> Callable[P, R]:
    """Waits while the control database is locked or gone."""

    def waiting(*args: P.args, **kwargs: P.kwargs) -> R:
        until = time.monotonic() + settings.PATIENCE_SECONDS
        while True:
            try:
                return function(*args, **kwargs)
            except (OperationalError, InterfaceError):
                if time.monotonic() > until or connection.in_atomic_block:
                    raise
                log.warning("The control database does not answer; waiting for it.", exc_info=True)
                time.sleep(1)
                close_old_connections()

    return waiting


def control_url(of: Mapping[str, Any]) -> URL:
    """From Django's settings of a database connection."""
    if of["ENGINE"].endswith("sqlite3"):
        return URL.create("sqlite", database=str(of["NAME"]))
    return URL.create(
        "postgresql",
        username=of.get("USER") or None,
        password=of.get("PASSWORD") or None,
        host=of.get("HOST") or None,
        port=int(of["PORT"]) if of.get("PORT") else None,
        database=str(of["NAME"]),
    )
