"""config.json: every mistake gets one sentence that names the key; every key stands in docs/configuration.md."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks

from maintenance.conf import config

DOCS = Path(__file__).resolve().parents[2] / "docs"
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
APPLICATION = {"stop": ["true"], "start": ["true"], "check": ["true"]}


def write(settings: Any, text: str) -> Path:
    path = Path(settings.CONFIG_FILE)
    path.write_text(text)
    path.chmod(0o644)
    os.utime(path, ns=(path.stat().st_mtime_ns + 1, path.stat().st_mtime_ns + 1))
    config._parse.cache_clear()
    return path


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[]", "the top level must be an object"),
        ("{", "Expecting property name"),
        ('{"applications":' * 3000, "maximum recursion depth"),
        ('{"aplications": {}}', "aplications is not known; known are applications, backup_roots"),
        ('{"applications": []}', "applications must be an object"),
        ('{"applications": {"web": 1}}', "applications.web must be an object"),
        ('{"applications": {"web": {"stop": ["x"]}}}', "applications.web.start is missing"),
        ({"applications": {"web": {**APPLICATION, "stop": "x"}}}, "applications.web.stop must be a list"),
        ({"applications": {"web": {**APPLICATION, "timeout": 3}}}, "applications.web.timeout is not known"),
        ({"applications": {"web": {**APPLICATION, "timeout_seconds": "3"}}}, "web.timeout_seconds must be"),
        ({"applications": {"web": {**APPLICATION, "order": 1.5}}}, "applications.web.order must be a whole number"),
        ({"applications": {"web": {**APPLICATION, "start": [""]}}}, "web.start must begin with a program"),
        ({"applications": {"web": {**APPLICATION, "check": ["a\0"]}}}, "web.check must begin with a program, and"),
        ('{"notifications": []}', "notifications must be an object"),
        ('{"notifications": {"dba": "mailto://x"}}', "notifications.dba must be a list of strings"),
        ('{"notifications": {"dba": ["mailto://x", "s3cret"]}}', "notifications.dba: number 2 is no address such as"),
        ('{"encryption": []}', "encryption must be an object"),
        ('{"encryption": {"recipient": []}}', "encryption.recipient is not known; known are identity_file, recipients"),
        ('{"encryption": {"recipients": ["ssh-rsa x"]}}', "'ssh-rsa x' is no age recipient"),
        ('{"encryption": {"identity_file": "age.key"}}', "encryption.identity_file must be an absolute path"),
        ('{"exclusive_scope": "some"}', "exclusive_scope is 'some'"),
        ('{"reminder_minutes": 0}', "reminder_minutes must be a number above 0"),
        ({"prometheus": {"url": "http://x", "queries": {"up": "up"}, "token_file": "t"}}, "prometheus.token_file must"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(content: Any, sentence: str, settings: Any) -> None:
    path = write(settings, content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(config.ConfigError, match=re.escape(sentence)) as told:
        config.load()
    assert str(told.value).startswith(f"{path}: ")


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_a_file_that_others_may_write_is_refused(mode: int, settings: Any) -> None:
    write(settings, "{}").chmod(mode)
    with pytest.raises(config.ConfigError, match="chmod go-w it, because commands come from it"):
        config.load()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(settings: Any) -> None:
    os.chown(write(settings, "{}"), 12345, 12345)
    with pytest.raises(config.ConfigError, match="it must belong to root"):
        config.load()


def test_what_is_right_is_read(settings: Any) -> None:
    content = {
        "applications": {"web": {**APPLICATION, "timeout_seconds": 5, "order": 10}},
        "encryption": {"recipients": [RECIPIENT], "identity_file": "/etc/db-maintenance/age.key"},
    }
    write(settings, json.dumps(content))
    found = config.load()
    assert found.applications["web"].order == 10
    assert found.seal.recipients == (RECIPIENT,)


def test_the_example_of_deploy_is_right(settings: Any) -> None:
    write(settings, (DOCS.parent / "deploy/config.json").read_text().replace("age1…", RECIPIENT))
    assert config.load().applications


class TestAtStart:
    def said(self) -> list[str]:
        return [str(m.id) for m in run_checks() if str(m.id).startswith(("maintenance.E01", "maintenance.W01"))]

    def test_a_mistake_stops_every_command(self, settings: Any) -> None:
        write(settings, "{")
        assert self.said() == ["maintenance.E010"]

    def test_a_missing_program_is_told_before_it_is_needed(self, settings: Any) -> None:
        write(settings, json.dumps({"applications": {"web": {**APPLICATION, "stop": ["/no/such/program"]}}}))
        assert self.said() == ["maintenance.W011"]

    def test_an_absent_file_is_fine(self) -> None:
        assert self.said() == []


def keys_told() -> set[str]:
    """First column of the tables of docs/configuration.md."""
    return set(re.findall(r"^\| `([a-z_.]+)` \|", (DOCS / "configuration.md").read_text(), re.MULTILINE))


def test_every_key_is_documented_and_no_other() -> None:
    nested = {
        "applications": {f"applications.name.{key}" for key in config.APPLICATION_KEYS},
        "encryption": {f"encryption.{key}" for key in config.ENCRYPTION_KEYS},
        "prometheus": {f"prometheus.{key}" for key in config.PROMETHEUS_KEYS},
    }
    wanted = set().union(*nested.values()) | (config.KEYS - set(nested))
    assert keys_told() == wanted
