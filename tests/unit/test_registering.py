"""register_target refuses what the settings page could not even be sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command

from maintenance.models import MaintenanceSetting

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ('release_stages="abc"', "release_stages: Each is above 0, below 100"),
        ('release_stages=["10 %"]', "release_stages: Each is above 0, below 100"),
        ("release_stages=[50, 10]", "release_stages: Each is above 0, below 100"),
        ('applications="web"', "applications: Give a list of texts."),
        ("applications=[1]", "applications: Give a list of texts."),
        ('benchmark_queries="SELECT 1"', "benchmark_queries: Give a list of texts."),
        ('functional_checks=["DELETE FROM orders"]', "functional_checks: This does not read: DELETE FROM orders"),
        ('approval_severities=["terrible"]', "approval_severities: It is one of: critical, high, medium."),
        ("timeout_minutes=nan", "timeout_minutes: "),
        ("watch_minutes=inf", "watch_minutes: "),
        ("watch_minutes=soon", "watch_minutes: “soon” value must be"),
        ("cut_seconds=", "cut_seconds: “” value must be"),
        ("allow_data_loss=perhaps", "allow_data_loss: There is no such setting"),
        ("release_stages=[10", "release_stages: This is not JSON"),
    ],
)
@pytest.mark.long
def test_a_value_that_would_fail_in_the_midst_of_an_outage_is_refused(
    pair: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("register_target", "shop", f"sqlite:///{tmp_path}/shop.db", "--set", pair)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not MaintenanceSetting.objects.exists()


@pytest.mark.parametrize("url", ["postgresql://dba@host:port/shop", "mysql://[::1/shop", "shop", ""])
def test_an_address_that_is_none_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("register_target", "shop", url)
    assert ended.value.code == 2
    assert "url: " in capsys.readouterr().err


def test_lists_as_they_should_be_are_taken(tmp_path: Path) -> None:
    given = ["release_stages=[10, 50.5]", 'applications=["web"]', 'functional_checks=["SELECT 1"]']
    call_command("register_target", "shop", f"sqlite:///{tmp_path}/shop.db", *(f"--set={pair}" for pair in given))
    setting = MaintenanceSetting.objects.get()
    assert (setting.stages, setting.applications, setting.functional_checks) == ([0.1, 0.505], ["web"], ["SELECT 1"])


def test_a_password_among_the_options_of_the_url_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would stand on every page that tells the URL."""
    for option in ("password", "passwd", "sslpassword"):
        with pytest.raises(SystemExit):
            call_command("register_target", "shop", f"postgresql://dba@host/db?{option}=s3cret-words")
        told = capsys.readouterr()
        assert "Give the password before the @" in told.err
        assert "s3cret-words" not in told.err + told.out


@pytest.mark.parametrize("name", ["a%20b.db", "a b.db", "100%.db", "%41.db", "a+b.db", "日本.db"])
def test_the_path_of_a_file_is_taken_as_it_stands(name: str, tmp_path: Path) -> None:
    call_command("register_target", "shop", f"sqlite:///{tmp_path}/{name}")
    setting = MaintenanceSetting.objects.get()
    assert setting.engine_url.database == f"{tmp_path}/{name}"
    assert setting.url == f"sqlite:///{tmp_path}/{name}"


def test_an_address_that_is_not_utf8_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("register_target", "shop", "sqlite:////srv/caf\udce9.db")
    assert ended.value.code == 2
    assert "url: This is not UTF-8." in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[b"register_target", b"caf\xe9"], [b"maintain", b"--reason", b"caf\xe9"]])
def test_an_argument_that_is_not_utf8_is_refused_by_every_command(arguments: list[bytes]) -> None:
    manage = Path(settings.BASE_DIR) / "manage.py"
    ended = subprocess.run([sys.executable, manage, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "caf\\xe9: this is not UTF-8. Give the file a name that is, or a link to it.\n"
