"""Two accounts: what a web process that was taken over cannot read; and units that let it do little else."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from configparser import RawConfigParser
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dbmaint_site.control import database_from_url, local_key, private_folder
from maintenance.checks import accounts
from maintenance.checks.production import production
from maintenance.conf import secrets
from maintenance.engines.marks import Signer
from maintenance.models import MaintenanceSetting
from tests.unit.test_deploy import installation

__all__ = ["installation"]
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("systemd/*.service"))
MOST_EXPOSED = 2.0
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


def unit(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        key, is_setting, value = line.partition("=")
        if is_setting and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_hardly_exposed(path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)], capture_output=True, text=True
    )
    line = next(line for line in done.stdout.splitlines() if "Overall exposure level" in line)
    assert float(line.split(":")[1].split()[0]) <= MOST_EXPOSED, done.stdout


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_no_unit_gains_rights(path: Path) -> None:
    told = unit(path)
    assert told["NoNewPrivileges"] == ["yes"]
    assert told["CapabilityBoundingSet"] == [""]


def test_web_and_worker_are_two_accounts_and_the_web_writes_nothing_but_the_shared_home() -> None:
    web, worker = (unit(DEPLOY / f"systemd/db-maintenance-{name}.service") for name in ("web", "worker"))
    assert web["User"] != worker["User"]
    assert web["Group"] != worker["Group"]
    assert web["ReadWritePaths"] == ["/var/lib/db-maintenance"]
    for secret in ("/etc/db-maintenance/keys", "/etc/db-maintenance/age.key", "/var/backups"):
        assert f"-{secret}" in web["InaccessiblePaths"][0].split()


def test_only_the_proxy_reaches_the_web() -> None:
    parser = RawConfigParser()
    parser.read(DEPLOY / "systemd/db-maintenance-web.socket")
    assert parser["Socket"]["SocketMode"] == "0600"
    assert parser["Socket"]["SocketUser"] == "www-data"


def test_folders_of_the_worker_are_closed_to_the_shared_group() -> None:
    lines = [line.split() for line in (DEPLOY / "systemd/tmpfiles.conf").read_text().splitlines() if line[:1] == "d"]
    modes = {path: (mode, user, group) for _, path, mode, user, group, _ in lines}
    for path in ("/etc/db-maintenance/keys", "/var/backups/db-maintenance"):
        assert modes[path] == ("0700", "db_admin", "db_admin")
    assert modes["/var/lib/db-maintenance"] == ("3770", "db_admin", "db_maintenance")
    assert modes["/reports/db-maintenance"] == ("2750", "db_admin", "db_maintenance")


def test_the_control_database_is_nobody_elses(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        database_from_url(f"sqlite:///{tmp_path}/control.sqlite3")
        connection = sqlite3.connect(tmp_path / "control.sqlite3")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        connection.close()
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}, modes
    assert "control.sqlite3-wal" in modes


def test_a_control_database_that_lay_open_is_closed_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "control.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (x)")
    for file in tmp_path.iterdir():
        file.chmod(0o644)
    database_from_url(f"sqlite:///{path}")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    connection.close()
    assert modes == dict.fromkeys(("control.sqlite3", "control.sqlite3-wal", "control.sqlite3-shm"), 0o600)


def test_the_home_is_made_for_its_owner_alone_and_one_that_lay_open_is_closed(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_folder(tmp_path / "new")
        (tmp_path / "open").mkdir(mode=0o777)
        (tmp_path / "both").mkdir()
    finally:
        os.umask(before)
    (tmp_path / "both").chmod(0o3770)
    for name in ("new", "open", "both"):
        private_folder(tmp_path / name)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"new": 0o700, "open": 0o750, "both": 0o3770}


def done_by(user: int, act: Callable[[], object], group: int = 64_009) -> bool:
    """Return whether a child process that is this user got to the end of it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    try:
        os.setgroups([group])
        os.setgid(user)
        os.setuid(user)
        act()
        os._exit(0)
    finally:
        os._exit(1)


@as_root
class TestTheKeyOfTheMarks:
    WORKER, WEB = 64_001, 64_002
    MARK: ClassVar[dict[str, object]] = {"dbmaint": 1, "role": "image"}

    @pytest.fixture
    def key(self, tmp_path: Path, settings: Any) -> Path:
        for folder in (tmp_path, *tmp_path.parents):
            if folder != Path("/"):
                os.chmod(folder, folder.stat().st_mode | 0o001)
        settings.MARK_KEY = tmp_path / "keys/marks.key"
        settings.MARK_KEY.parent.mkdir(mode=0o700)
        os.chown(settings.MARK_KEY.parent, self.WORKER, self.WORKER)
        return Path(settings.MARK_KEY)

    def test_is_made_by_the_worker_for_itself_and_the_web_signs_and_believes_nothing(self, key: Path) -> None:
        assert done_by(self.WORKER, secrets.mark_signer)
        assert (key.stat().st_uid, stat.S_IMODE(key.stat().st_mode)) == (self.WORKER, 0o600)
        genuine = secrets.mark_signer()
        mark = genuine.signed(self.MARK, "oid 1")
        secrets._mark_key.cache_clear()

        def as_web() -> None:
            with pytest.raises(secrets.SecretUnreadable):
                secrets.mark_signer()
            reader = secrets.mark_reader()
            assert not reader.is_signed(mark, "oid 1")
            planted = reader.signed(self.MARK, "oid 1")
            assert not genuine.is_signed(planted, "oid 1")
            assert not Signer().is_signed(planted, "oid 1")
            assert not secrets.mark_reader().is_signed(planted, "oid 1")

        assert done_by(self.WEB, as_web)
        assert done_by(self.WORKER, lambda: secrets.mark_reader().is_signed(mark, "oid 1") or os._exit(1))

    def test_is_not_derived_from_what_the_web_has(self, key: Path, settings: Any) -> None:
        mark = secrets.mark_signer().signed(self.MARK, "oid 1")
        settings.SECRET_KEY = "another one"
        assert secrets.mark_signer().is_signed(mark, "oid 1")
        settings.MARK_KEY = key.with_name("other.key")
        assert not secrets.mark_signer().is_signed(mark, "oid 1")

    def test_that_a_command_of_root_made_is_the_workers(self, key: Path) -> None:
        secrets.mark_reader()
        assert key.stat().st_uid == self.WORKER
        secrets._mark_key.cache_clear()
        assert done_by(self.WORKER, secrets.mark_signer)

    def test_that_is_broken_stops_the_work(self, key: Path) -> None:
        key.write_bytes(b"")
        with pytest.raises(secrets.SecretUnreadable, match="holds 0 bytes"):
            secrets.mark_signer()


@as_root
def test_both_accounts_write_a_shared_control_database_and_neither_removes_the_others_key(tmp_path: Path) -> None:
    worker, web, group = 64_001, 64_002, 64_003
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            os.chmod(folder, folder.stat().st_mode | 0o001)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, worker, group)
    os.chmod(home, 0o3770)
    prepared = os.umask(0o027)
    try:
        local_key(home / "secret.key")
        database_from_url(f"sqlite:///{home}/control.sqlite3")
    finally:
        os.umask(prepared)
    for path in home.iterdir():
        os.chown(path, worker, group)

    def run(user: int, code: str) -> bool:
        def act() -> None:
            os.umask(0o027)
            os.chdir(home)
            exec(code)

        return done_by(user, act, group)

    write = (
        "c = sqlite3.connect('control.sqlite3'); c.execute('PRAGMA journal_mode=WAL'); "
        "c.execute('CREATE TABLE IF NOT EXISTS t (x)'); c.execute('INSERT INTO t VALUES (1)'); c.commit()"
    )
    assert [run(user, write) for user in (worker, web, worker, web)] == [True] * 4
    assert run(web, "open('secret.key').read()")
    assert not run(web, "os.unlink('secret.key')")
    assert not run(web, "open('secret.key', 'a')")


@pytest.mark.django_db
@as_root
class TestCheckList:
    def ids(self) -> list[str]:
        return [str(message.id).removeprefix("maintenance.") for message in production(None)]

    def test_one_account_for_both_is_told(self, installation: Path, settings: Any) -> None:
        assert self.ids() == []
        settings.WEB_USER = ""
        assert self.ids() == ["E141"]
        settings.WEB_USER = "no_such_account"
        assert self.ids() == ["E142"]
        settings.WEB_USER = "root"
        assert self.ids() == ["E143"]

    def test_the_workers_own_account_is_told(self, installation: Path, settings: Any) -> None:
        settings.AUDIT_KEY.parent.mkdir()
        settings.AUDIT_KEY.write_text("key")
        settings.AUDIT_KEY.chmod(0o600)
        os.chown(settings.AUDIT_KEY, pwd.getpwnam("nobody").pw_uid, 0)
        assert self.ids() == ["E143"]

    @pytest.mark.parametrize("what", ["audit", "age", "backups"])
    def test_what_the_web_may_read_is_told(
        self, what: str, installation: Path, settings: Any, fake: Callable[..., MaintenanceSetting]
    ) -> None:
        for folder in installation.parents:
            if folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o001)
        installation.chmod(0o755)
        nobody = pwd.getpwnam("nobody")
        if what == "audit":
            settings.AUDIT_KEY.parent.mkdir(mode=0o755)
            settings.AUDIT_KEY.write_text("key")
            settings.AUDIT_KEY.chmod(0o644)
        elif what == "age":
            os.chown(installation / "age.key", 0, nobody.pw_gid)
        else:
            folder = Path(fake("shop").backup_dir)
            folder.mkdir(exist_ok=True, parents=True)
            folder.chmod(0o755)
            for above in (folder.parent, *folder.parent.parents):
                if above != Path("/"):
                    above.chmod(above.stat().st_mode | 0o001)
        assert "E144" in self.ids()

    def test_a_closed_folder_on_the_way_is_enough(self, tmp_path: Path) -> None:
        nobody = pwd.getpwnam("nobody")
        key = tmp_path / "keys/audit.key"
        key.parent.mkdir()
        key.write_text("key")
        key.chmod(0o644)
        for folder in tmp_path.parents:
            if folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o001)
        tmp_path.chmod(0o711)
        key.parent.chmod(0o700)
        assert not accounts.readable_by(nobody, key)
        key.parent.chmod(0o711)
        assert accounts.readable_by(nobody, key)
