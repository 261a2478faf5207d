"""The dead man's switch on real servers: the console's process is killed and nobody comes after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from maintenance.engines.errors import Unable
from maintenance.engines.values import Json
from tests.engines.lab import Lab

SECONDS = 4
OPENS_WITHIN = SECONDS + 15.0
CONSOLE = """
import json, sys, time
from sqlalchemy.engine import make_url
from maintenance.engines import open_engine
from maintenance.engines.values import Limits, Tag
engine = open_engine(make_url(sys.argv[1]), Tag(7, 1), Limits(lock_seconds=5, cut_seconds=10))
engine.lock.fence()
gate = engine.gate.read_state()
engine.gate.cut(gate, {"run": 5, "target": 7})
engine.switch.arm(gate, float(sys.argv[2]))
if sys.argv[3] == "disarmed":
    engine.switch.disarm()
    assert engine.gate.is_cut()
print(json.dumps(gate), flush=True)
while True:
    time.sleep(0.5)
    engine.switch.keepalive()
"""


@pytest.fixture
def served(lab: Lab) -> Lab:
    """A lab whose cut outlives its process."""
    if lab.url.get_backend_name() == "sqlite":
        pytest.skip("a lock on a file ends with its process")
    lab.fill()
    if lab.url.get_backend_name() != "postgresql":
        lab.sql("SET GLOBAL event_scheduler = ON")
    return lab


@contextmanager
def console(lab: Lab, ends: str = "armed") -> Iterator[tuple[subprocess.Popen[str], Json]]:
    """A process that has cut the target and lives; killed at the end of the block at the latest."""
    url = lab.url.render_as_string(hide_password=False)
    words = [sys.executable, "-c", CONSOLE, url, str(SECONDS), ends]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def lets_in(lab: Lab) -> bool:
    try:
        with lab.application() as client:
            client.execute("SELECT count(*) FROM orders")
    except Exception:
        return False
    return True


def opens(lab: Lab, within: float) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        if lets_in(lab):
            return True
        time.sleep(0.1)
    return False


def differences(lab: Lab, gate: Json) -> list[str]:
    with lab.engine(token=9) as engine:
        return engine.gate.differences(gate)


def test_when_the_whole_console_is_gone_the_target_opens_by_itself_as_before(served: Lab) -> None:
    with console(served) as (process, gate):
        assert not opens(served, SECONDS + 2), "a console that lives keeps it closed"
        process.send_signal(signal.SIGKILL)
        assert opens(served, OPENS_WITHIN)
    time.sleep(0.3)
    assert differences(served, gate) == []
    with served.engine(token=2) as engine:
        assert engine.lock.fence() == 0, "its own session has ended"
        assert not engine.gate.is_cut(), "who comes back learns that it was opened"
        assert engine.rollback.leftovers() == []


def test_a_successor_that_was_in_time_finds_it_closed_and_the_switch_ends_with_its_disarming(served: Lab) -> None:
    with console(served) as (process, gate):
        process.send_signal(signal.SIGKILL)
    with served.engine(token=2) as engine:
        engine.lock.fence()
        engine.switch.disarm()
        assert engine.gate.is_cut()
        assert not opens(served, SECONDS + 2)
        engine.gate.open(gate, None)
        assert engine.rollback.leftovers() == []
    assert differences(served, gate) == []


@pytest.mark.rare
def test_what_has_been_opened_and_changed_by_people_meanwhile_is_not_touched(served: Lab) -> None:
    with console(served) as (process, gate), served.engine(token=2) as person:
        person.gate.open(gate, None)
        served.sql(CHANGED_SINCE[person.name].format(name=served.url.database, account=f"app_{served.url.database}"))
        before = differences(served, gate)
        process.send_signal(signal.SIGKILL)
        time.sleep(SECONDS + 2)
        assert differences(served, gate) == before != []


CHANGED_SINCE = {
    "postgresql": "ALTER DATABASE {name} CONNECTION LIMIT 33",
    "mariadb": "ALTER USER '{account}'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 33",
    "mysql": "ALTER USER '{account}'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 33",
}


@pytest.mark.rare
def test_once_disarmed_it_stays_closed_until_a_person_types_what_opens_it(served: Lab) -> None:
    with console(served, "disarmed") as (process, gate):
        process.send_signal(signal.SIGKILL)
        assert not opens(served, SECONDS + 2)
    with served.engine(token=2) as engine:
        commands = engine.gate.manual_commands(gate)
    for command in commands:
        told = subprocess.run(
            command.replace(" -p ", " "),  # it asks for the password
            shell=True,
            env={**os.environ, "MYSQL_PWD": str(served.url.password or "")},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert told.returncode == 0, told.stderr
    assert lets_in(served)
    assert differences(served, gate) == []


def test_a_file_says_why_it_needs_none(lab: Lab) -> None:
    if lab.url.get_backend_name() != "sqlite":
        pytest.skip("a server's cut outlives its process")
    lab.fill()
    with lab.engine() as engine:
        engine.lock.fence()
        gate = engine.gate.read_state()
        with pytest.raises(Unable, match="ends with its process"):
            engine.switch.arm(gate, SECONDS)
