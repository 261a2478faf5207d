"""Who may change settings and nothing else tries to reach files, hosts, rows and passwords through them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client
from sqlalchemy.engine import make_url

from maintenance.conf.secrets import SecretUnreadable
from maintenance.engines import addresses, open_engine
from maintenance.engines.addresses import AddressRefused
from maintenance.engines.values import Limits, Tag
from maintenance.models import AuditEntry, MaintenanceRun, MaintenanceSetting, RunTarget
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner
from tests.web.test_settings_admin import save

pytestmark = pytest.mark.django_db
As = Callable[[str], Client]
Register = Callable[..., MaintenanceSetting]

POSTGRESQL = "postgresql://dba@db1/shop"
MYSQL = "mysql://dba@db1/shop"
REFUSED = [
    *(f"{MYSQL}?{pair}" for pair in (
        "local_infile=1", "init_command=GRANT+ALL+ON+*.*+TO+x", "client_flag=65536", "read_default_file=/etc/passwd",
        "read_default_group=client", "plugin_dir=/tmp", "default_auth=mysql_clear_password", "auth_plugin=dialog",
        "named_pipe=1", "compress=1", "cursorclass=x", "conv=x", "sql_mode=ANSI", "use_unicode=0",
        "ssl_check_hostname=0", "ssl_cipher=NULL", "binary_prefix=1", "autocommit=1", "passwd_=x",
        "db=mysql", "user=root", "port=1", "host=evil", "plugin=evil", "Local_Infile=1", "unix_socket=relative",
    )),
    *(f"{POSTGRESQL}?{pair}" for pair in (
        "options=-c+session_preload_libraries%3Devil", "service=evil", "servicefile=/tmp/x", "passfile=/etc/shadow",
        "hostaddr=10.0.0.9", "host=a,b", "host=/tmp/x,/run", "host=relative", "port=1", "dbname=other", "user=root",
        "replication=database", "krbsrvname=x", "gsslib=gssapi", "requirepeer=x", "target_session_attrs=any",
        "load_balance_hosts=random", "sslcompression=1", "sslsni=0", "sslcrldir=/tmp", "requiressl=0", "tty=x",
        "application_name=x", "fallback_application_name=x", "ssl_max_protocol_version=TLSv1", "keepalives=0",
        "require_auth=none", "isolation_level=x", "connection_factory=x", "plugin=evil", "sslnegotiation=direct",
    )),
    f"{POSTGRESQL}?host=/run/a&host=/run/b", "postgresql://dba@a,b/shop", "postgresql://dba@%2Ftmp%2Fx/shop",
    "postgresql://dba@db1/shop?host=/run/postgresql", "postgresql+pg8000://dba@db1/shop", "mysql+pymysql://dba@db1/x",
    *(f"sqlite:////data/shop.db?{pair}" for pair in (
        "mode=rwc", "vfs=unix-none", "uri=true", "immutable=1", "nolock=1", "cache=shared", "timeout=9", "psow=0",
        "check_same_thread=0", "factory=x", "detect_types=3", "cached_statements=0", "isolation_level=x",
    )),
    "sqlite:///file:/data/shop.db", "sqlite:///:memory:", "sqlite://", "sqlite:///shop.db",
]  # fmt: skip
WRONG_VALUES = [
    (f"{POSTGRESQL}?sslmode=none", "sslmode is none; it is one of disable, allow, prefer, require, verify-ca"),
    (f"{POSTGRESQL}?connect_timeout=-1", "connect_timeout is -1; it is a number from 1 to 3600."),
    (f"{POSTGRESQL}?connect_timeout=1e9", "connect_timeout is 1e9; it is a number from 1 to 3600."),
    (f"{POSTGRESQL}?client_encoding=SQL_ASCII", "client_encoding is SQL_ASCII; it is one of utf8"),
    (f"{MYSQL}?charset=gbk", "charset is gbk; it is one of utf8, utf8mb4."),
    (f"{MYSQL}?ssl_mode=NONE", "ssl_mode is NONE; it is one of DISABLED"),
    (f"{MYSQL}?ssl_key=../age.key", "ssl_key is ../age.key; it is one absolute path."),
]
ELSEWHERE = [
    f"{POSTGRESQL}?sslkey=/etc/db-maintenance/age.key",
    f"{POSTGRESQL}?sslcert=/etc/passwd",
    f"{MYSQL}?ssl_ca=/etc/shadow",
    f"{MYSQL}?ssl_capath=/tmp",
    f"{MYSQL}?server_public_key_path=/etc/passwd",
    "postgresql://dba@/shop?host=/tmp/rogue",
    "mysql://dba@/shop?unix_socket=/tmp/rogue.sock",
]
ALLOWED = [
    f"{POSTGRESQL}?sslmode=verify-full&sslrootcert=system&connect_timeout=5&client_encoding=utf8",
    "postgresql://dba@/shop?host=/var/run/postgresql",
    f"{MYSQL}?charset=utf8mb4&ssl_mode=VERIFY_IDENTITY&read_timeout=60",
    "mysql://dba@/shop?unix_socket=/run/mysqld/mysqld.sock",
    "postgresql://dba@[::1]:5433/shop",
]


def registered(url: str, password: str = "") -> MaintenanceSetting:
    setting = MaintenanceSetting(name="far", url=url, backup_dir="")
    if password:
        setting.password = password
    setting.save()
    return setting


class TestWhatAUrlMaySay:
    @pytest.mark.parametrize("url", REFUSED)
    def test_everything_that_is_not_listed_is_refused_at_the_door_to_engines(self, url: str) -> None:
        with pytest.raises(AddressRefused):
            open_engine(make_url(url), Tag(0, 0), Limits())

    @pytest.mark.parametrize("url", [*REFUSED, *ELSEWHERE])
    def test_a_row_that_was_written_by_hand_is_refused(self, url: str) -> None:
        with pytest.raises(AddressRefused):
            registered(url).engine_url  # noqa: B018
        request = Request("repair", ["far"], "high", "checkout times out")
        with pytest.raises(launch.BadInput):
            launch.launch(Actor("root (command line)", "command"), request)
        assert not MaintenanceRun.objects.exists()

    @pytest.mark.parametrize("url", [*REFUSED, *ELSEWHERE])
    def test_the_command_line_refuses_it(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            call_command("register_target", "far", url)
        assert ended.value.code == 2
        assert "url: " in capsys.readouterr().err
        assert not MaintenanceSetting.objects.exists()

    @pytest.mark.parametrize(("url", "sentence"), WRONG_VALUES)
    def test_values_are_looked_at_too(self, url: str, sentence: str, as_: As, fake: Register) -> None:
        setting = fake()
        assert sentence in save(as_("administrator"), setting, url=url)
        setting.refresh_from_db()
        assert setting.url.startswith("fake:")

    def test_the_sentence_names_it_and_says_what_is_allowed(self, as_: As, fake: Register) -> None:
        told = save(as_("administrator"), fake(), url=f"{MYSQL}?local_infile=1")
        assert (
            "local_infile may not stand in the address of a mysql database; allowed are: charset, connect_timeout, "
            "read_timeout, server_public_key_path, ssl, ssl_ca, ssl_capath, ssl_cert, ssl_key, ssl_mode, unix_socket, "
            "write_timeout."
        ) in told

    @pytest.mark.parametrize("url", ALLOWED)
    def test_what_is_listed_is_taken(self, url: str) -> None:
        setting = registered(url)
        assert setting.engine_url == make_url(url)

    def test_a_certificate_lies_below_a_folder_that_config_json_names(self, tmp_path: Path, settings: Any) -> None:
        folder, outside = tmp_path / "certificates", tmp_path / "age.key"
        folder.mkdir()
        outside.touch()
        (folder / "link.key").symlink_to(outside)
        settings.CONFIG_FILE.write_text(json.dumps({"certificate_folders": [str(folder)]}))
        registered(f"{POSTGRESQL}?sslkey={folder}/shop.key").engine_url  # noqa: B018
        for name in ("link.key", "../age.key"):
            MaintenanceSetting.objects.all().delete()
            with pytest.raises(AddressRefused):
                registered(f"{POSTGRESQL}?sslkey={folder}/{name}").engine_url  # noqa: B018

    def test_the_consoles_own_files_are_no_database(self, settings: Any) -> None:
        for file in (settings.AUDIT_KEY, settings.HOME / "secret.key", settings.AUDIT_FILE, settings.CONFIG_FILE):
            MaintenanceSetting.objects.all().delete()
            with pytest.raises(AddressRefused, match="is a file of the console itself"):
                registered(f"sqlite:///{file}").engine_url  # noqa: B018


class TestAStoredPassword:
    ELSEWHERE = [
        "postgresql://dba@evil/shop",
        "postgresql://dba@db1:5433/shop",
        "postgresql://root@db1/shop",
        "postgresql://dba@/shop?host=/run/postgresql",
        "postgresql://dba@db1/shop?sslmode=disable",
        "postgresql://dba@db1/shop",
        "postgresql://dba@db1/shop?sslmode=verify-full&sslcert=/certificates/other.crt",
        "mysql://dba@db1/shop",
    ]
    URL = "postgresql://dba@db1/shop?sslmode=verify-full"

    @pytest.fixture(autouse=True)
    def _folders(self, settings: Any) -> None:
        settings.CONFIG_FILE.write_text('{"certificate_folders": ["/certificates"], "backup_roots": ["/backups"]}')

    @pytest.fixture
    def setting(self) -> MaintenanceSetting:
        found = MaintenanceSetting(name="shop", url=self.URL, backup_dir="/backups/shop")
        found.password = "s3cret-words"
        found.save()
        return found

    @pytest.mark.parametrize("url", ELSEWHERE)
    def test_is_entered_again_when_it_would_go_elsewhere(
        self, url: str, setting: MaintenanceSetting, as_: As, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "enter the password again" in save(as_("administrator"), setting, url=url)
        with pytest.raises(SystemExit) as ended:
            call_command("register_target", "shop", url)
        assert ended.value.code == 2
        assert "enter the password again" in capsys.readouterr().err
        setting.refresh_from_db()
        assert (setting.url, setting.password) == (self.URL, "s3cret-words")

    @pytest.mark.parametrize("url", ELSEWHERE)
    def test_does_not_open_for_an_address_that_was_written_by_hand(self, url: str, setting: MaintenanceSetting) -> None:
        MaintenanceSetting.objects.update(url=url)
        with pytest.raises(SecretUnreadable, match="entered for another address"):
            MaintenanceSetting.objects.get().engine_url  # noqa: B018

    def test_is_entered_with_the_new_address(self, setting: MaintenanceSetting, as_: As) -> None:
        save(as_("administrator"), setting, url="postgresql://dba@db2/shop", new_password="other-words")
        setting.refresh_from_db()
        assert setting.engine_url.password == "other-words"

    def test_is_given_up_with_an_empty_one(self, setting: MaintenanceSetting) -> None:
        call_command("register_target", "shop", "postgresql://dba:@db2/shop")
        setting.refresh_from_db()
        assert (setting.url, setting.sealed_password) == ("postgresql://dba@db2/shop", "")

    @pytest.mark.parametrize("url", [f"{URL}&connect_timeout=5", "postgresql://dba@DB1:5432/other?sslmode=verify-full"])
    def test_stays_where_it_goes_to_the_same_server(self, url: str, setting: MaintenanceSetting, as_: As) -> None:
        save(as_("administrator"), setting, url=url)
        setting.refresh_from_db()
        assert (setting.url, setting.password) == (url, "s3cret-words")

    def test_stays_where_the_protection_becomes_stronger(self, as_: As) -> None:
        setting = MaintenanceSetting(name="shop", url="postgresql://dba@db1/shop", backup_dir="/backups/shop")
        setting.password = "s3cret-words"
        setting.save()
        save(as_("administrator"), setting, url=self.URL)
        setting.refresh_from_db()
        assert (setting.url, setting.engine_url.password) == (self.URL, "s3cret-words")

    def test_no_weaker_mode_counts_as_stronger(self) -> None:
        urls = [make_url(f"postgresql://dba@db1/shop?sslmode={mode}") for mode in addresses.SSL_MODES]
        usual = make_url("postgresql://dba@db1/shop")
        assert [addresses.only_stronger(usual, url) for url in urls] == [False, False, True, True, True, True]
        assert not addresses.only_stronger(urls[-1], usual)


class TestTheConnectionTest:
    def test_needs_the_permission_and_is_audited_before_it_is_tried(self, as_: As, fake: Register) -> None:
        setting = fake()
        path = f"/admin/maintenance/maintenancesetting/{setting.pk}/test/"
        assert as_("manager").post(path).status_code in (302, 403)
        assert as_("dba").post(path).status_code in (302, 403)
        assert not AuditEntry.objects.filter(operation="setting.tested").exists()
        as_("administrator").post(path)
        assert AuditEntry.objects.filter(operation="setting.tested", actor="administrator").count() == 1

    def test_is_no_port_scanner(self, as_: As, fake: Register) -> None:
        setting, client = fake(), as_("administrator")
        path = f"/admin/maintenance/maintenancesetting/{setting.pk}/test/"
        told = [client.post(path, follow=True) for _ in range(12)]
        assert "Connected: " in told[0].content.decode()
        assert told[-1].status_code == 429
        assert int(told[-1]["Retry-After"]) > 0
        assert "Connected: " not in told[-1].content.decode()
        assert AuditEntry.objects.filter(operation="setting.tested").count() < 12


class TestBackupFolders:
    @pytest.fixture(autouse=True)
    def _roots(self, tmp_path: Path, settings: Any) -> None:
        (tmp_path / "backup").mkdir()
        settings.STATIC_ROOT = settings.HOME / "static"
        settings.STATIC_ROOT.mkdir(parents=True)
        settings.CONFIG_FILE.write_text(json.dumps({"backup_roots": [str(tmp_path / "backup"), str(settings.HOME)]}))

    def places(self, tmp_path: Path, settings: Any) -> list[Path]:
        (tmp_path / "backup/link").symlink_to(settings.HOME / "static")
        return [
            tmp_path / "elsewhere", Path("/"), Path("/etc"), tmp_path / "backup/../elsewhere", tmp_path / "backup/link",
            settings.HOME, settings.HOME / "static", settings.HOME / "static/deep", Path(settings.STATIC_ROOT),
            Path(settings.REPORTS_DIR), Path(settings.PERFORMANCE_DIR), Path(settings.BASE_DIR),
            Path(settings.BASE_DIR) / "static", Path(settings.BASE_DIR) / "maintenance", Path(settings.LOGS_DIR),
            Path(settings.AUDIT_FILE).parent, settings.HOME / "black-box",
        ]  # fmt: skip

    def test_lie_below_the_roots_of_config_json_and_never_in_the_consoles_own(
        self, as_: As, fake: Register, tmp_path: Path, settings: Any
    ) -> None:
        setting, client = fake(), as_("administrator")
        for field in ("backup_dir", "alternate_backup_dir"):
            before = getattr(setting, field)
            for place in self.places(tmp_path, settings) if field == "backup_dir" else [Path("/etc")]:
                told = save(client, setting, **{field: str(place)})
                assert "config.json names for backups" in told or "folder of the console itself" in told, place
                setting.refresh_from_db()
                assert getattr(setting, field) == before
                with pytest.raises(ValidationError):
                    MaintenanceSetting(name="other", url=POSTGRESQL, **{"backup_dir": "/x", field: str(place)}).clean()
        good = str(tmp_path / "backup/shop")
        save(client, setting, backup_dir=good)
        setting.refresh_from_db()
        assert setting.backup_dir == good

    def test_are_looked_at_again_when_a_run_begins(self, fake: Register, settings: Any, someone: Actor) -> None:
        setting = fake()
        settings.CONFIG_FILE.unlink()
        MaintenanceSetting.objects.update(backup_dir=settings.STATIC_ROOT)
        with pytest.raises(launch.BadInput, match="names for backups"):
            launch.launch(someone, Request("repair", [setting.name], "high", "checkout times out"))

    @pytest.mark.django_db(transaction=True)
    def test_are_looked_at_again_when_a_run_writes(
        self, fake: Register, settings: Any, tmp_path: Path, someone: Actor
    ) -> None:
        """The folder that was looked at became a link meanwhile."""
        setting = fake()
        served = tmp_path / "served"
        served.mkdir()
        folder = Path(setting.backup_dir)
        run = launch.launch(someone, Request("repair", [setting.name], "high", "checkout times out"), enqueue=False)
        folder.rmdir()
        folder.symlink_to(served)
        Path(setting.alternate_backup_dir).symlink_to(served)
        runner.advance(run.targets.get().pk)
        assert list(served.iterdir()) == []
        target = RunTarget.objects.get()
        assert target.status == "failed"
        assert "config.json names for backups" in target.ended_because

    @pytest.mark.django_db(transaction=True)
    def test_are_for_their_owner_alone(self, fake: Register, someone: Actor) -> None:
        setting = fake()
        Path(setting.backup_dir).rmdir()
        old = os.umask(0)
        try:
            run = launch.launch(someone, Request("rebuild", [setting.name], "high", "slow"), enqueue=False)
            runner.advance(run.targets.get().pk)
        finally:
            os.umask(old)
        assert RunTarget.objects.get().status == "succeeded"
        assert stat.S_IMODE(Path(setting.backup_dir).stat().st_mode) == 0o700
        boxes = [*Path(setting.backup_dir).glob("black-box-*")]
        assert boxes
        assert {stat.S_IMODE(path.stat().st_mode) for path in boxes} == {0o600}
