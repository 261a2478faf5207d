"""How a backup file comes about: under another name until it was read back, with every failure told as ours."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .. import programs
from ..archive import ArchiveError, Seal
from ..errors import EngineError, ResourceShortage, Unable
from ..messages import msg
from .driver_errors import from_command
from .target import Server


@contextmanager
def removed_unless_good(part: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def under_its_name(part: Path, final: Path, seal: Seal) -> Iterator[Path]:
    """A second name for a moment: how a file is opened is told by its ending, which `.part` hides."""
    named = part.with_name(f"{final.name}.check{seal.extension}")
    named.unlink(missing_ok=True)
    named.hardlink_to(part)
    try:
        yield named
    finally:
        named.unlink(missing_ok=True)


@contextmanager
def failures_told(doing: str, object: str) -> Iterator[None]:
    """Failures of tools and files in our tree."""
    try:
        yield
    except programs.CommandFailed as error:
        raise from_command(error, doing, object) from error
    except ArchiveError as error:
        raise EngineError(doing, object, str(error)) from error
    except OSError as error:
        raise ResourceShortage(doing, object, str(error)) from error


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
