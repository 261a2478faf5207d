"""System checks: settings with which this console would be dangerous are refused at start."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from maintenance.conf import config

LONGEST_RUN = 180 * 60
"""Seconds; specification 3.1."""


@register("queue")
def queue_settings(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """django-q2 hands a long task to a second worker, or repeats a failing one, unless told otherwise."""
    q: dict[str, Any] = settings.Q_CLUSTER
    wrong: list[CheckMessage] = []

    def refuse(number: int, key: str, want: str, because: str) -> None:
        wrong.append(
            Error(
                f"Q_CLUSTER['{key}'] is {q.get(key)!r}; it must be {want}.",
                hint=because,
                id=f"maintenance.E{number:03d}",
            )
        )

    if q.get("max_attempts") != 1:
        refuse(1, "max_attempts", "1", "Recovery is the sweep's work; the queue must not start a run again by itself.")
    if q.get("ack_failures") is not True:
        refuse(2, "ack_failures", "True", "Otherwise a failing message is delivered again and again.")
    if not q.get("timeout") or q["timeout"] <= LONGEST_RUN:
        refuse(
            3, "timeout", "more than 10800", "A run may take 180 minutes and ends itself; the queue must not kill it."
        )
    if not q.get("retry") or not q.get("timeout") or q["retry"] <= q["timeout"]:
        refuse(4, "retry", "more than timeout", "Otherwise a second worker gets the message of a run that still works.")
    if not q.get("orm") and not q.get("redis"):
        refuse(5, "orm", "the control database's alias", "The message must be committed together with the run.")
    if not str(q.get("broker_class", "")).startswith("maintenance.broker."):
        refuse(7, "broker_class", "a class of maintenance.broker", "Others let a row of the queue run any function.")
    if q.get("scheduler") is not False:
        refuse(8, "scheduler", "False", "Whoever can write into the control database could run any function.")
    if q.get("save_limit", 0) >= 0:
        refuse(9, "save_limit", "below 0", "Kept results are pickles, and reading one runs what was written into it.")
    if settings.SWEEP_SECONDS + settings.LEASE_SECONDS > 50:
        wrong.append(
            Error(
                "LEASE_SECONDS + SWEEP_SECONDS exceeds 50.",
                hint="Recovery has to begin within 60 seconds of a worker's death.",
                id="maintenance.E006",
            )
        )
    return wrong


@register()
def retention_settings(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """Nought would remove what ended a moment ago."""
    kept = ("KEEP_RECORDS_DAYS", "KEEP_PERFORMANCE_DAYS", "KEEP_AUDIT_DAYS", "KEEP_BACKUP_DAYS", "KEEP_BACKUPS")
    return [
        Error(
            f"{name} is {getattr(settings, name)}; it must be 1 or more.",
            hint="Set the environment variable DBMAINT_" + name + ".",
            id=f"maintenance.E{number:03d}",
        )
        for number, name in enumerate(kept, 20)
        if getattr(settings, name) < 1
    ]


@register()
def configuration(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """config.json, read as a maintenance would; a program that is missing is told before it is needed."""
    try:
        found = config.load()
    except config.ConfigError as error:
        return [Error(str(error), hint="docs/configuration.md tells every key.", id="maintenance.E010")]
    return [
        Warning(
            f"{settings.CONFIG_FILE}: applications.{name}.{verb}: there is no program {words[0]}.",
            hint="The application could not be stopped or started.",
            id="maintenance.W011",
        )
        for name, application in found.applications.items()
        for verb, words in (("stop", application.stop), ("start", application.start), ("check", application.check))
        if shutil.which(words[0]) is None
    ]
