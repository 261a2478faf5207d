"""What a run that needs an operator tells people to type is typed, word by word, and service is there again."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chaos.case import Case
from chaos.console import Console
from chaos.judge import MORE_OF, locked_out
from chaos.on_sqlite import OnSQLite
from maintenance.engines.messages import load
from tests.engines.conftest import short_folder

pytestmark = pytest.mark.sqlite


@pytest.fixture
def file() -> Iterator[OnSQLite]:
    folder = short_folder()
    made = OnSQLite(folder)
    made.fresh(damaged=False, other=True)
    yield made
    shutil.rmtree(folder)


def test_the_commands_of_a_file_that_needs_an_operator_bring_service_back(file: OnSQLite, tmp_path: Path) -> None:
    with closing(Console(tmp_path / "console", file)) as console:
        console.fresh()
        before = file.settings()
        died = console.maintain(Case("sqlite", "rebuild", "integrity error", "roll_back.data.started"))
        assert died.killed, died.output
        # The lock ended with the process; what an application writes now keeps the console from deciding.
        file.lab.sql("INSERT INTO ledger (id, word) VALUES (5000, 'since')")
        console.recover(Case("sqlite", "rebuild", "integrity error"))
        [(status,)] = console.asked("SELECT status FROM tbl_096_maintenance_run")
        assert status == "needs_operator"
        [(sentence,)] = console.asked("SELECT sentence FROM step_record WHERE node = 'X' AND part = ''")
        assert not console.flag.exists(), "applications wait for the person"
        sentence = load(json.loads(str(sentence)))
        commands = sentence.partition("without this console: ")[2]
        typed = subprocess.run(["sh", "-ec", commands], capture_output=True, text=True, timeout=30)
        assert (typed.returncode, typed.stderr) == (0, "")
        assert list(locked_out(file, console)) == []
        assert console.flag.exists(), "the commands start what was stopped"
        assert 5000 in file.ledger(), "what was written since stays"
        kept = file.kept()
        assert set(range(1, 501)) <= kept, "the rows of the cut are in the image that the sentence names"
        assert next(file.lab.path.parent.glob("shop.db.dbm*.image")).name in sentence
        after = file.settings()
        assert {k: v for k, v in after.items() if k not in MORE_OF} == {
            k: v for k, v in before.items() if k not in MORE_OF
        }
        assert not list(file.lab.path.parent.glob("*.marker*")), "nothing says any more that it is in work"
