"""TBL-098 メンテナンス設定: one row a target database."""

from __future__ import annotations

import os
import re
from math import isfinite
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError

from maintenance.conf import config, places
from maintenance.conf.secrets import SecretUnreadable, open_secret, seal_secret
from maintenance.engines import addresses
from maintenance.engines.messages import Message
from maintenance.engines.values import Limits, RestoreBudget, Thresholds

SHARE = [MinValueValidator(0.0), MaxValueValidator(1.0)]
NOT_NEGATIVE = [MinValueValidator(0)]
ABOVE_ZERO = [MinValueValidator(0.001, _("Give a number above 0."))]
READS = re.compile(r"(select|with|values|table)\b", re.IGNORECASE)
SECRET_OPTIONS = {"password", "passwd", "sslpassword"}
"""Of a URL, which pages show."""
LISTS = ("applications", "benchmark_queries", "functional_checks", "approval_severities", "approval_types")
NAMES = {
    "approval_severities": ("critical", "high", "medium"),
    "approval_types": ("repair", "optimize", "rebuild"),
}
"""What these lists may hold."""


class MaintenanceSetting(models.Model):
    """Connection, backup places, applications, thresholds, benchmark, retries. Addresses are for all: config.json."""

    name = models.CharField(
        _("name"),
        max_length=63,
        unique=True,
        validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", _("Letters, digits, dot, dash and underscore."))],
        help_text=_("What people, commands and monitoring call this database. Typed to confirm a maintenance."),
    )
    url = models.CharField(
        _("URL"),
        max_length=500,
        help_text=_(
            "SQLAlchemy URL without the password: postgresql://user@host:5432/db, mysql://…, sqlite:////path. "
            "Of parameters it takes those of TLS, time limits, character set and socket."
        ),
    )
    sealed_password = models.TextField(_("password, encrypted"), blank=True, editable=False)
    enabled = models.BooleanField(
        _("enabled"), default=True, help_text=_("Otherwise it is neither offered, nor watched, nor part of “all”.")
    )
    backup_dir = models.CharField(
        _("backup folder"),
        max_length=500,
        help_text=_(
            "Absolute path on the worker's host, below a folder that config.json names for backups, with room for a "
            "whole backup. The black box lies there too."
        ),
    )
    alternate_backup_dir = models.CharField(
        _("alternate backup folder"),
        max_length=500,
        blank=True,
        help_text=_("Another disk, used when the backup fails. Empty: another method into the first folder."),
    )
    applications = models.JSONField(
        _("applications"),
        default=list,
        blank=True,
        help_text=_("Stopped before connections are cut and started again afterwards, as config.json describes."),
    )

    bloat_share = models.FloatField(
        _("bloat from which an object is rewritten"),
        default=0.30,
        validators=SHARE,
        help_text=_("Share of its size that holds nothing, 0 to 1. Rewriting locks the object."),
    )
    dead_share = models.FloatField(
        _("dead rows from which a table is vacuumed"),
        default=0.20,
        validators=SHARE,
        help_text=_("Share of all its rows, 0 to 1."),
    )
    stale_share = models.FloatField(
        _("changed rows from which statistics are renewed"),
        default=0.10,
        validators=SHARE,
        help_text=_("Share of all its rows changed since the last statistics, 0 to 1."),
    )
    minimum_bytes = models.BigIntegerField(
        _("size below which bloat is ignored (bytes)"),
        default=1_000_000,
        validators=NOT_NEGATIVE,
        help_text=_("Smaller objects are not worth a lock."),
    )

    benchmark_queries = models.JSONField(
        _("benchmark queries"),
        default=list,
        blank=True,
        help_text=_("SELECT statements measured before and after. Empty: chosen by the engine."),
    )
    benchmark_repeats = models.PositiveIntegerField(
        _("measurements of each query"),
        default=9,
        validators=[MinValueValidator(1)],
        help_text=_("The median counts. More of them: less noise, longer outage."),
    )
    functional_checks = models.JSONField(
        _("functional checks"),
        default=list,
        blank=True,
        help_text=_("SELECT statements that must return a row whose first value is true."),
    )
    load_seconds = models.FloatField(
        _("load test (seconds)"),
        default=5.0,
        validators=NOT_NEGATIVE,
        help_text=_("How long the queries run at once before service comes back."),
    )
    load_clients = models.PositiveIntegerField(
        _("load test (clients)"), default=2, help_text=_("How many of them at the same time.")
    )

    transient_retries = models.PositiveIntegerField(
        _("retries after a transient error"),
        default=2,
        help_text=_("Lost connection, lock timeout, deadlock, server restarting."),
    )
    transient_wait_seconds = models.FloatField(
        _("wait after a transient error (s)"), default=60, validators=NOT_NEGATIVE, help_text=_("Before each retry.")
    )
    resource_retries = models.PositiveIntegerField(
        _("retries after a resource shortage"), default=1, help_text=_("Disk full, out of memory, no connection free.")
    )
    resource_wait_seconds = models.FloatField(
        _("wait after a resource shortage (s)"), default=300, validators=NOT_NEGATIVE, help_text=_("Before each retry.")
    )
    integrity_retries = models.PositiveIntegerField(
        _("repairs after an integrity error"), default=1, help_text=_("Then the database is rolled back.")
    )
    integrity_wait_seconds = models.FloatField(
        _("wait after an integrity error (s)"), default=600, validators=NOT_NEGATIVE, help_text=_("Before the repair.")
    )
    additional_rounds = models.PositiveIntegerField(
        _("additional rounds when not improved"),
        default=1,
        help_text=_("Work and measurement once more; then it is reported as not improved."),
    )

    timeout_minutes = models.FloatField(
        _("maximum duration (minutes)"),
        default=180,
        validators=ABOVE_ZERO,
        help_text=_("Of the whole maintenance. What is not done by then is rolled back."),
    )
    reserve_minutes = models.FloatField(
        _("of which kept back for a rollback (minutes)"),
        default=30,
        validators=NOT_NEGATIVE,
        help_text=_("No work begins or goes on in this last part of it."),
    )
    release_stages = models.JSONField(
        _("stages of release (percent)"),
        default=list,
        blank=True,
        help_text=_("Shares of the connections let in one after the other. Empty: 10, 50, then as before."),
    )
    stage_wait_seconds = models.FloatField(
        _("wait between stages (s)"),
        default=10,
        validators=NOT_NEGATIVE,
        help_text=_("After it the database is asked how it does; a stage that it does not bear is taken back."),
    )
    watch_minutes = models.FloatField(
        _("watch window after maintenance (minutes)"),
        default=60,
        validators=NOT_NEGATIVE,
        help_text=_("The database is looked at again and again for so long. 0: not at all."),
    )
    watch_interval_seconds = models.FloatField(
        _("interval in the watch window (s)"),
        default=60,
        validators=NOT_NEGATIVE,
        help_text=_("Between two looks."),
    )

    jobs = models.PositiveIntegerField(
        _("parallel connections"),
        default=2,
        validators=[MinValueValidator(1)],
        help_text=_("Objects worked on at the same time; never more than the CPU limit leaves processors."),
    )
    memory_limit_mb = models.PositiveIntegerField(
        _("memory limit (MB)"),
        default=8192,
        help_text=_("Bounds what sorting and building indexes may take, all connections together."),
    )
    cpu_limit_percent = models.PositiveIntegerField(
        _("CPU limit (%)"),
        default=90,
        validators=[MinValueValidator(10), MaxValueValidator(100)],
        help_text=_("Of the processors of the worker's host, 10 to 100."),
    )
    lock_seconds = models.FloatField(
        _("lock timeout (s)"),
        default=10,
        validators=ABOVE_ZERO,
        help_text=_("A statement that does not get its lock by then fails as a transient error."),
    )
    statement_seconds = models.FloatField(
        _("statement timeout (s)"),
        default=7200,
        validators=ABOVE_ZERO,
        help_text=_("A single statement that runs longer is ended by the server."),
    )
    cut_seconds = models.FloatField(
        _("time to get everybody out (s)"),
        default=30,
        validators=ABOVE_ZERO,
        help_text=_("No work begins while somebody is left: then the maintenance ends, and everything is as before."),
    )
    switch_seconds = models.FloatField(
        _("silence of the console after which a closed database opens by itself (s)"),
        default=900,
        validators=NOT_NEGATIVE,
        help_text=_("0: never. Only while its data is known to be whole."),
    )
    restore_test = models.CharField(
        _("test of each backup"),
        max_length=11,
        choices=[("full", _("restore every row")), ("definitions", _("restore definitions")), ("off", _("none"))],
        default="full",
        help_text=_("Before applications stop, a backup is restored beside the database where the product offers it."),
    )
    restore_test_seconds = models.FloatField(
        _("time for the test of a backup (s)"),
        default=3600,
        validators=ABOVE_ZERO,
        help_text=_("A test that takes longer is repeated with the definitions alone."),
    )
    restore_test_disk_share = models.FloatField(
        _("free space that the test of a backup may take"),
        default=0.5,
        validators=SHARE,
        help_text=_("0 to 1. Where the copy would take more, only definitions are restored."),
    )
    approval_severities = models.JSONField(
        _("severities that need a second person"),
        default=list,
        blank=True,
        help_text=_(
            "Where one is named, every maintenance of this database waits until somebody else approves it: the "
            "severity is the asker's own word. None: nobody has to. To name fewer takes two people."
        ),
    )
    approval_types = models.JSONField(
        _("types that need a second person"),
        default=list,
        blank=True,
        help_text=_("A maintenance of such a type waits, whatever its severity. To name fewer takes two people."),
    )
    approval_data_loss = models.BooleanField(
        _("data loss needs a second person"),
        default=False,
        help_text=_(
            "Who allows that rows are lost waits for somebody else. So it is wherever another rule of approval is set. "
            "To take it back takes two people."
        ),
    )
    approval_outage_seconds = models.FloatField(
        _("outage from which a second person is needed (s)"),
        default=0,
        validators=NOT_NEGATIVE,
        help_text=_(
            "It waits where one of the last outages by the same type was that long, or where there was none to tell "
            "from. 0: never. A longer one takes two people."
        ),
    )
    proposed_rule = models.JSONField(_("rule that waits for a second person"), null=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    entered_password: str | None = None
    """What somebody has just typed; `clean` stores it for the address that was given with it. Empty: there is none."""

    class Meta:
        db_table = "tbl_098_maintenance_setting"
        verbose_name = _("maintenance setting")
        verbose_name_plural = _("maintenance settings")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse what could never work or may not be, by name; take a password out of the URL."""
        try:
            parsed = addresses.parse(self.url)
        except UnicodeEncodeError as error:
            raise ValidationError(
                {"url": _("This is not UTF-8. Give the file a name that is, or a link to it.")}
            ) from error
        except (ArgumentError, ValueError) as error:  # the latter of a port that is no number
            raise ValidationError(
                {"url": _("This is not a SQLAlchemy URL such as postgresql://user@host/db.")}
            ) from error
        if parsed.password is not None:
            self.entered_password = str(parsed.password)
            # `set(password=None)` would keep it: None means "as it is" there.
            self.url = parsed._replace(password=None).render_as_string(hide_password=False)
        if SECRET_OPTIONS.intersection(parsed.query):
            raise ValidationError({"url": _("Give the password before the @: what follows the address is shown.")})
        try:
            places.refuse_address(addresses.parse(self.url))
        except addresses.AddressRefused as refusal:
            raise ValidationError({"url": translated(refusal.words)}) from refusal
        except config.ConfigError as error:
            raise ValidationError({"url": str(error)}) from error
        self._refuse_another_database()
        self._settle_password()
        self._refuse_folders()
        self._refuse_numbers()
        self._refuse_lists()

    def _refuse_another_database(self) -> None:
        """A successor of a worker that died would go on with the new one where the first stopped with the old."""
        before = MaintenanceSetting.objects.filter(pk=self.pk).first()
        held = None if before is None else before.targets.filter(finished_at=None).select_related("run").first()
        for field in ("name", "url"):
            if held is not None and getattr(self, field) != getattr(before, field):
                raise ValidationError(
                    {field: gettext("{run} works on it; change this when that is over.").format(run=held.run.number)}
                )

    def _settle_password(self) -> None:
        """A stored password stays with the user, the server and the protection that it was entered for."""
        if self.entered_password is not None:
            self.password, self.entered_password = self.entered_password, None
            return
        before = MaintenanceSetting.objects.filter(pk=self.pk).first()
        if not self.sealed_password or before is None:
            return
        old, new = addresses.parse(before.url), addresses.parse(self.url)
        if addresses.password_owner(old) == addresses.password_owner(new):
            return
        if not addresses.only_stronger(old, new):
            raise ValidationError(
                {"url": _("User, host, port, socket or protection changed: enter the password again with them.")}
            )
        try:
            self.password = before.password
        except SecretUnreadable as error:
            raise ValidationError({"url": str(error)}) from error

    def _refuse_folders(self) -> None:
        for field in ("backup_dir", "alternate_backup_dir"):
            value = getattr(self, field)
            if not value:
                continue
            if not Path(value).is_absolute():
                raise ValidationError({field: _("Give an absolute path.")})
            try:
                places.refuse_backup_folder(Path(value), config.load().backup_roots)
            except places.FolderRefused as refusal:
                raise ValidationError({field: translated(refusal.sentence)}) from refusal
            except config.ConfigError as error:
                raise ValidationError({field: str(error)}) from error
        if self.alternate_backup_dir and Path(self.alternate_backup_dir) == Path(self.backup_dir):
            raise ValidationError({"alternate_backup_dir": _("The alternate must be another folder.")})

    def _refuse_numbers(self) -> None:
        for column in self._meta.fields:
            value = getattr(self, column.name)
            if isinstance(value, float) and not isfinite(value):
                raise ValidationError({column.name: _("Give a number.")})
        if self.timeout_minutes <= self.reserve_minutes:
            raise ValidationError(
                {"reserve_minutes": _("Less than the maximum duration, or no time is left for the work.")}
            )

    def _refuse_lists(self) -> None:
        """The form makes them so; the command line takes any JSON."""
        for field in LISTS:
            value = getattr(self, field)
            if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
                raise ValidationError({field: _("Give a list of texts.")})
        for field in ("benchmark_queries", "functional_checks"):
            refuse_writing(field, getattr(self, field))
        for field, known in NAMES.items():
            if set(getattr(self, field)) - set(known):
                words = gettext("It is one of: {names}.").format(names=", ".join(known))
                raise ValidationError({field: words})
        if not rising_shares(self.release_stages):
            raise ValidationError(
                {"release_stages": _("Each is above 0, below 100, and larger than the one before it: 10, 50.")}
            )

    @property
    def password(self) -> str:
        """Raises SecretUnreadable when it was entered for another address than that of this row."""
        owner = addresses.password_owner(addresses.parse(self.url))
        return open_secret(self.sealed_password, owner) if self.sealed_password else ""

    @password.setter
    def password(self, value: str) -> None:
        owner = addresses.password_owner(addresses.parse(self.url))
        self.sealed_password = seal_secret(value, owner) if value else ""

    @property
    def engine_url(self) -> URL:
        """With the password, for engines only. Raises AddressRefused or SecretUnreadable: the row may have been
        written by somebody else than the console."""
        return with_password(addresses.parse(self.url), self.sealed_password)

    @property
    def thresholds(self) -> Thresholds:
        return Thresholds(self.bloat_share, self.dead_share, self.stale_share, self.minimum_bytes)

    @property
    def limits(self) -> Limits:
        """`jobs` never exceeds the processors that the CPU limit leaves."""
        processors = max(1, int((os.cpu_count() or 1) * self.cpu_limit_percent / 100 + 0.5))
        return Limits(
            min(self.jobs, processors),
            self.memory_limit_mb,
            self.lock_seconds,
            self.statement_seconds,
            self.cut_seconds,
        )

    @property
    def restore_budget(self) -> RestoreBudget:
        """How far a backup is restored before it counts."""
        return RestoreBudget(self.restore_test, self.restore_test_seconds, self.restore_test_disk_share)

    @property
    def stages(self) -> list[float]:
        """Shares (0..1) before the full release."""
        return [float(p) / 100 for p in (self.release_stages or [10, 50]) if 0 < float(p) < 100]


def with_password(url: URL, sealed_password: str) -> URL:
    """The address of a target as engines want it. Raises AddressRefused or SecretUnreadable."""
    places.refuse_address(url)
    return url.set(password=open_secret(sealed_password, addresses.password_owner(url))) if sealed_password else url


def translated(sentence: str) -> str:
    """In the reader's language."""
    if not isinstance(sentence, Message):
        return sentence
    template = gettext(sentence.template)
    return template.format(**sentence.values) if sentence.values else template


def refuse_writing(field: str, statements: list[str]) -> None:
    for statement in statements:
        if not READS.match(statement.strip()):
            raise ValidationError(
                {
                    field: gettext("This does not read: {statement} - begin it with SELECT or WITH.").format(
                        statement=statement[:60]
                    )
                }
            )


def rising_shares(stages: Any) -> bool:
    """Whether these are percentages above 0 and below 100, each larger than the one before."""
    numbers = isinstance(stages, list) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and 0 < x < 100 for x in stages
    )
    return numbers and stages == sorted(set(stages))
