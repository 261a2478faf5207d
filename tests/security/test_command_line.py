"""Somebody with an account of the operating system claims to be somebody else."""

from __future__ import annotations

import json
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command, get_commands, load_command_class

from maintenance import terminal
from maintenance.models import AuditEntry, MaintenanceRun, MaintenanceSetting
from maintenance.requests.launch import NotPermitted

pytestmark = pytest.mark.django_db
Register = Callable[..., MaintenanceSetting]
UID = 4242
FREE = {"work", "makemessages"}
"""The service itself, and a tool of the project."""
LAUNCH = ("maintain", "--type", "repair", "--database", "shop", "--severity", "high", "--reason", "slow")
COMMANDS = {
    "accept_audit": ("--reason", "x"),
    "acknowledge": ("1",),
    "api_token": ("dba", "x"),
    "cancel": ("1",),
    "diagnose": ("shop",),
    "grants": ("shop",),
    "maintain": LAUNCH[1:],
    "recover": (),
    "reject": ("1", "--comment", "no"),
    "register_target": ("other", "sqlite:////data/other.db"),
    "release": ("shop",),
    "report": ("1",),
    "reset_second_factor": ("dba",),
    "retention": (),
    "seed_history": ("1",),
    "unlock": ("dba",),
    "verify_audit": (),
}


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Callable[..., None]:
    """Lets the command be run by this account, which config.json may name a user for."""

    def become(name: str, user: str | None = None, uid: int = UID) -> None:
        monkeypatch.setattr("os.getuid", lambda: uid)
        entry = pwd.struct_passwd((name, "x", uid, uid, "", "/", "/bin/sh"))
        monkeypatch.setattr("pwd.getpwuid", lambda asked: entry)
        for variable in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
            monkeypatch.setenv(variable, "root")
        if user is not None:
            settings.CONFIG_FILE.write_text(json.dumps({"command_line_users": {name: user}}))

    return become


def ends(code: int, *arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command(*arguments)
    assert ended.value.code == code


def test_every_command_of_people_is_here() -> None:
    folders = ("maintenance/management/commands", "bench/management/commands")
    files = [path for folder in folders for path in Path(folder).glob("[a-z]*.py")]
    assert {path.stem for path in files} - FREE == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_account_that_nobody_named_is_refused_whatever_its_environment_says(
    command: str, account: Callable[..., None], fake: Register, people: dict[str, User], capsys: Any
) -> None:
    fake()
    account("mallory")
    ends(4, command, *COMMANDS[command])
    assert "config.json names no user of the console for the account mallory" in capsys.readouterr().err
    assert not AuditEntry.objects.exclude(operation__endswith="refused").exists()
    assert not MaintenanceRun.objects.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_user_without_permissions_is_refused(
    command: str, account: Callable[..., None], fake: Register, people: dict[str, User]
) -> None:
    fake()
    account("mallory", "outsider")
    ends(4, command, *COMMANDS[command])
    assert not MaintenanceRun.objects.exists()


@pytest.mark.parametrize(
    ("person", "command"),
    [
        ("manager", "maintain"), ("auditor", "maintain"), ("administrator", "maintain"), ("manager", "cancel"),
        ("manager", "register_target"), ("dba", "register_target"), ("dba", "verify_audit"), ("manager", "release"),
        ("dba", "reset_second_factor"), ("dba", "seed_history"), ("dba", "retention"), ("auditor", "recover"),
    ],
)  # fmt: skip
def test_the_command_line_gives_nobody_more_than_the_pages(
    person: str, command: str, account: Callable[..., None], fake: Register, people: dict[str, User]
) -> None:
    fake()
    account("someone", person)
    ends(4, command, *COMMANDS[command])


def test_a_named_account_acts_as_its_user(
    account: Callable[..., None], fake: Register, people: dict[str, User]
) -> None:
    account("alice", "dba")
    who = terminal.actor()
    assert (who.name, who.user, who.origin) == ("dba", people["dba"], "command")


@pytest.mark.parametrize(("name", "uid"), [("root", 0), ("db_admin", 990), ("toor", 0)])
def test_root_and_db_admin_are_recorded_as_such(name: str, uid: int, account: Callable[..., None]) -> None:
    account(name, uid=uid)
    who = terminal.actor()
    assert (who.name, who.user) == (f"{name} (command line)", None)
    assert who.may("launch_maintenance")


def test_who_may_not_log_in_may_not_come_this_way(account: Callable[..., None], people: dict[str, User]) -> None:
    User.objects.filter(username="dba").update(is_active=False)
    account("alice", "dba")
    with pytest.raises(NotPermitted):
        terminal.actor()


def test_nobody_makes_a_token_that_acts_as_somebody_else(account: Callable[..., None], people: dict[str, User]) -> None:
    account("alice", "manager")
    ends(4, "api_token", "dba", "x")


def test_the_permissions_that_commands_name_exist() -> None:
    from django.contrib.auth.models import Permission

    known = set(Permission.objects.filter(content_type__app_label="maintenance").values_list("codename", flat=True))
    for name in COMMANDS:
        command = load_command_class(str(get_commands()[name]), name)
        assert isinstance(command, terminal.PersonsCommand)
        assert set(command.needs) <= known | {"change_user"}
