"""What never opened: redirects, cookies, headers, addresses with nonsense in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

ROOT = Path(__file__).resolve().parents[2]
ASKED = (
    "SESSION_COOKIE_SECURE",
    "CSRF_COOKIE_SECURE",
    "SESSION_COOKIE_HTTPONLY",
    "SESSION_COOKIE_SAMESITE",
    "SECURE_SSL_REDIRECT",
    "SECURE_HSTS_SECONDS",
    "SECOND_FACTOR_REQUIRED",
    "SECURE_CONTENT_TYPE_NOSNIFF",
)


def test_an_installation_is_strict_without_being_told(tmp_path: Path) -> None:
    code = (
        f"import json; from dbmaint_site import settings as s; from django.conf import global_settings as g\n"
        f"print(json.dumps({{n: getattr(s, n, getattr(g, n, None)) for n in {ASKED!r}}}))"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DBMAINT_")}
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, "DBMAINT_HOME": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    found = json.loads(told.stdout)
    assert found.pop("SECURE_HSTS_SECONDS") >= 31536000
    assert found.pop("SESSION_COOKIE_SAMESITE") == "Lax"
    assert set(found.values()) == {True}, found


@pytest.mark.django_db
@pytest.mark.parametrize(
    "where", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_no_way_leads_to_another_host(where: str, people: dict[str, User]) -> None:
    client = Client()
    doors = [
        client.post("/account/language/", {"language": "ja", "next": where}),
        client.post("/accounts/login/", {"username": "dba", "password": "dba-password", "next": where}),
        client.post("/account/prove/", {"password": "dba-password", "next": where}),
        client.get("/account/second-factor/", {"next": where}),
    ]
    for answer in doors:
        assert answer.status_code == 302
        assert "evil" not in answer["Location"]
        assert not answer["Location"].startswith("javascript")


@pytest.mark.django_db
@pytest.mark.parametrize("month", ["9999-12", "0000-00", "0001-01", "99999-1", "2026-13", "x", "-1-1", "９９９９-12"])
def test_no_month_is_an_error_of_ours(month: str, people: dict[str, User]) -> None:
    client = Client()
    client.force_login(people["manager"])
    for page in ("/reports/", "/reports/maintenance.csv"):
        assert client.get(page, {"period": month}).status_code == 200


@pytest.mark.django_db
def test_a_host_that_is_not_ours_is_refused(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["console.example.com"]
    assert Client().get("/accounts/login/", headers={"Host": "evil.example"}).status_code == 400
