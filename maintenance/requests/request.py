"""What is asked for, by whom, and whether it could be started. Bad input gets one sentence and starts nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Q

from maintenance.conf import config, places
from maintenance.conf.control_database import control_url
from maintenance.conf.secrets import SecretUnreadable, mark_reader
from maintenance.engines import open_engine
from maintenance.engines.addresses import AddressRefused
from maintenance.engines.base import Engine
from maintenance.engines.errors import EngineError
from maintenance.engines.messages import Message, msg
from maintenance.engines.values import Facts, Json, Tag
from maintenance.models import MaintenanceSetting, MaintenanceType, RunTarget, SeverityLevel, Status, letters


class Refused(Exception):
    """The request cannot be; the sentence names the thing and what would be right."""

    def __init__(self, sentence: Message) -> None:
        self.sentence = sentence
        super().__init__(str(sentence))


class BadInput(Refused):
    """Something in the request is wrong."""


class Outdated(BadInput):
    """The plan no longer is what would be started: plan again and confirm that."""


class NotFound(BadInput):
    """It names a database that is not registered."""


class Locked(Refused):
    """Another maintenance holds the scope."""


class NotPermitted(Refused):
    """This person may not do it."""


@dataclass(frozen=True)
class Request:
    """The specification's parameters (3.3), with its names."""

    maintenance_type: str
    target_databases: Sequence[str] | None
    """Names of settings; None for all."""
    severity_level: str
    reason: str
    target_tables: Sequence[str] = ()
    allow_data_loss: bool = False

    def stored(self) -> Json:
        """Return it as JSON; `Request(**stored)` is the same request."""
        names = self.target_databases
        return {
            "maintenance_type": self.maintenance_type,
            "target_databases": None if names is None else list(names),
            "severity_level": self.severity_level,
            "reason": self.reason,
            "target_tables": list(self.target_tables),
            "allow_data_loss": self.allow_data_loss,
        }


@dataclass(frozen=True)
class Actor:
    """Who asks. `user` is None for the command line, which the operating system guards."""

    name: str
    origin: str
    user: User | None = None

    def may(self, permission: str) -> bool:
        """Return whether this person has the permission."""
        return self.user is None or self.user.has_perm(f"maintenance.{permission}")

    def need(self, permission: str, doing: str) -> None:
        """Refuse what this person may not do. Raises NotPermitted."""
        if not self.may(permission):
            raise NotPermitted(msg("{who} may not {doing}.", who=self.name, doing=doing))


@dataclass
class Checked:
    """A request that could be started: its settings, and per database the canonical table names."""

    request: Request
    settings: list[MaintenanceSetting]
    tables: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, Facts] = field(default_factory=dict)


def check(request: Request, rehearsal: bool = False) -> Checked:
    """Connect to each target read-only; return what could be started.

    Raises BadInput, also where a target cannot be rehearsed on, or Locked where another installation has it.
    """
    _one_of("maintenance_type", request.maintenance_type, MaintenanceType.values)
    _one_of("severity_level", request.severity_level, SeverityLevel.values)
    if not request.reason.strip():
        raise BadInput(msg("A reason is required: say what is wrong and who asked for the maintenance."))
    checked = Checked(request, _settings(request))
    unknown: list[set[str]] = []
    for setting in checked.settings:
        refuse_unreleased(setting)
        _refuse_unknown_applications(setting)
        target = _look_at(setting, request.target_tables, rehearsal)
        if target.holder is not None:
            raise Locked(msg("{database}: {error}", database=setting.name, error=target.holder))
        if target.refusal is not None:
            raise BadInput(msg("{database}: {error}", database=setting.name, error=target.refusal))
        _refuse_same(setting, target.facts, checked.facts)
        checked.facts[setting.name] = target.facts
        checked.tables[setting.name] = target.tables
        unknown.append(set(target.unknown_tables))
    if request.target_tables:
        _refuse_tables(checked, set.intersection(*unknown))
    return checked


@dataclass(frozen=True)
class _Target:
    """What a target said of itself."""

    facts: Facts
    tables: list[str]
    """Canonical names of those that were asked for."""
    unknown_tables: list[str]
    holder: Message | None
    """What another installation does with it."""
    refusal: Message | None
    """Why it cannot be rehearsed on, where that was asked for."""


def _look_at(setting: MaintenanceSetting, tables: Sequence[str], rehearsal: bool) -> _Target:
    """Ask the target, read-only.

    Raises BadInput where it must not be maintained or does not answer, Locked where another installation hides it.
    """
    engine = engine_of(setting)
    try:
        facts = engine.sessions.facts()
        refuse_unreleased(setting, facts)
        _refuse_target(setting, facts)
        refusal = engine.rehearsal.refusal() if rehearsal else None
        _refuse_folders(setting)
        holder = engine.lock.held_by_other_installation()
        canonical, unknown = engine.sessions.resolve(list(tables)) if tables else ([], [])
    except EngineError as error:
        holder = _closed_elsewhere(engine)
        if holder is None:
            raise BadInput(msg("{database}: {error}", database=setting.name, error=error.sentence)) from error
        raise Locked(msg("{database}: {error}", database=setting.name, error=holder)) from error
    finally:
        engine.close()
    return _Target(facts, canonical, unknown, holder, refusal)


def _refuse_same(setting: MaintenanceSetting, facts: Facts, earlier: Mapping[str, Facts]) -> None:
    for name, other in earlier.items():
        if other.identity == facts.identity:
            raise BadInput(msg("{one} and {two} are the same database; name one of them.", one=name, two=setting.name))


def _refuse_tables(checked: Checked, unknown: Collection[str]) -> None:
    """Raise BadInput for a table that no database has (`unknown`), or a database that has none of the tables."""
    for table in checked.request.target_tables:
        if table in unknown:
            databases = ", ".join(setting.name for setting in checked.settings)
            raise BadInput(msg("There is no table {table} in {databases}.", table=table, databases=databases))
    for setting in checked.settings:
        if not checked.tables[setting.name]:
            raise BadInput(
                msg(
                    "None of the tables {tables} is in {database}; leave that database out.",
                    tables=", ".join(checked.request.target_tables),
                    database=setting.name,
                )
            )


def _closed_elsewhere(engine: Engine) -> Message | None:
    """Why a database that cannot be reached is so: another installation may have hidden it, under marks of its own."""
    with suppress(EngineError):
        return engine.lock.held_by_other_installation()
    return None


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise BadInput(
            msg("{name} is {value}; it is one of {allowed}.", name=name, value=repr(value), allowed=", ".join(allowed))
        )


def _settings(request: Request) -> list[MaintenanceSetting]:
    if request.target_databases is None:
        settings = list(MaintenanceSetting.objects.filter(enabled=True))
        if not settings:
            raise BadInput(msg("No database is registered: use register_target or the admin site first."))
        return settings
    if not request.target_databases:
        raise BadInput(msg("Name at least one database, or all."))
    settings = []
    for name in dict.fromkeys(request.target_databases):
        setting = MaintenanceSetting.objects.filter(name=name).first()
        if setting is None:
            known = ", ".join(MaintenanceSetting.objects.values_list("name", flat=True)) or msg("none")
            raise NotFound(msg("There is no database {name}; registered are: {known}.", name=name, known=known))
        if not setting.enabled:
            raise BadInput(msg("Database {name} is switched off in its settings.", name=name))
        settings.append(setting)
    return settings


def refuse_unreleased(setting: MaintenanceSetting, facts: Facts | None = None) -> None:
    """Raise BadInput for what an earlier run left closed: taking its data for the truth would hide a loss.

    Without `facts`, which a closed database may not tell, it is known by its settings; with them also by itself.
    """
    _refuse_last(setting, Q(setting=setting) | Q(setting__url=setting.url))
    if facts is not None:
        _refuse_last(setting, Q(identity=identity_of(facts)))


def _refuse_last(setting: MaintenanceSetting, same: Q) -> None:
    last = RunTarget.objects.real().filter(same, finished_at__isnull=False).order_by("-id").first()
    if last is None or last.status != Status.NEEDS_OPERATOR or last.gate is None or last.outage_ended_at is not None:
        return
    values = {"database": setting.name, "other": last.database, "run": last.run.number}
    if last.database == setting.name:
        raise BadInput(
            msg(
                "{database} waits for an operator since {run}; check its data, then: manage.py release {database}",
                **values,
            )
        )
    raise BadInput(
        msg(
            "{database} is the same database as {other}, which waits for an operator since {run}; check its data, "
            "then: manage.py release {other}",
            **values,
        )
    )


def identity_of(facts: Facts) -> str:
    """Return the identity as keys and records hold it: one length for every engine."""
    return hashlib.sha256(facts.identity.encode()).hexdigest()[:40]


def _refuse_unknown_applications(setting: MaintenanceSetting) -> None:
    """The work would come to them only after the backup."""
    try:
        known = config.load().applications
    except config.ConfigError as error:
        raise BadInput(msg("{text}", text=str(error))) from error
    unknown = [name for name in setting.applications if name not in known]
    if unknown:
        words = msg(
            "{names} not described in config.json; an administrator has to add it there", names=", ".join(unknown)
        )
        raise BadInput(msg("{database}: {error}", database=setting.name, error=words))


def engine_of(setting: MaintenanceSetting) -> Engine:
    """Return an engine that belongs to no run. Raises BadInput where its address or password cannot be used."""
    try:
        return open_engine(setting.engine_url, Tag(0, 0, letters(), mark_reader()), setting.limits)
    except (AddressRefused, LookupError, SecretUnreadable, config.ConfigError) as error:
        words = error.words if isinstance(error, AddressRefused) else str(error)
        raise BadInput(msg("{database}: {error}", database=setting.name, error=words)) from error


def _refuse_target(setting: MaintenanceSetting, facts: Facts) -> None:
    if facts.is_replica:
        raise BadInput(
            msg("{database} is a replica; maintain its primary, the replica follows.", database=setting.name)
        )
    if facts.refusal is not None:
        raise BadInput(msg("{database}: {error}", database=setting.name, error=facts.refusal))
    if facts.identity == _control_identity():
        raise BadInput(
            msg(
                "{database} is the control database of this console itself; it cannot be its target.",
                database=setting.name,
            )
        )
    if facts.data_directory:
        data = Path(facts.data_directory).resolve()
        for folder in filter(None, (setting.backup_dir, setting.alternate_backup_dir)):
            place = Path(folder).resolve()
            if place == data or (data in place.parents and setting.url.split(":")[0].split("+")[0] != "sqlite"):
                raise BadInput(
                    msg(
                        "The backup folder {folder} of {database} is the data folder; choose another disk or folder.",
                        folder=folder,
                        database=setting.name,
                    )
                )


def _refuse_folders(setting: MaintenanceSetting) -> None:
    for folder in filter(None, (setting.backup_dir, setting.alternate_backup_dir)):
        try:
            places.refuse_backup_folder(Path(folder), config.load().backup_roots)
        except places.FolderRefused as error:
            raise BadInput(msg("{database}: {error}", database=setting.name, error=error.sentence)) from error


def _control_identity() -> str:
    engine = open_engine(control_url(connection.settings_dict), Tag(0, 0), MaintenanceSetting().limits)
    try:
        return engine.sessions.facts().identity
    except EngineError:
        return ""
    finally:
        engine.close()
