"""Two consoles with control databases of their own, and one target: their runs have the same numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.acceptance.conftest import Console
from tests.acceptance.preloaded import Preloaded
from tests.engines.conftest import short_folder
from tests.engines.lab import Lab


@pytest.mark.every(3, 1)
def test_the_second_console_leaves_a_crashed_maintenance_of_the_first_to_it(
    lab: Lab, console: Console, migrated: Path, preloaded: Preloaded
) -> None:
    lab.fill()
    home = short_folder()
    try:
        shutil.copytree(migrated, home, dirs_exist_ok=True)
        (home / "secret.key").unlink()
        other = Console(home, preloaded)
        for one in (console, other):
            one.register(lab)
        code, died = other.maintain("rebuild", "--database", "shop", DBMAINT_CRASH_AT="cut_connections.finished")
        assert (code, died) == (-9, {})
        code, told = console.maintain("optimize", "--database", "shop")
        assert code == 4, told
        assert told["error"].startswith("shop: another installation of this console closed it")
        assert console.recover() == (0, [])
        code, recovered = other.recover()
        assert (code, [run["status"] for run in recovered]) == (0, ["succeeded"])
        code, told = console.maintain("optimize", "--database", "shop")
        assert (code, told["status"]) == (0, "succeeded"), told["ended_because"]
    finally:
        shutil.rmtree(home, ignore_errors=True)
