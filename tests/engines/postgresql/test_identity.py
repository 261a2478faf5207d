"""Who a database is, how people call its tables, and whose turn it is."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from maintenance.engines import open_engine
from maintenance.engines.errors import Transient, Unreachable
from maintenance.engines.values import Limits, Tag
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer

from .world import engine


def test_two_ways_to_the_same_database_have_one_identity_and_another_database_has_another(
    server: PostgreSQLServer,
) -> None:
    first, second = server.fresh(), server.fresh()
    by_socket = make_url(f"postgresql://postgres@:{server.server.port}/{first.name}?host={server.server.folder}")
    with engine(first) as a, engine(second) as b:
        c = open_engine(by_socket, Tag(8, 1), Limits())
        assert a.sessions.facts().identity == c.sessions.facts().identity != b.sessions.facts().identity
        c.close()


def test_an_unreachable_server_is_told_without_the_password() -> None:
    made = open_engine(make_url("postgresql://dba:geheim123@127.0.0.1:1/shop"), Tag(7, 1), Limits())
    with pytest.raises(Unreachable) as caught:
        made.sessions.facts()
    assert "geheim123" not in str(caught.value)
    assert "Connection refused" in str(caught.value)


def test_a_missing_database_is_unreachable(lab: PostgreSQLLab) -> None:
    made = open_engine(lab.url.set(database="nowhere"), Tag(7, 1), Limits())
    with pytest.raises(Unreachable, match="does not exist"):
        made.sessions.facts()


def test_tables_are_found_by_what_people_call_them_and_a_partitioned_one_by_its_partitions(lab: PostgreSQLLab) -> None:
    lab.difficult()
    with engine(lab) as made:
        found, unknown = made.sessions.resolve(["Order", "measures", "public.顧客", 'public."user"', "nothing"])
    assert found == ['public."Order"', "public.measures_2024", "public.measures_2025", 'public."顧客"', 'public."user"']
    assert unknown == ["nothing"]


def test_a_later_claim_ends_the_sessions_of_an_earlier_one_and_takes_the_lock(lab: PostgreSQLLab) -> None:
    with engine(lab, token=1) as old, engine(lab, token=2) as new:
        assert old.lock.fence() == 0
        assert new.lock.fence() >= 1
        other = open_engine(lab.url, Tag(99, 1), Limits())
        with pytest.raises(Transient, match="another maintenance"):
            other.lock.fence()
        other.close()
