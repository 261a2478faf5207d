"""Logs of specification 7.2: JSON lines with run and database, kept as long as specified, without passwords."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from dbmaint_site import settings as site
from maintenance.conf import logs, secrets
from maintenance.models import MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Logging as an installation has it, in a folder of the test's."""
    handlers = {
        name: {**values, "folder": tmp_path} if "folder" in values else values
        for name, values in site.LOGGING["handlers"].items()  # type: ignore[attr-defined]
    }
    logging.config.dictConfig({**site.LOGGING, "handlers": handlers})
    yield tmp_path
    for name in ("maintenance", "performance", "reports", "django", "django-q"):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.propagate = True


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(x) for path in sorted(folder.glob(f"{kind}-*.jsonl")) for x in path.read_text().splitlines()]


@pytest.mark.django_db(transaction=True)
class TestARun:
    @pytest.fixture
    def run(
        self, folder: Path, fake: Callable[..., MaintenanceSetting], request_for: Callable[..., Request], someone: Actor
    ) -> Callable[..., str]:
        def go(**faults: Any) -> str:
            fake("shop", **faults)
            made = launch.launch(someone, request_for("shop"), enqueue=False)
            runner.advance(made.targets.get().pk)
            return made.number

        return go

    @pytest.mark.long
    def test_every_line_names_run_and_database(self, run: Callable[..., str], folder: Path) -> None:
        number = run()
        told = [x for x in lines(folder, "maintenance") if "step" in x]
        assert {(x["run"], x["database"]) for x in told} == {(number, "shop")}
        assert [x["step"] for x in told if "object" not in x][:3] == ["start", "diagnose", "decide"]
        assert lines(folder, "error") == []

    @pytest.mark.long
    def test_what_was_measured_is_in_the_performance_log(self, run: Callable[..., str], folder: Path) -> None:
        number = run()
        told = lines(folder, "performance")
        assert {x["run"] for x in told} == {number}
        assert {x["figures"]["phase"] for x in told if x["step"] == "measure"} == {"before", "after"}
        assert any(x.get("object") == "load test" for x in told)

    @pytest.mark.long
    def test_the_error_log_has_the_error_and_the_response(self, run: Callable[..., str], folder: Path) -> None:
        run(perform=["permanent"])
        told = lines(folder, "error")
        assert any(x["level"] == "ERROR" for x in told)
        assert any(x["step"] == "roll_back" and x["level"] == "INFO" for x in told)


class TestFiles:
    def handler(self, folder: Path, days: int = 184) -> logs.DailyFile:
        made = logs.DailyFile(folder, "performance", days)
        made.setFormatter(logs.JsonLine())
        return made

    def record(self, message: str, at: datetime) -> logging.LogRecord:
        made = logging.LogRecord("performance", logging.INFO, __file__, 1, message, None, None)
        made.created = at.timestamp()
        return made

    def test_a_new_day_is_a_new_file_and_old_ones_go(self, tmp_path: Path) -> None:
        handler = self.handler(tmp_path)
        first = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
        for days in (0, 1, 184, 185):
            handler.emit(self.record("x", first + timedelta(days)))
        handler.close()
        kept = sorted(path.name for path in tmp_path.iterdir())
        assert kept[0] == "performance-2026-03-02.jsonl"
        assert len(kept) == 3

    def test_files_of_other_kinds_stay(self, tmp_path: Path) -> None:
        (tmp_path / "error-2020-01-01.jsonl").write_text("")
        self.handler(tmp_path).emit(self.record("x", datetime.now(UTC)))
        assert (tmp_path / "error-2020-01-01.jsonl").exists()

    def test_specification_7_2(self) -> None:
        assert site.KEEP_LOGS_DAYS == {"maintenance": 366, "error": 366, "performance": 184}

    def test_a_full_disk_never_stops_the_work(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.handler(Path("/dev/null/logs")).emit(self.record("x", datetime.now(UTC)))
        assert "NotADirectoryError" in capsys.readouterr().err

    @pytest.mark.long
    def test_processes_write_whole_lines_side_by_side(self, tmp_path: Path) -> None:
        code = (
            "import logging, sys; from maintenance.conf.logs import DailyFile, JsonLine\n"
            f"h = DailyFile({str(tmp_path)!r}, 'maintenance', 366); h.setFormatter(JsonLine())\n"
            "log = logging.getLogger('x'); log.addHandler(h); log.setLevel('INFO')\n"
            "for n in range(200): log.info(sys.argv[1] * 20000)\n"
        )
        writers = [
            subprocess.Popen([sys.executable, "-c", code, letter], cwd=Path(__file__).parents[2]) for letter in "ab"
        ]
        assert [w.wait(60) for w in writers] == [0, 0]
        found = [x["message"] for x in lines(tmp_path, "maintenance")]
        assert sorted(found) == ["a" * 20000] * 200 + ["b" * 20000] * 200

    def test_only_owner_and_group_read_it(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            self.handler(tmp_path).emit(self.record("x", datetime.now(UTC)))
        finally:
            os.umask(before)
        assert [p.stat().st_mode & 0o777 for p in tmp_path.iterdir()] == [0o640]


CANARY = "C4nary'Pass-905"


@pytest.mark.parametrize(
    "text",
    [
        f"could not connect to postgresql://dba:{CANARY}@db1:5432/shop",
        "ALTER USER shop IDENTIFIED BY 'C4nary''Pass-905' REQUIRE SSL",
        f'{{"password": "{CANARY}"}}',
        f"PGPASSWORD is not it, but password={CANARY}",
        f'Authorization: Bearer "{CANARY}"',
        f'secret = "{CANARY}"',
    ],
)
def test_what_looks_like_a_password_is_masked(text: str) -> None:
    said = secrets.masked(text)
    assert "Pass-905" not in said
    assert "***" in said


def test_ordinary_sentences_stay_as_they_are() -> None:
    for text in (
        "The password is wrong.",
        "Backed up shop into /backups/shop.zst: 12 MB.",
        "http://127.0.0.1:8905/runs/1/ by dba@example.com",
        "postgresql://dba@db1:5432/shop",
    ):
        assert secrets.masked(text) == text


def test_a_password_that_was_opened_is_masked_wherever_it_turns_up(folder: Path) -> None:
    plain = "näver/séen 905%"
    secrets.open_secret(secrets.seal_secret(plain, "shop"), "shop")
    url = make_url("mysql://u@h/d").set(password=plain)
    log = logging.getLogger("maintenance")
    try:
        raise RuntimeError(f"login with {plain} failed")
    except RuntimeError:
        log.exception(
            "%s said %r",
            url.render_as_string(hide_password=False),
            plain,
            extra={"figures": {"x": [plain]}, "run": plain},
        )
    text = "".join(p.read_text() for p in folder.iterdir())
    assert "login with *** failed" in text
    assert "seen" not in text
    assert "905%" not in text
