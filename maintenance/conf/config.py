"""config.json: the only place shell commands, addresses and keys come from. Root owns the file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast

import pyrage
from django.conf import settings

from maintenance.engines.archive import Seal

Scope = Literal["all", "database"]
KEYS = {
    "applications",
    "backup_roots",
    "certificate_folders",
    "command_line_users",
    "encryption",
    "exclusive_scope",
    "notification_languages",
    "notifications",
    "prometheus",
    "reminder_minutes",
    "socket_folders",
}
ENCRYPTION_KEYS = {"recipients", "identity_file"}
APPLICATION_KEYS = {"stop", "start", "check", "timeout_seconds", "order"}
PROMETHEUS_KEYS = {"url", "token_file", "interval_seconds", "timeout_seconds", "queries", "findings", "databases"}
MEASURES = ("up", "health", "connections", "max_connections", "size_bytes", "free_bytes")
"""What a query of Prometheus can measure of a database."""
SEVERITIES = ("critical", "high", "medium", "low")
SOCKET_FOLDERS = (Path("/run"), Path("/var/run"), Path("/var/lib/mysql"))
"""Where the packages of the products put their sockets."""
CODE = r"[a-z][a-z0-9_]{0,59}"
"""Of a finding."""


class ConfigError(Exception):
    """config.json says something that cannot be; the message names the key."""


@dataclass(frozen=True)
class Application:
    """Commands as argument lists; `check` exits 0 while the application runs."""

    name: str
    stop: tuple[str, ...]
    start: tuple[str, ...]
    check: tuple[str, ...]
    timeout_seconds: float = 60
    order: int = 0


@dataclass(frozen=True)
class FindingQuery:
    """Each series that this query yields for a database is a finding."""

    query: str
    severity: str
    hint: str = ""


@dataclass(frozen=True)
class Prometheus:
    """Where DB状態情報 is fetched, and with which queries."""

    url: str
    queries: Mapping[str, str]
    """Field of the state -> PromQL; `up` tells whether the database answers."""
    findings: Mapping[str, FindingQuery] = field(default_factory=dict)
    databases: Mapping[str, Mapping[str, str]] | None = None
    """Database -> labels of its series. None: every database, by the label `database`."""
    token_file: Path | None = None
    interval_seconds: float = 60
    timeout_seconds: float = 5


@dataclass(frozen=True)
class Config:
    applications: Mapping[str, Application] = field(default_factory=dict)
    notifications: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notification_languages: Mapping[str, str] = field(default_factory=dict)
    reminder_minutes: float = 15
    prometheus: Prometheus | None = None
    seal: Seal = field(default_factory=Seal)
    exclusive_scope: Scope = "all"
    backup_roots: tuple[Path, ...] = ()
    """The folders below which a backup folder may lie."""
    certificate_folders: tuple[Path, ...] = ()
    socket_folders: tuple[Path, ...] = SOCKET_FOLDERS
    command_line_users: Mapping[str, str] = field(default_factory=dict)
    """Account of the operating system -> user of the console as whom it acts."""


def load() -> Config:
    """The configuration now; read again when the file changes. An absent file is fine. Raises ConfigError."""
    path: Path = settings.CONFIG_FILE
    try:
        return _parse(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return Config(backup_roots=_own("backups"), certificate_folders=_own("certificates"))


def _own(name: str) -> tuple[Path, ...]:
    return (Path(settings.HOME) / name,)


@lru_cache(maxsize=2)
def _parse(path: Path, changed: int) -> Config:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: the top level must be an object")
    _only(path, "", data, KEYS)
    _refuse_writable(path)
    scope = data.get("exclusive_scope", "all")
    if scope not in ("all", "database"):
        raise ConfigError(f"{path}: exclusive_scope is {scope!r}; it is 'all' or 'database'")
    encryption = _object(path, "encryption", data.get("encryption", {}))
    _only(path, "encryption", encryption, ENCRYPTION_KEYS)
    identity = _file(path, "encryption.identity_file", encryption.get("identity_file"))
    return Config(
        applications={
            name: _application(path, name, entry)
            for name, entry in _object(path, "applications", data.get("applications", {})).items()
        },
        notifications={
            k: _addresses(path, f"notifications.{k}", v)
            for k, v in _object(path, "notifications", data.get("notifications", {})).items()
        },
        notification_languages=_languages(path, data.get("notification_languages", {})),
        reminder_minutes=_seconds(path, "reminder_minutes", data.get("reminder_minutes", 15)),
        prometheus=_prometheus(path, data["prometheus"]) if "prometheus" in data else None,
        seal=Seal(
            recipients=_recipients(path, encryption.get("recipients", [])),
            identity_file=identity,
        ),
        exclusive_scope=cast(Scope, scope),
        backup_roots=_folders(path, "backup_roots", data, _own("backups")),
        certificate_folders=_folders(path, "certificate_folders", data, _own("certificates")),
        socket_folders=_folders(path, "socket_folders", data, SOCKET_FOLDERS),
        command_line_users=_texts(path, "command_line_users", data.get("command_line_users", {})),
    )


def _application(path: Path, name: str, entry: object) -> Application:
    where = f"applications.{name}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: {where} must be an object with stop, start and check")
    _only(path, where, entry, APPLICATION_KEYS)
    for verb in ("stop", "start", "check"):
        if not entry.get(verb):
            raise ConfigError(f"{path}: {where}.{verb} is missing; give the command as a list of words")
    return Application(
        name=name,
        stop=_command(path, f"{where}.stop", entry["stop"]),
        start=_command(path, f"{where}.start", entry["start"]),
        check=_command(path, f"{where}.check", entry["check"]),
        timeout_seconds=_seconds(path, f"{where}.timeout_seconds", entry.get("timeout_seconds", 60)),
        order=_whole(path, f"{where}.order", entry.get("order", 0)),
    )


def _only(path: Path, where: str, given: Mapping[str, object], known: Iterable[str]) -> None:
    """A misspelt key would silently do nothing."""
    if unknown := sorted(set(given) - set(known)):
        named = f"{where}.{unknown[0]}" if where else unknown[0]
        raise ConfigError(f"{path}: {named} is not known; known are {', '.join(sorted(known))}")


def _refuse_writable(path: Path) -> None:
    """Commands come from this file: whoever may write it may run them."""
    mode, owner = path.stat().st_mode, path.stat().st_uid
    if mode & 0o022:
        raise ConfigError(f"{path}: others than its owner may write it; chmod go-w it, because commands come from it")
    if owner not in (0, os.geteuid()):
        raise ConfigError(f"{path}: it belongs to user id {owner}; it must belong to root")


def _whole(path: Path, where: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{path}: {where} must be a whole number")
    return value


def _file(path: Path, where: str, value: object) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.startswith("/"):
        raise ConfigError(f"{path}: {where} must be an absolute path")
    return Path(value)


def _folders(path: Path, where: str, data: Mapping[str, object], usual: tuple[Path, ...]) -> tuple[Path, ...]:
    """Absolute paths; never the whole file system, below which everything would lie."""
    if where not in data:
        return usual
    found = _strings(path, where, data[where])
    for folder in found:
        if not folder.startswith("/") or ".." in Path(folder).parts or Path(folder).resolve() == Path("/"):
            raise ConfigError(f"{path}: {where}: {folder!r} must be the absolute path of a folder")
    return tuple(map(Path, found))


def _recipients(path: Path, value: object) -> tuple[str, ...]:
    found = _strings(path, "encryption.recipients", value)
    for recipient in found:
        try:
            pyrage.x25519.Recipient.from_str(recipient)
        except pyrage.RecipientError as error:
            raise ConfigError(f"{path}: encryption.recipients: {recipient!r} is no age recipient (age1…)") from error
    return found


def _command(path: Path, where: str, value: object) -> tuple[str, ...]:
    words = _strings(path, where, value)
    if not words[0] or any("\0" in word for word in words):
        raise ConfigError(f"{path}: {where} must begin with a program, and hold no NUL character")
    return words


def _addresses(path: Path, where: str, value: object) -> tuple[str, ...]:
    """As Apprise spells them. What is wrong with one is told by its place: it may hold a secret."""
    found = _strings(path, where, value)
    for place, address in enumerate(found, 1):
        if not re.match(r"[A-Za-z0-9+.-]+://.", address):
            raise ConfigError(f"{path}: {where}: number {place} is no address such as mailto://dba@example.org")
    return found


def _strings(path: Path, where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
        raise ConfigError(f"{path}: {where} must be a list of strings")
    return tuple(value)


def _languages(path: Path, value: object) -> dict[str, str]:
    known = [code for code, _ in settings.LANGUAGES]
    languages = _texts(path, "notification_languages", value)
    for audience, language in languages.items():
        if language not in known:
            raise ConfigError(
                f"{path}: notification_languages.{audience} is {language!r}; it is one of {', '.join(known)}"
            )
    return languages


def _prometheus(path: Path, entry: object) -> Prometheus:
    given = _object(path, "prometheus", entry)
    _only(path, "prometheus", given, PROMETHEUS_KEYS)
    url = given.get("url")
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise ConfigError(f"{path}: prometheus.url must begin with http:// or https://")
    databases = given.get("databases")
    return Prometheus(
        url=url.rstrip("/"),
        queries=_measures(path, given.get("queries")),
        findings={
            code: _finding(path, f"prometheus.findings.{code}", x)
            for code, x in _object(path, "prometheus.findings", given.get("findings", {})).items()
        },
        databases=None if databases is None else _labels(path, databases),
        token_file=_file(path, "prometheus.token_file", given.get("token_file")),
        interval_seconds=_seconds(path, "prometheus.interval_seconds", given.get("interval_seconds", 60)),
        timeout_seconds=_seconds(path, "prometheus.timeout_seconds", given.get("timeout_seconds", 5)),
    )


def _measures(path: Path, value: object) -> dict[str, str]:
    queries = _texts(path, "prometheus.queries", value)
    if unknown := sorted(set(queries) - set(MEASURES)):
        raise ConfigError(f"{path}: prometheus.queries.{unknown[0]} is not known; known are {', '.join(MEASURES)}")
    if not queries:
        raise ConfigError(f"{path}: prometheus.queries is empty; give at least one of {', '.join(MEASURES)}")
    return queries


def _finding(path: Path, where: str, value: object) -> FindingQuery:
    given = _texts(path, where, value)
    if set(given) - {"hint"} != {"query", "severity"}:
        raise ConfigError(f"{path}: {where} must have query and severity, and may have hint")
    if given["severity"] not in SEVERITIES:
        raise ConfigError(f"{path}: {where}.severity is {given['severity']!r}; it is one of {', '.join(SEVERITIES)}")
    if not re.fullmatch(CODE, where.rpartition(".")[2]):
        raise ConfigError(f"{path}: {where} is no code; use small letters, digits and underscores")
    return FindingQuery(**given)


def _labels(path: Path, value: object) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    for database, labels in _object(path, "prometheus.databases", value).items():
        found[database] = _texts(path, f"prometheus.databases.{database}", labels)
        if not labels:
            raise ConfigError(f"{path}: prometheus.databases.{database} names no label")
    return found


def _object(path: Path, where: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {where} must be an object")
    return value


def _texts(path: Path, where: str, value: object) -> dict[str, str]:
    given = _object(path, where, value)
    texts = {key: text for key, text in given.items() if isinstance(text, str)}
    if texts.keys() != given.keys():
        raise ConfigError(f"{path}: every value of {where} must be a string")
    return texts


def _seconds(path: Path, where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86400:
        raise ConfigError(f"{path}: {where} must be a number above 0, at most 86400")
    return float(value)
