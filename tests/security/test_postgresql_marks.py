"""What the owner of another database can plant on a PostgreSQL server, and that nothing of it is believed.

Mallory owns a database of her own, may create more, and reads every comment and every session's name. She is no
superuser and owns nothing of the target.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import pytest

from maintenance.engines import open_engine
from maintenance.engines.errors import EngineError, Unable
from maintenance.engines.marks import Signer
from maintenance.engines.postgresql import PostgreSQL
from maintenance.engines.postgresql.identity import place
from maintenance.engines.values import Image, Json, Limits, Tag
from tests.acceptance.conftest import Console, console, migrated
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer
from tests.engines.postgresql.conftest import lab, server
from tests.engines.postgresql.world import MARKER, PLAIN, wait_until

__all__ = ["console", "lab", "migrated", "server"]
KEY, SITE = b"only the console knows it", "bcdfghjk"
LIMITS = Limits(jobs=2, lock_seconds=3, cut_seconds=8)
DIES_UNDER_THE_CUT = """
import json, sys
from sqlalchemy.engine import make_url
from maintenance.engines import open_engine
from maintenance.engines.marks import Signer
from maintenance.engines.values import Limits, Tag
engine = open_engine(make_url(sys.argv[1]), Tag(7, 1, sys.argv[3], Signer(sys.argv[2].encode())), Limits())
engine.lock.fence()
gate = engine.gate.read_state()
engine.gate.cut(gate, {"run": 5})
engine.switch.arm(gate, 3)
print(json.dumps(gate), flush=True)
sys.stdin.read()
"""


class Mallory:
    """An account without any right on the target."""

    def __init__(self, server: PostgreSQLServer) -> None:
        self.server = server
        server.run("postgres", "DROP ROLE IF EXISTS mallory")
        server.run("postgres", "CREATE ROLE mallory LOGIN CREATEDB")
        self.databases: list[str] = []

    def create(self, name: str, comment: str | None = None) -> None:
        self.run(f'CREATE DATABASE "{name}"')
        self.databases.append(name)
        self.run("CREATE TABLE hers (id int); INSERT INTO hers VALUES (1)", name)
        if comment is not None:
            self.comment(name, comment)

    def comment(self, name: str, text: str) -> None:
        quoted = text.replace("'", "''")
        self.run(f"COMMENT ON DATABASE \"{name}\" IS '{quoted}'")

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        return self.server.run(database, statement, user="mallory")

    def row(self, name: str) -> list[tuple[object, ...]]:
        """All that pg_database says of it, its comment, and her row in it."""
        about = f"""SELECT oid, datname, datdba, datconnlimit, datallowconn, datacl::text, datistemplate,
                    shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{name}'"""
        return [*self.server.run("postgres", about), *self.run("SELECT id FROM hers", name)]

    def marks(self) -> dict[str, str]:
        """Every comment in the form of a mark, by its database: anybody may read them."""
        asked = """SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database
                   WHERE shobj_description(oid, 'pg_database') LIKE '{"dbmaint"%'"""
        return {str(name): str(text) for name, text in self.run(asked)}


@pytest.fixture
def mallory(server: PostgreSQLServer, lab: PostgreSQLLab) -> Iterator[Mallory]:
    lab.fill()
    made = Mallory(server)
    yield made
    for name in made.databases:
        server.run("postgres", f'DROP DATABASE IF EXISTS "{name}"')
    server.run("postgres", "DROP ROLE mallory")


@contextmanager
def engine(lab: PostgreSQLLab, token: int = 1, user: str = "postgres") -> Iterator[PostgreSQL]:
    made = open_engine(lab.url.set(username=user), Tag(7, token, SITE, Signer(KEY)), LIMITS)
    assert isinstance(made, PostgreSQL)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def hidden(lab: PostgreSQLLab) -> Iterator[Json]:
    """The target as a worker left it that died under its cut."""
    with engine(lab) as crashed:
        gate = crashed.gate.read_state()
        crashed.gate.cut(gate, MARKER)
    yield gate
    with engine(lab, token=9) as last:
        last.lock.fence()
        last.gate.open(gate, None)
        assert last.gate.differences(gate) == []
    assert lab.sql("SELECT count(*) FROM customers") == [(2000,)]


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize("name", ["aaa_first", "zzz_last"])
def test_a_genuine_mark_copied_onto_another_database_opens_and_renames_nothing(
    lab: PostgreSQLLab, mallory: Mallory, name: str, journal: bool
) -> None:
    with hidden(lab) as gate:
        [mark] = mallory.marks().values()
        mallory.create(name, mark)
        before = mallory.row(name)
        with engine(lab, token=2) as successor:
            if journal:
                successor.gate.recall(gate)
            assert successor.verifier.fingerprint(["public.customers"])["public.customers"].rows == 2000
            successor.lock.fence()
            assert successor.gate.read_state() == gate
            assert successor.gate.is_cut()
            successor.gate.open(gate, None)
            assert successor.gate.differences(gate) == []
            successor.rollback.clean()
        assert mallory.row(name) == before


@pytest.mark.parametrize("signature", ["", "0" * 64, None])
def test_a_forged_mark_is_believed_nowhere(lab: PostgreSQLLab, mallory: Mallory, signature: str | None) -> None:
    with hidden(lab) as gate:
        forged = {"dbmaint": 1, "target": 7, "site": SITE, "method": "hide", "gate": {**gate, "owner": "mallory"}}
        if signature is not None:
            forged["signature"] = signature
        mallory.create("aaa_forged", json.dumps(forged))
        before = mallory.row("aaa_forged")
        with engine(lab, token=2) as successor:
            assert successor.verifier.fingerprint(["public.customers"])["public.customers"].rows == 2000
            successor.lock.fence()
            successor.gate.open(successor.gate.read_state(), None)
        assert mallory.row("aaa_forged") == before


def test_a_key_of_another_installation_signs_nothing_for_this_one(lab: PostgreSQLLab, mallory: Mallory) -> None:
    mallory.create("hers")
    [(oid,)] = mallory.run("SELECT oid FROM pg_database WHERE datname = 'hers'")
    about: Json = {"dbmaint": 1, "target": 7, "site": SITE, "role": "image"}
    with engine(lab) as made:
        mallory.comment("hers", json.dumps(Signer(b"another").signed(about, place(int(str(oid))))))
        with made.target.control("looking") as connection:
            entry = made.target.identity.named(connection, "hers")
        assert entry is not None
        assert entry.mark is None


@pytest.mark.parametrize("marked", [True, False])
def test_a_neighbour_that_took_the_targets_name_is_left_alone_and_named(
    lab: PostgreSQLLab, mallory: Mallory, marked: bool
) -> None:
    with hidden(lab) as gate:
        [mark] = mallory.marks().values()
        mallory.create(lab.name, mark if marked else None)
        before = mallory.row(lab.name)
        with engine(lab, token=2) as successor:
            successor.gate.recall(gate)
            assert successor.verifier.fingerprint(["public.customers"])["public.customers"].rows == 2000
            successor.lock.fence()
            with pytest.raises(Unable, match="which belongs to mallory, has taken the name"):
                successor.gate.open(gate, None)
            successor.rollback.clean()
            assert successor.gate.is_cut()
        assert mallory.row(lab.name) == before
        mallory.run(f'ALTER DATABASE "{lab.name}" RENAME TO hers')
        mallory.databases.append("hers")


def test_a_target_that_changed_hands_while_it_was_closed_is_not_opened(lab: PostgreSQLLab, mallory: Mallory) -> None:
    with hidden(lab) as gate:
        lab.server.run("postgres", f'ALTER DATABASE "{gate["hidden"]}" OWNER TO mallory')
        words = "it belongs to mallory and belonged to postgres"
        with engine(lab, token=2) as successor, pytest.raises(Unable, match=words):
            successor.gate.open(gate, None)
        lab.server.run("postgres", f'ALTER DATABASE "{gate["hidden"]}" OWNER TO postgres')


@pytest.mark.parametrize("role", ["image", "restore", "broken"])
@pytest.mark.parametrize("planted", ["bare", "forged", "copied"])
def test_a_planted_side_database_is_neither_dropped_nor_put_in_the_targets_place(
    lab: PostgreSQLLab, mallory: Mallory, role: str, planted: str
) -> None:
    with engine(lab) as made:
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        name = made.target.identity.side_name(role)
        with hidden(lab) as gate:
            [genuine] = mallory.marks().values()
            forged = json.dumps({**json.loads(genuine), "role": role, "complete": True, "replaced_by": gate["oid"]})
            mallory.create(name, {"bare": None, "forged": forged, "copied": genuine}[planted])
            before = mallory.row(name)
            made.gate.cut(gate, MARKER)
            assert made.rollback.leftovers() == [gate["hidden"], f"marker on {lab.name}"]
            for kind in ("copy", "dump"):
                image = Image("copy", name, 1) if kind == "copy" else Image("dump", str(backup.path), 1)
                with pytest.raises(EngineError):
                    made.rollback.swap(made.rollback.restore_beside(image, backup, PLAIN), gate, MARKER)
            made.rollback.clean()
            assert mallory.row(name) == before
            assert made.gate.is_cut()
            assert made.verifier.fingerprint(["public.customers"])["public.customers"].rows == 2000
            made.rollback.clean()


def test_a_planted_lock_keeps_nobody_away(lab: PostgreSQLLab, mallory: Mallory) -> None:
    """Any account may take an advisory lock, and any session may call itself as another installation does."""
    taken = lab.server.connect("postgres", "mallory")
    with taken.cursor() as cursor:
        cursor.execute("SET application_name = 'dbmaint:zxwvtsrq7:1'")
        cursor.execute(
            f"SELECT pg_advisory_lock(hashtextextended('dbmaint:{lab.name}', n)) FROM generate_series(0, 1) n"
        )
    with engine(lab) as made:
        assert made.lock.held_by_other_installation() is None
        made.lock.fence()
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []
    taken.close()


def test_a_marker_that_claims_another_installation_closed_what_is_open_is_a_comment(
    lab: PostgreSQLLab, mallory: Mallory
) -> None:
    claim = json.dumps({"dbmaint": 1, "target": 3, "site": "zxwvtsrq", "method": "hide", "gate": {"allow": False}})
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO mallory")
    mallory.comment(lab.name, claim)
    with engine(lab) as made:
        assert made.lock.held_by_other_installation() is None
        made.lock.fence()
        gate = made.gate.read_state()
        assert (gate["comment"], gate["allow"]) == (claim, True)
        made.gate.cut(gate, MARKER)
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO postgres")


def test_a_claim_to_have_hidden_the_target_elsewhere_does_not_touch_an_open_one(
    lab: PostgreSQLLab, mallory: Mallory
) -> None:
    claim = {"dbmaint": 1, "target": 3, "site": "zxwvtsrq", "method": "hide", "gate": {"database": lab.name}}
    mallory.create("aaa_claims", json.dumps(claim))
    with engine(lab) as made:
        assert made.lock.held_by_other_installation() is None
        made.lock.fence()


def test_a_session_that_calls_itself_as_ours_do_is_ended_by_the_cut(lab: PostgreSQLLab, mallory: Mallory) -> None:
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO plain_owner")
    with engine(lab, user="plain_owner") as made:
        inside = lab.server.connect(lab.name, "mallory")
        with inside.cursor() as cursor:
            cursor.execute("SELECT set_config('application_name', %s, false)", [made.tag.session])
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        with pytest.raises(psycopg2.Error), inside.cursor() as cursor:
            cursor.execute("SELECT 1")
        made.gate.open(gate, None)
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO postgres")


def test_the_switch_opens_the_target_and_nothing_else_whatever_others_plant(
    lab: PostgreSQLLab, mallory: Mallory
) -> None:
    words = [sys.executable, "-c", DIES_UNDER_THE_CUT, str(lab.url), KEY.decode(), SITE]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        gate = json.loads(process.stdout.readline())
        [(name, mark)] = mallory.marks().items()
        assert name == gate["hidden"]
        mallory.create("aaa_copied", mark)
        before = mallory.row("aaa_copied")
        lock = lab.server.connect("postgres", "mallory")
        with lock.cursor() as cursor:
            cursor.execute(f"SET application_name = 'dbmaint:{SITE}7:1'")
        os.kill(process.pid, signal.SIGKILL)

        def grabbed() -> bool:
            """She takes the lock as soon as the dead process's session gives it back."""
            with lock.cursor() as cursor:
                cursor.execute(f"SELECT pg_try_advisory_lock(hashtextextended('dbmaint:{lab.name}', 0))")
                return bool(cursor.fetchall()[0][0])

        wait_until("the lock is free", grabbed)
    opened = f"SELECT 1 FROM pg_database WHERE oid = {gate['oid']} AND datname = '{lab.name}' AND datallowconn"
    wait_until("the switch opened the target", lambda: lab.server.run("postgres", opened))
    time.sleep(1)
    lock.close()
    assert mallory.row("aaa_copied") == before
    with engine(lab, token=2) as made:
        assert made.gate.differences(gate) == []


def test_a_switch_of_somebody_else_does_not_pass_for_ours(lab: PostgreSQLLab, mallory: Mallory) -> None:
    posing = lab.server.connect("postgres", "mallory")
    with engine(lab) as made:
        with posing.cursor() as cursor:
            cursor.execute("SELECT set_config('application_name', %s, false)", [f"{made.tag.session}:switch"])
        pid = posing.get_backend_pid()
        made.lock.fence()
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        made.switch.arm(gate, 60)
        ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%:switch' AND usename = 'postgres'"
        assert lab.server.run("postgres", ours) == [(1,)]
        made.switch.disarm()
        assert lab.server.run("postgres", f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") == [(1,)]
        made.gate.open(gate, None)
    posing.close()


def test_the_black_box_alone_releases_the_target_and_nothing_else(
    lab: PostgreSQLLab, mallory: Mallory, console: Console
) -> None:
    console.register(lab)
    code, _ = console.maintain("rebuild", "--database", "shop", DBMAINT_CRASH_AT="cut_connections.fingerprint.started")
    assert code == -signal.SIGKILL
    [(name, mark)] = [(name, mark) for name, mark in mallory.marks().items() if '"gate"' in mark]
    box = next(lab.folder.glob("black-box-*.jsonl")).read_text()
    gate = next(line["gate"] for line in map(json.loads, filter(None, box.splitlines())) if line.get("gate"))
    [(oid,)] = lab.server.run("postgres", f"SELECT oid FROM pg_database WHERE datname = '{name}'")
    assert (gate["oid"], gate["owner"], gate["hidden"]) == (oid, "postgres", name)
    for path in console.home.glob("*.sqlite3*"):
        path.unlink()
    mallory.create("aaa_copied", mark)
    mallory.create(lab.name, mark)
    copied, taken = mallory.row("aaa_copied"), mallory.row(lab.name)
    refused = console.run("release", "shop")
    assert refused.returncode == 3
    assert "mallory" in refused.stderr
    assert mallory.row(lab.name) == taken
    mallory.run(f'ALTER DATABASE "{lab.name}" RENAME TO hers')
    mallory.databases.append("hers")
    done = console.run("release", "shop")
    assert done.returncode == 0, done.stderr
    assert mallory.row("aaa_copied") == copied
    [(found,)] = lab.server.run("postgres", f"SELECT oid FROM pg_database WHERE datname = '{lab.name}'")
    assert found == oid
