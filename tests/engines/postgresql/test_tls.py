"""Who must come by TLS, as pg_hba.conf says; only where the account may read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from maintenance.engines.postgresql import PostgreSQL
from maintenance.engines.values import Limits, Tag
from maintenance.workflow.steps.verify import still_guarded
from maintenance.workflow.verdict import failed_checks
from tests.engines.lab_postgresql import PostgreSQLLab

from .world import engine

RULES = """
hostssl all shop_app 10.0.0.0/8 scram-sha-256
hostssl {name},other all all ldap ldapserver=d ldapbasedn="o=x" ldapbinddn="o=x" ldapbindpasswd="not-to-be-told"
hostssl elsewhere all all md5
host all all 192.168.0.0/16 scram-sha-256
"""


@pytest.fixture
def rules(lab: PostgreSQLLab) -> Iterator[Path]:
    """The server's rules, which other tests need as they were."""
    path = lab.server.server.data / "pg_hba.conf"
    text = path.read_text()
    yield path
    path.write_text(text)


def test_a_rule_that_demands_tls_and_is_gone_fails_the_proof(lab: PostgreSQLLab, rules: Path) -> None:
    text = rules.read_text()
    with engine(lab) as made:
        assert made.verifier.tls() == {}
        rules.write_text(RULES.format(name=lab.name) + text)
        before = made.verifier.tls()
        assert before == {
            "pg_hba.conf: hostssl all shop_app 10.0.0.0 255.0.0.0 scram-sha-256": ["hostssl"],
            f"pg_hba.conf: hostssl {lab.name},other all all ldap": ["hostssl"],
        }
        rules.write_text(RULES.format(name=lab.name).replace("hostssl all", "host all") + text)
        assert failed_checks(still_guarded("TLS", before, made.verifier.tls()), []) == [
            "TLS of pg_hba.conf: hostssl all shop_app 10.0.0.0 255.0.0.0 scram-sha-256: lost: hostssl"
        ]
        assert made.verifier.encryption() == {}
        assert PostgreSQL(lab.url.set(username="plain_owner"), Tag(8, 1), Limits()).verifier.tls() == {}
