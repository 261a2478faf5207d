"""Every address and every kind of person: what each of them gets. An address without a row fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from maintenance.models import DatabaseState, MaintenanceRun, MaintenanceSetting

PEOPLE = ("anonymous", "outsider", "manager", "dba", "administrator", "auditor")
LOGIN, OK, NO, GOES, GONE, BAD = "login", 200, 403, 302, 404, 400
WRONG_METHOD = 405
READERS = (LOGIN, NO, OK, OK, OK, OK)
DBA = (LOGIN, NO, NO, OK, NO, NO)
STATES = (LOGIN, NO, OK, OK, OK, NO)
AUDIT = (LOGIN, NO, NO, NO, NO, OK)
SELF = (LOGIN, OK, OK, OK, OK, OK)
EVERYBODY = (OK,) * 6
ANSWERS: dict[tuple[str, str], tuple[str | int, ...]] = {
    ("GET", "dashboard"): READERS,
    ("GET", "dashboard_live"): READERS,
    ("GET", "alarm"): (LOGIN, 286, OK, OK, OK, OK),
    ("GET", "databases"): STATES,
    ("GET", "database"): STATES,
    ("GET", "database_live"): (LOGIN, NO, 286, 286, 286, NO),
    ("GET", "database_trend"): STATES,
    ("POST", "diagnose_all"): (LOGIN, NO, NO, GOES, NO, NO),
    ("POST", "diagnose"): (LOGIN, NO, NO, GOES, NO, NO),
    ("GET", "launch"): DBA,
    ("POST", "launch"): DBA,
    ("GET", "launch_plan"): (LOGIN, NO, NO, GOES, NO, NO),
    ("POST", "launch_plan"): (LOGIN, NO, NO, GOES, NO, NO),
    ("GET", "launch_plan_live"): DBA,
    ("POST", "launch_rehearse"): (LOGIN, NO, NO, GOES, NO, NO),
    ("GET", "launch_confirm"): (LOGIN, NO, NO, GOES, NO, NO),
    ("POST", "launch_confirm"): (LOGIN, NO, NO, GOES, NO, NO),
    ("GET", "run"): READERS,
    ("GET", "run_live"): READERS,
    ("GET", "run_log"): READERS,
    ("GET", "run_log_live"): READERS,
    ("GET", "run_cancel"): DBA,
    ("POST", "run_cancel"): (LOGIN, NO, NO, GOES, NO, NO),
    ("GET", "run_approve"): DBA,
    ("POST", "run_approve"): DBA,
    ("POST", "run_reject"): (LOGIN, NO, NO, GOES, NO, NO),
    ("GET", "run_break_glass"): (LOGIN, NO, NO, NO, NO, NO),
    ("POST", "run_break_glass"): (LOGIN, NO, NO, NO, NO, NO),
    ("POST", "run_acknowledge"): (LOGIN, NO, NO, GOES, NO, NO),
    ("POST", "run_release"): (LOGIN, NO, NO, GONE, NO, NO),
    ("POST", "run_comment"): (LOGIN, NO, NO, GOES, NO, NO),
    ("POST", "incident_close"): (LOGIN, NO, NO, GONE, NO, NO),
    ("GET", "run_report"): (LOGIN, NO, GONE, GONE, GONE, GONE),
    ("GET", "run_performance"): (LOGIN, NO, GONE, GONE, GONE, GONE),
    ("GET", "history"): READERS,
    ("GET", "history_csv"): READERS,
    ("GET", "reports"): READERS,
    ("GET", "reports_pdf"): READERS,
    ("GET", "reports_csv"): READERS,
    ("GET", "audit"): AUDIT,
    ("POST", "audit_verify"): AUDIT,
    ("GET", "audit_export"): AUDIT,
    ("GET", "account"): SELF,
    ("POST", "preferences"): (LOGIN, GOES, GOES, GOES, GOES, GOES),
    ("GET", "second_factor"): (LOGIN, GOES, GOES, GOES, GOES, GOES),
    ("GET", "second_factor_enrol"): SELF,
    ("POST", "second_factor_enrol"): SELF,
    ("POST", "second_factor_remove"): (LOGIN, GOES, GOES, GOES, GOES, GOES),
    ("GET", "prove"): SELF,
    ("POST", "recovery_codes"): (LOGIN, GOES, GOES, GOES, GOES, GOES),
    ("POST", "token_create"): (LOGIN, BAD, BAD, BAD, BAD, BAD),
    ("POST", "token_revoke"): (LOGIN, GONE, GONE, GONE, GONE, GONE),
    ("POST", "set_language"): (GOES,) * 6,
    ("GET", "login"): (OK, GOES, GOES, GOES, GOES, GOES),
    ("POST", "logout"): (GOES,) * 6,
    ("GET", "password_change"): SELF,
    ("GET", "healthz"): EVERYBODY,
    ("GET", "readyz"): (503,) * 6,
    ("GET", "admin:index"): (LOGIN, NO, NO, NO, OK, NO),
    ("GET", "admin:maintenance_maintenancesetting_changelist"): (LOGIN, NO, NO, NO, OK, NO),
    ("GET", "admin:maintenance_notification_changelist"): (LOGIN, NO, NO, NO, OK, NO),
    ("GET", "admin:maintenance_incident_changelist"): (LOGIN, NO, NO, NO, OK, NO),
    ("GET", "admin:maintenance_maintenancesetting_add"): (LOGIN, NO, NO, NO, OK, NO),
    ("GET", "admin:maintenance_maintenancesetting_change"): (LOGIN, NO, NO, NO, OK, NO),
    ("POST", "admin:maintenance_maintenancesetting_test"): (LOGIN, NO, NO, NO, GOES, NO),
    ("POST", "admin:maintenance_maintenancesetting_grants"): (LOGIN, NO, NO, NO, OK, NO),
    ("GET", "admin:auth_user_changelist"): (LOGIN, NO, NO, NO, NO, NO),
    ("GET", "admin:auth_group_changelist"): (LOGIN, NO, NO, NO, NO, NO),
}
"""(method, name) -> the answer to each of PEOPLE. 'login' is a redirect to the login."""
POST_ONLY = {name for method, name in ANSWERS if method == "POST"} - {
    name for method, name in ANSWERS if method == "GET"
}
ELSEWHERE = ("api", "metrics", "prometheus", "static", "django")
"""Names beginning so belong to other parts of the console, which test them."""
ADMIN = tuple(
    f"admin:{name}"
    for name in (
        *("login", "logout", "password", "jsi18n", "view_on_site", "app_list", "autocomplete"),
        *(
            "auth",
            "maintenance_maintenancesetting_",
            "maintenance_notification_",
            "maintenance_incident_",
        ),
    )
)
"""Django's own, behind the same door as the rows above."""


def names(resolver: URLResolver | None = None, space: str = "") -> Iterator[str]:
    """Of every address in the URL configuration; those of the console's own pages without their space."""
    for entry in (resolver or get_resolver()).url_patterns:
        if isinstance(entry, URLResolver):
            yield from names(entry, f"{space}{entry.namespace}:" if entry.namespace else space)
        elif isinstance(entry, URLPattern) and entry.name:
            yield f"{space}{entry.name}".removeprefix("maintenance:")


@pytest.fixture
def world(
    fake: Callable[..., MaintenanceSetting],
    looked_at: Callable[..., DatabaseState],
    ran: Callable[..., MaintenanceRun],
    db: None,
) -> dict[str, str]:
    """Arguments of addresses."""
    setting = fake("shop")
    looked_at(setting)
    run = ran(setting, "running")
    return {"name": "shop", "run": str(run.pk), "setting": str(setting.pk)}


def address(name: str, world: dict[str, str]) -> str:
    space = "" if ":" in name or name.startswith(ELSEWHERE) else "maintenance:"
    if name.startswith("run"):
        return reverse(space + name, args=[world["run"]])
    if name in ("database", "database_live", "database_trend", "diagnose"):
        return reverse(space + name, args=[world["name"]])
    if name in ("token_revoke", "incident_close") or name.startswith("launch_"):
        return reverse(space + name, args=[1])
    if name.endswith(("_change", "_test", "_grants")) and name != "password_change":
        return reverse(space + name, args=[world["setting"]])
    return reverse(space + name)


@pytest.mark.parametrize(("method", "name"), ANSWERS)
@pytest.mark.django_db
@pytest.mark.long
def test_everybody_gets_the_answer_of_the_table(
    method: str, name: str, world: dict[str, str], as_: Callable[[str], Client]
) -> None:
    got: list[str | int] = []
    for who in PEOPLE:
        client = as_(who)
        answer = client.post(address(name, world)) if method == "POST" else client.get(address(name, world))
        if answer.headers.get("Location", "").startswith("/admin/login/"):
            answer = client.get(answer.headers["Location"])
        to_login = answer.headers.get("Location", "").startswith("/accounts/login/?")
        got.append(LOGIN if to_login else answer.status_code)
    assert dict(zip(PEOPLE, got, strict=True)) == dict(zip(PEOPLE, ANSWERS[method, name], strict=True))


@pytest.mark.parametrize(
    "name", sorted(n for n in POST_ONLY - {"logout", "set_language"} if not n.startswith("admin:"))
)
@pytest.mark.django_db
def test_what_changes_something_is_no_link(name: str, world: dict[str, str], as_: Callable[[str], Client]) -> None:
    allowed = {"diagnose": "dba", "audit_verify": "auditor"}
    assert as_(allowed.get(name, "dba")).get(address(name, world)).status_code == WRONG_METHOD


def test_every_address_has_a_row() -> None:
    told = {name for _, name in ANSWERS}
    missing = [n for n in names() if n not in told and not n.startswith(ELSEWHERE) and not n.startswith(ADMIN)]
    assert missing == []
