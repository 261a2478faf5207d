"""The command that prints what the console's account must be allowed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import call_command

from maintenance.engines.messages import msg
from maintenance.engines.values import Grant
from maintenance.management.commands.grants import script
from maintenance.models import MaintenanceSetting

Register = Callable[..., MaintenanceSetting]


@pytest.mark.django_db
class TestGrants:
    def test_prints_sql_with_what_each_statement_is_for(self, fake: Register) -> None:
        fake()
        out = io.StringIO()
        call_command("grants", "shop", stdout=out)
        assert out.getvalue().splitlines() == [
            "-- shop",
            "-- Without this right nothing works.",
            "GRANT EVERYTHING TO dba;",
            "-- Only the owner of the machine can repair it.",
        ]

    def test_what_is_given_stands_there_as_a_comment_or_is_left_out(self, fake: Register) -> None:
        path = Path(str(fake().engine_url.database))
        path.write_text(json.dumps({**json.loads(path.read_text()), "rights": True}))
        out = io.StringIO()
        call_command("grants", "shop", "--role", "db_admin", stdout=out)
        assert "-- Without this right nothing works (given).\n-- GRANT EVERYTHING TO db_admin;" in out.getvalue()
        out = io.StringIO()
        call_command("grants", "shop", "--missing", "--json", stdout=out)
        [left] = json.loads(out.getvalue())["grants"]
        assert left == {
            "statement": None,
            "where": None,
            "purpose": "Only the owner of the machine can repair it",
            "given": False,
            "severity": "low",
        }

    def test_a_name_in_a_comment_cannot_break_out_of_it(self) -> None:
        purpose = msg("Without it the console cannot read {tables}", tables="x\nDROP TABLE y;")
        told = script("shop", [Grant('GRANT "a\nDROP TABLE z;"', purpose, True)], True)
        assert all(line.startswith("-- ") for line in told)
        assert len("\n".join(told).splitlines()) == 5

    def test_an_unknown_name_is_bad_input_and_a_database_that_is_not_there_a_failure(self, fake: Register) -> None:
        err = io.StringIO()
        with pytest.raises(SystemExit) as ended:
            call_command("grants", "nowhere", stderr=err)
        assert (ended.value.code, err.getvalue()) == (2, "There is no database nowhere; registered are: none.\n")
        Path(str(fake().engine_url.database)).unlink()
        with pytest.raises(SystemExit) as ended:
            call_command("grants", "shop", stderr=err)
        assert ended.value.code == 1
        assert "no such file" in err.getvalue()
