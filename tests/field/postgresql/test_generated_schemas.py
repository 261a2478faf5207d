"""Databases of random schemas, restored beside and compared from outside: by pg_dump of both sides."""

from __future__ import annotations

import difflib
import re
import subprocess

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from maintenance.engines.postgresql.native_programs import program
from maintenance.engines.values import RestoreBudget
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer
from tests.engines.postgresql.world import MARKER, PLAIN, engine

from .schemas import SCHEMAS, made

DATABASES = 20
"""Of ten schemas each."""


def dumped(lab: PostgreSQLLab, database: str) -> str:
    """All of a database as the product's own tool writes it, without what differs from one dump to the next."""
    url = lab.url.set(drivername="postgresql", database=database).render_as_string()
    text = subprocess.run([program("pg_dump", 15), url], check=True, capture_output=True, text=True).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)


def unlike(one: str, other: str) -> str:
    return "\n".join(list(difflib.unified_diff(one.splitlines(), other.splitlines(), "live", "copy", lineterm=""))[:60])


def walk(lab: PostgreSQLLab, stale: bool) -> None:
    with engine(lab) as console:
        before = dumped(lab, lab.name)
        backup = console.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        tested = console.rollback.restore_test(backup, PLAIN, RestoreBudget())
        assert tested is not None
        assert tested.extent == ("copy" if stale else "full"), tested.why
        if tested.side:
            assert not unlike(before, dumped(lab, tested.side))
        gate = console.gate.read_state()
        console.gate.cut(gate, MARKER)
        baseline = console.verifier.fingerprint(None)
        assert [name for name, found in baseline.items() if not found.readable] == []
        image = console.backups.image(backup, baseline, lab.folder, "image", PLAIN)
        side = console.rollback.restore_beside(image, backup, PLAIN)
        assert console.verifier.fingerprint(None, side) == baseline
        console.rollback.swap(side, gate, MARKER)
        console.gate.open(gate, None)
        console.rollback.clean()
        assert console.rollback.leftovers() == []
    assert not unlike(before, dumped(lab, lab.name))


@given(schemas=SCHEMAS, stale=st.booleans())
@settings(
    max_examples=DATABASES,
    deadline=None,
    database=None,
    phases=(Phase.generate,),  # A cycle takes seconds: what differs is told by the difference of the dumps.
    suppress_health_check=list(HealthCheck),
)
def test_what_is_restored_beside_is_the_same_from_outside(
    server: PostgreSQLServer, schemas: list[list[tuple[str, int]]], stale: bool
) -> None:
    with server.lent() as lab:
        with lab.application("postgres") as client:
            for number, objects in enumerate(schemas):
                for statement in made(number, objects, with_stale=stale and number == 0).statements:
                    client.execute(statement)
        walk(lab, stale)
