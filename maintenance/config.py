"""config.json: the only place shell commands, addresses and keys come from. Root owns the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

from django.conf import settings

from .archive import Seal

Scope = Literal["all", "database"]


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
class Config:
    applications: Mapping[str, Application] = field(default_factory=dict)
    notifications: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seal: Seal = field(default_factory=Seal)
    exclusive_scope: Scope = "all"


def load() -> Config:
    """The configuration now; read again when the file changes. An absent file is fine. Raises ConfigError."""
    path: Path = settings.CONFIG_FILE
    try:
        return _parse(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return Config()


@lru_cache(maxsize=2)
def _parse(path: Path, changed: int) -> Config:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: the top level must be an object")
    scope = data.get("exclusive_scope", "all")
    if scope not in ("all", "database"):
        raise ConfigError(f"{path}: exclusive_scope is {scope!r}; it is 'all' or 'database'")
    encryption = data.get("encryption", {})
    identity = encryption.get("identity_file")
    return Config(
        applications={name: _application(path, name, entry) for name, entry in data.get("applications", {}).items()},
        notifications={k: _strings(path, f"notifications.{k}", v) for k, v in data.get("notifications", {}).items()},
        seal=Seal(
            recipients=_strings(path, "encryption.recipients", encryption.get("recipients", [])),
            identity_file=Path(identity) if identity else None,
        ),
        exclusive_scope=cast(Scope, scope),
    )


def _application(path: Path, name: str, entry: Any) -> Application:
    where = f"applications.{name}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: {where} must be an object with stop, start and check")
    for verb in ("stop", "start", "check"):
        if not entry.get(verb):
            raise ConfigError(f"{path}: {where}.{verb} is missing; give the command as a list of words")
    return Application(
        name=name,
        stop=_strings(path, f"{where}.stop", entry["stop"]),
        start=_strings(path, f"{where}.start", entry["start"]),
        check=_strings(path, f"{where}.check", entry["check"]),
        timeout_seconds=float(entry.get("timeout_seconds", 60)),
        order=int(entry.get("order", 0)),
    )


def _strings(path: Path, where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
        raise ConfigError(f"{path}: {where} must be a list of strings")
    return tuple(value)
