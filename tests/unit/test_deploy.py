"""deploy/: what is in it is right as far as the programs it is for can tell; and the production check list."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest

from maintenance.checks import production
from maintenance.conf import config
from maintenance.models import MaintenanceSetting

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("name", ["web", "worker"])
def test_the_units_are_understood(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / f"systemd/db-maintenance-{name}.service").read_text()
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for word in ("gunicorn", "python"):
        text = text.replace(f"/opt/db-maintenance/.venv/bin/{word} ", f"{program} ")
    unit = tmp_path / f"db-maintenance-{name}.service"
    unit.write_text(text)
    shutil.copy(DEPLOY / "systemd/db-maintenance-web.socket", tmp_path)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert [x for x in done.stderr.splitlines() if unit.name in x] == []


def test_the_units_run_as_the_specification_says() -> None:
    assert "User=db_admin" in (DEPLOY / "systemd/db-maintenance-worker.service").read_text()
    for path in DEPLOY.glob("systemd/*.service"):
        text = path.read_text()
        assert "WorkingDirectory=/opt/db-maintenance" in text
        assert "ProtectSystem=strict" in text


@pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/bin") is None, reason="no nginx here")
def test_nginx_understands_its_example(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    made = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=x"]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    site = (DEPLOY / "nginx.conf").read_text()
    site = site.replace("/etc/ssl/certs/db-maintenance.pem", str(certificate))
    site = site.replace("/etc/ssl/private/db-maintenance.key", str(key))
    whole = tmp_path / "nginx.conf"
    whole.write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}} http {{ access_log off; {site} }}"
    )
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert program is not None
    done = subprocess.run([program, "-t", "-c", str(whole), "-p", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def installation(settings: Any, tmp_path: Path) -> Path:
    """One in which nothing is wrong."""
    settings.HOME.mkdir(mode=0o750, exist_ok=True)
    settings.HOME.chmod(0o750)
    key = pyrage.x25519.Identity.generate()
    identity = tmp_path / "age.key"
    identity.write_text(str(key))
    identity.chmod(0o640)
    path = Path(settings.CONFIG_FILE)
    path.write_text(f'{{"encryption": {{"recipients": ["{key.to_public()}"], "identity_file": "{identity}"}}}}')
    config._parse.cache_clear()
    settings.SECURE = settings.SECOND_FACTOR_REQUIRED = True
    settings.DEBUG = False
    settings.SITE_URL = "https://console.example.com"
    settings.ALLOWED_HOSTS = ["console.example.com"]
    settings.AUDIT_KEY = tmp_path / "keys/audit.key"
    settings.AUDIT_FILE = tmp_path / "other/checkpoints.jsonl"
    settings.WEB_USER = "nobody"
    return tmp_path


def ids() -> list[str]:
    return sorted(str(m.id).removeprefix("maintenance.") for m in production.production(None))


@pytest.mark.django_db
@pytest.mark.skipif(os.geteuid() != 0, reason="config.json has to belong to root")
class TestCheckList:
    def test_a_good_installation_has_nothing(self, installation: Path) -> None:
        assert ids() == []

    @pytest.mark.parametrize(
        ("name", "value", "found"),
        [
            ("SECURE", False, "E128"),
            ("SECOND_FACTOR_REQUIRED", False, "E129"),
            ("DEBUG", True, "E130"),
            ("SITE_URL", "http://127.0.0.1:8905", "W131"),
            ("ALLOWED_HOSTS", ["localhost"], "W132"),
        ],
    )
    def test_a_setting_that_is_wrong(
        self, name: str, value: Any, found: str, installation: Path, settings: Any
    ) -> None:
        setattr(settings, name, value)
        assert ids() == [found]

    def test_no_config(self, installation: Path, settings: Any) -> None:
        Path(settings.CONFIG_FILE).unlink()
        assert ids() == ["E121", "E124"]

    def test_config_of_somebody_else(self, installation: Path, settings: Any) -> None:
        os.chown(settings.CONFIG_FILE, 12345, -1)
        assert "E122" in ids()

    def test_config_in_a_folder_that_everybody_writes(self, installation: Path) -> None:
        installation.chmod(0o777)
        assert ids() == ["E123"]

    def test_backups_without_encryption(self, installation: Path, settings: Any) -> None:
        Path(settings.CONFIG_FILE).write_text('{"exclusive_scope": "database"}')
        config._parse.cache_clear()
        assert ids() == ["E124"]

    def test_backups_that_nobody_could_read_back(self, installation: Path) -> None:
        (installation / "age.key").unlink()
        assert ids() == ["E125"]

    def test_a_key_for_everybody(self, installation: Path) -> None:
        (installation / "age.key").chmod(0o644)
        assert ids() == ["E126"]

    def test_a_home_for_everybody(self, installation: Path, settings: Any) -> None:
        settings.HOME.chmod(0o755)
        assert ids() == ["E127"]

    def test_the_key_of_the_audit_chain_beside_it(
        self, installation: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(settings.DATABASES["default"], "NAME", str(settings.HOME / "control.sqlite3"))
        settings.AUDIT_KEY = settings.HOME / "audit.key"
        assert ids() == ["W133"]

    def test_both_backups_on_one_disk(self, installation: Path, fake: Callable[..., MaintenanceSetting]) -> None:
        fake()
        assert ids() == ["W136"]
        MaintenanceSetting.objects.update(alternate_backup_dir="")
        assert ids() == ["W135"]


def test_a_source_tree_is_no_installation(settings: Any) -> None:
    settings.HOME = settings.BASE_DIR / "var"
    assert ids() == ["I120"]
