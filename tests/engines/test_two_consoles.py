"""Two installations that count their run targets alike, on one real database: neither touches what is the other's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from maintenance.engines import open_engine
from maintenance.engines.base import Engine
from maintenance.engines.errors import Transient, Unable
from maintenance.engines.parts import AT_WORK_ELSEWHERE, CLOSED_BY_ANOTHER
from maintenance.engines.values import Json, Limits, Tag
from tests.engines.lab import Lab
from tests.engines.lab_postgresql import PostgreSQLLab

OURS, THEIRS = "bcdfghjk", "zxwvtsrq"


@contextmanager
def console(lab: Lab, site: str, token: int = 1) -> Iterator[Engine]:
    """Work on run target 7 of the installation `site`."""
    engine = open_engine(lab.url, Tag(7, token, site), Limits(jobs=2, lock_seconds=1, cut_seconds=10))
    try:
        yield engine
    finally:
        engine.close()


def switches(lab: Lab) -> int:
    """How many dead man's switches wait on the server, by its own lists."""
    if isinstance(lab, PostgreSQLLab):
        asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%:switch' AND state = 'active'"
        return int(str(lab.server.run("postgres", asked)[0][0]))
    if lab.url.get_backend_name() == "sqlite":
        return 0
    return int(str(lab.sql("SELECT count(*) FROM information_schema.events WHERE event_name = 'opens'")[0][0]))


def test_what_another_installation_works_on_is_left_alone(lab: Lab) -> None:
    lab.fill()
    if lab.url.get_backend_name() in ("mysql", "mariadb"):
        lab.sql("SET GLOBAL event_scheduler = ON")
    with console(lab, THEIRS) as theirs:
        theirs.lock.fence()
        assert theirs.lock.held_by_other_installation() is None
        gate = theirs.gate.read_state()
        theirs.gate.cut(gate, {"run": "1", **theirs.tag.mark})
        with suppress(Unable):  # of a file, and of a server whose scheduler is off
            theirs.switch.arm(gate, 60)
        waiting = switches(lab)
        assert waiting == int(not theirs.gate.dies_with_worker)
        before = theirs.verifier.fingerprint(None)
        with console(lab, OURS, token=2) as ours:
            assert ours.lock.held_by_other_installation() == AT_WORK_ELSEWHERE
            with pytest.raises(Transient):
                ours.lock.fence()
            ours.switch.disarm()
            assert ours.rollback.leftovers() == []
            assert not ours.gate.is_cut()
        assert theirs.gate.is_cut()
        assert theirs.verifier.fingerprint(None) == before
        assert switches(lab) == waiting
        theirs.switch.disarm()
        theirs.gate.open(gate, None)
        assert theirs.gate.differences(gate) == []
    with console(lab, OURS, token=2) as ours:
        assert ours.lock.held_by_other_installation() is None
        assert ours.lock.fence() == 0


def test_what_a_crashed_one_closed_is_left_to_it(lab: Lab) -> None:
    lab.fill()
    with console(lab, THEIRS) as crashed:
        crashed.lock.fence()
        gate = crashed.gate.read_state()
        crashed.gate.cut(gate, {"run": "1", **crashed.tag.mark})
    with console(lab, OURS, token=2) as ours:
        assert ours.lock.held_by_other_installation() == CLOSED_BY_ANOTHER
        with pytest.raises(Unable, match="another installation of this console closed it"):
            ours.lock.fence()
    with console(lab, THEIRS, token=2) as successor:
        successor.lock.fence()
        assert successor.gate.read_state() == gate
        successor.gate.open(gate, None)
        assert successor.gate.differences(gate) == []
        successor.rollback.clean()
        assert successor.rollback.leftovers() == []


def test_the_names_of_the_version_without_letters_are_found_again(lab: Lab) -> None:
    old: Json = {"dbmaint": 1, "run": "1", "target": 7}
    lab.fill()
    with console(lab, "") as crashed:
        assert (crashed.tag.session, crashed.tag.suffix) == ("dbmaint:7:1", "dbm7")
        crashed.lock.fence()
        gate = crashed.gate.read_state()
        crashed.gate.cut(gate, old)
    with console(lab, OURS) as later:
        assert later.lock.held_by_other_installation() is None
    with console(lab, "", token=2) as successor:
        successor.lock.fence()
        assert json.dumps(successor.gate.read_state()) == json.dumps(gate)
        successor.gate.open(gate, None)
        assert successor.gate.differences(gate) == []
