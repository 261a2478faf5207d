"""Stopping, starting and checking the applications that use a database."""

from __future__ import annotations

import time
from threading import Event

from maintenance.conf.config import Application
from maintenance.engines.errors import EngineError, Interrupted
from maintenance.engines.messages import Message, msg
from maintenance.engines.programs import CommandFailed, run

POLL_SECONDS = 0.5


class ApplicationFailed(EngineError):
    """An application did not do as it was told."""


def is_running(application: Application) -> bool:
    """Return what its check command says; exit 0 means running. Raises ApplicationFailed when it cannot be asked."""
    try:
        run(application.check, timeout=application.timeout_seconds)
    except CommandFailed as error:
        if error.returncode is None or error.returncode in (126, 127) or error.returncode < 0:
            raise ApplicationFailed("checking application", application.name, str(error)) from error
        return False
    return True


def stop(application: Application, stopping: Event) -> Message:
    """Stop it and wait until its check agrees; stopped already: fine. Raises ApplicationFailed, Interrupted."""
    _order(application, "stopping", application.stop, stopping, running=False)
    return msg("Stopped {application}.", application=application.name)


def start(application: Application, stopping: Event) -> Message:
    """Start it and wait until its check agrees; running already: fine. Raises ApplicationFailed, Interrupted."""
    _order(application, "starting", application.start, stopping, running=True)
    return msg("Started {application}.", application=application.name)


def _order(application: Application, doing: str, command: tuple[str, ...], stopping: Event, running: bool) -> None:
    if is_running(application) is running:
        return
    deadline = time.monotonic() + application.timeout_seconds
    try:
        run(command, timeout=application.timeout_seconds, stop=stopping)
    except CommandFailed as error:
        if stopping.is_set():
            raise Interrupted(doing, application.name, "stopped on request") from error
        raise ApplicationFailed(doing, application.name, str(error)) from error
    while is_running(application) is not running:
        if time.monotonic() > deadline:
            words = "its check still says it is running" if not running else "its check says it is not running"
            raise ApplicationFailed(doing, application.name, f"{words} after {application.timeout_seconds:.0f} s")
        if stopping.wait(POLL_SECONDS):
            raise Interrupted(doing, application.name, "stopped on request")
