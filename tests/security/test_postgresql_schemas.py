"""Whoever owns the target may call a schema as ours are called: that hides nothing from the proof."""

from __future__ import annotations

import json

import pytest

from maintenance.engines.errors import Unable
from maintenance.engines.postgresql.fingerprints import differing
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer
from tests.engines.postgresql.conftest import lab, server
from tests.engines.postgresql.world import action, engine

__all__ = ["lab", "server"]
OURS = "dbm7_salvage"
HERS = """
CREATE SCHEMA {name}; CREATE TABLE {name}.rows (id int); INSERT INTO {name}.rows VALUES (1);
COMMENT ON SCHEMA {name} IS '{mark}'
"""


@pytest.fixture
def owned(lab: PostgreSQLLab, server: PostgreSQLServer) -> PostgreSQLLab:
    lab.fill()
    server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO shop_owner")
    return lab


def plant(lab: PostgreSQLLab, name: str, mark: object, user: str = "shop_owner") -> None:
    lab.server.run(lab.name, HERS.format(name=name, mark=json.dumps(mark)), user=user)


@pytest.mark.parametrize("user", ["shop_owner", "postgres"])
def test_a_schema_that_is_called_as_ours_are_hides_no_rows(owned: PostgreSQLLab, user: str) -> None:
    """Not with a genuine mark of another place either, nor where it belongs to our very account."""
    with engine(owned) as made:
        elsewhere = made.tag.signer.signed({"dbmaint": 1, **made.tag.mark}, "postgresql schema 1")
        plant(owned, OURS, elsewhere, user)
        plant(owned, "dbm1_hidden", {}, user)
        before = made.verifier.fingerprint(None)
        assert {f"{OURS}.rows", "dbm1_hidden.rows"} <= set(before)
        assert {f"table {OURS}.rows", "schema dbm1_hidden"} <= set(made.verifier.definitions())
        owned.sql("DELETE FROM dbm1_hidden.rows")
        assert differing(before, made.verifier.fingerprint(None)) == ["dbm1_hidden.rows"]
        assert made.rollback.leftovers() == []
        made.rollback.clean()
    assert owned.sql(f"SELECT count(*) FROM {OURS}.rows") == [(1,)]


def test_a_setting_of_the_database_leaves_no_schema_out(owned: PostgreSQLLab) -> None:
    plant(owned, "other", {})
    [(oid,)] = owned.sql("SELECT 'other'::regnamespace::oid")
    owned.sql(f"ALTER DATABASE {owned.name} SET dbmaint.schemas = '{{{oid}}}'")
    with engine(owned) as made:
        assert "other.rows" in made.verifier.fingerprint(None)


def test_a_salvage_writes_into_no_schema_that_is_not_its_own(owned: PostgreSQLLab) -> None:
    plant(owned, OURS, {})
    with engine(owned) as made, pytest.raises(Unable, match="schema dbm7_salvage belongs to shop_owner"):
        made.actions.perform(action("salvage"), True)
