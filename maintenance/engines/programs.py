"""The only way to other programs.

A child dies with the thread that started it (`setpriv --pdeathsig`), has its own process group, never gets
a password in its arguments, and what it prints is masked before anyone sees it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

PIPE = subprocess.PIPE
TAIL = 4000
"""Characters of output kept for messages."""
LAST_WORDS = 1.0
"""Seconds in which the output of a child that has ended must have arrived."""


class CommandFailed(Exception):
    """A program was not there, ended with an error, took too long, or was stopped."""

    def __init__(self, program: str, why: str, output: str = "", returncode: int | None = None) -> None:
        self.program, self.why, self.output, self.returncode = program, why, output, returncode
        super().__init__(f"{program} {why}" + (f": {output}" if output else ""))


class CommandStopped(CommandFailed):
    """It was ended because `stop` was set."""


def environment(secrets: Mapping[str, str]) -> dict[str, str]:
    """A small environment in a fixed language, plus the secrets (e.g. PGPASSWORD) a child needs."""
    kept = {k: os.environ[k] for k in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if k in os.environ}
    return {**kept, "LC_ALL": "C.UTF-8", **secrets}


def masked(text: str, secrets: Mapping[str, str]) -> str:
    """Return the end of a program's output without the secrets it was given."""
    for secret in secrets.values():
        if len(secret) >= 3:
            text = text.replace(secret, "***")
    return text.strip()[-TAIL:]


@contextmanager
def running(
    args: Sequence[str],
    *,
    secrets: Mapping[str, str] | None = None,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stop: threading.Event | None = None,
    timeout: float | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child whose stdout (and stdin, with subprocess.PIPE) the caller streams.

    On leaving it is waited for; CommandFailed on a non-zero exit. `stop` or `timeout` (seconds) kill
    its group, which ends the caller's reading; then CommandStopped or CommandFailed is raised.
    """
    secrets = secrets or {}
    program = os.path.basename(args[0])
    with tempfile.TemporaryFile() as errors:
        child = _started(args, secrets, stdin, errors)
        reason: list[str] = []
        over = threading.Event()
        deadline = None if timeout is None else time.monotonic() + timeout
        watch = threading.Thread(target=_watch, args=(child, stop, deadline, over, reason), daemon=True)
        watch.start()
        failure: BaseException | None = None
        try:
            yield child
        except BaseException as error:
            failure = error
            if not isinstance(error, BrokenPipeError):
                _kill(child)
        finally:
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            returncode = child.wait()
            over.set()
            watch.join()
        errors.seek(0)
        output = masked(errors.read().decode(errors="replace"), secrets)
    if reason == ["stopped"]:
        raise CommandStopped(program, "was stopped on request", output, returncode) from failure
    if reason:
        raise CommandFailed(program, f"took longer than {timeout:.0f} s", output, returncode) from failure
    _judge(program, returncode, output, failure)


def _started(
    args: Sequence[str], secrets: Mapping[str, str], stdin: IO[bytes] | int, errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a child that dies with us. Raises CommandFailed where there is no such program."""
    try:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *args],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(secrets),
            process_group=0,
        )
    except OSError as error:
        raise CommandFailed(os.path.basename(args[0]), "could not be started", str(error)) from error


def _judge(program: str, returncode: int, output: str, failure: BaseException | None) -> None:
    """Raise what went wrong on our side (`failure`) or on the child's; a broken pipe is the child's."""
    if failure is not None and not isinstance(failure, BrokenPipeError):
        raise failure
    if returncode in (126, 127):  # of setpriv: it could not run the program
        raise CommandFailed(program, "could not be started", output, returncode)
    if returncode != 0 or failure is not None:
        raise CommandFailed(program, f"ended with exit code {returncode}", output, returncode) from failure


def run(
    args: Sequence[str],
    *,
    secrets: Mapping[str, str] | None = None,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stop: threading.Event | None = None,
    timeout: float | None = None,
) -> str:
    """Runs a child to its end and returns the tail of its stdout. Raises CommandFailed."""
    tail = b""
    with running(args, secrets=secrets, stdin=stdin, stop=stop, timeout=timeout) as child:
        for chunk in _said(child):
            tail = (tail + chunk)[-TAIL * 4 :]
    return masked(tail.decode(errors="replace"), secrets or {})


def _said(child: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """What it writes until its end. A daemon left behind may hold its output for ever, and is not waited for."""
    assert child.stdout is not None
    descriptor = child.stdout.fileno()
    readable = select.poll()
    readable.register(descriptor)
    until = None
    while until is None or time.monotonic() < until:
        if until is None and child.poll() is not None:
            until = time.monotonic() + LAST_WORDS
        if readable.poll(100):
            chunk = os.read(descriptor, 65536)
            if not chunk:
                return
            yield chunk


def _watch(
    child: subprocess.Popen[bytes],
    stop: threading.Event | None,
    deadline: float | None,
    over: threading.Event,
    reason: list[str],
) -> None:
    while not over.wait(0.1):
        if stop is not None and stop.is_set():
            reason.append("stopped")
        elif deadline is not None and time.monotonic() > deadline:
            reason.append("timeout")
        else:
            continue
        _kill(child)
        return


def _kill(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(2)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
