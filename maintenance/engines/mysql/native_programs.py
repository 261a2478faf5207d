"""The programs that write and read backups, and their failures as ours."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .. import archive, programs
from ..errors import Unable
from ..messages import msg
from .driver_errors import from_command
from .target import Server


@contextmanager
def failures_told(doing: str, object: str) -> Iterator[None]:
    """Turn failures of tools and files into our errors: those of tools by the server's codes that they quote."""
    try:
        with archive.failures_told(doing, object):
            yield
    except programs.CommandFailed as error:
        raise from_command(error, doing, object) from error


def program(names: Sequence[str], server: Server) -> str:
    """Where the first of them is that is installed. Raises Unable when none is."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise Unable(
            "backing up",
            server.schema,
            msg("none of {names} is installed on the console's machine", names=", ".join(names)),
        )
    return found
