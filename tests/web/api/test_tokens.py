"""The command that makes a token."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.utils import timezone

from maintenance.models import ApiToken, AuditEntry
from tests.web.api.calling import Machine


@pytest.mark.django_db
class TestTokenCommand:
    def test_it_shows_the_token_once(self, people: dict[str, User]) -> None:
        out, err = StringIO(), StringIO()
        call_command("api_token", "dba", "nightly", "--scope", "read", "--scope", "launch", stdout=out, stderr=err)
        plain = out.getvalue().strip()
        token = ApiToken.objects.get()
        assert (token.name, token.scopes, token.user.username) == ("nightly", ["read", "launch"], "dba")
        assert timedelta(days=89) < token.expires_at - timezone.now() <= timedelta(days=90)
        assert plain not in err.getvalue()
        assert Machine(plain).get("databases").status_code == 200
        entry = AuditEntry.objects.get()
        assert (entry.operation, entry.object) == ("token.created", "nightly")
        assert plain not in json.dumps(entry.after)
        assert token.sha256 not in json.dumps(entry.after)

    def test_as_json(self, people: dict[str, User]) -> None:
        out = StringIO()
        call_command("api_token", "dba", "nightly", "--days", "1", "--json", stdout=out)
        told = json.loads(out.getvalue())
        assert (told["scopes"], told["user"]) == (["read"], "dba")
        assert Machine(told["token"]).get("databases").status_code == 200

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["nobody", "x"], "There is no person nobody"),
            (["dba", "x", "--days", "0"], "--days is 0"),
            (["dba", "x" * 101], "The name has 1 to 100"),
        ],
    )
    def test_bad_input(self, people: dict[str, User], words: list[str], told: str) -> None:
        err = StringIO()
        with pytest.raises(SystemExit) as left:
            call_command("api_token", *words, stderr=err)
        assert left.value.code == 2
        assert told in err.getvalue()
        assert not ApiToken.objects.exists()
