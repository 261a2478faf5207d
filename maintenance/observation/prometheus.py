"""DB状態情報 fetched from a Prometheus server with the queries of config.json. What fails is kept and shown."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from django.db.models import Q
from django.utils import timezone

from maintenance.conf import config
from maintenance.conf.config import Prometheus
from maintenance.engines.messages import Message, listed, msg
from maintenance.models import DatabaseState, Feed, MaintenanceSetting

log = logging.getLogger("maintenance")
NAME = "prometheus"
LARGEST = {"health": 100, "connections": 2**31 - 1, "max_connections": 2**31 - 1}
LARGEST_SIZE = 2**63 - 1
FINDINGS = 500
"""More series than this for one database is a mistake in a query."""
LONGEST_ANSWER = 10_000_000
"""Bytes."""
STATES = {"critical": "critical", "high": "degraded", "medium": "watch", "low": "well"}
"""Worst finding -> state."""


class NotRead(Exception):
    """Prometheus did not answer, or with something else than the value that was asked for."""

    def __init__(self, sentence: Message) -> None:
        self.sentence = sentence
        super().__init__(sentence)


@dataclass(frozen=True)
class Series:
    labels: Mapping[str, str]
    value: float


@dataclass
class Seen:
    """What became known of one database."""

    values: dict[str, int] = field(default_factory=dict)
    up: bool | None = None
    findings: list[dict[str, str]] = field(default_factory=list)
    problems: list[Message] = field(default_factory=list)


def due() -> bool:
    """Return True for one caller in each interval, however many clusters ask."""
    try:
        source = config.load().prometheus
    except config.ConfigError as error:
        log.error("Prometheus cannot be read: %s", error)
        return False
    if source is None:
        return False
    now = timezone.now()
    Feed.objects.get_or_create(name=NAME)
    waited = Q(tried_at=None) | Q(tried_at__lte=now - timedelta(seconds=source.interval_seconds))
    return bool(Feed.objects.filter(waited, name=NAME).update(tried_at=now))


def pull() -> int:
    """Write a row of TBL-097 for each database of which something was measured; return how many."""
    source = config.load().prometheus
    if source is None:
        return 0
    feed, _ = Feed.objects.get_or_create(name=NAME, defaults={"tried_at": timezone.now()})
    try:
        answers = {name: ask(source, query) for name, query in source.queries.items()}
        findings = {code: ask(source, entry.query) for code, entry in source.findings.items()}
    except NotRead as error:
        log.error("Prometheus at %s could not be read: %s", source.url, error)
        Feed.objects.filter(pk=feed.pk).update(error=error.sentence)
        return 0
    known = {s.name: s for s in MaintenanceSetting.objects.filter(enabled=True)}
    labels_of = {name: {"database": name} for name in known} if source.databases is None else source.databases
    problems: dict[str, list[Message]] = {}
    written = 0
    for database, labels in labels_of.items():
        if database not in known:
            problems[database] = [msg("config.json names it, but no such database is registered")]
            continue
        status = read(source, answers, findings, labels)
        if status.problems:
            problems[database] = status.problems
        written += keep(known[database], status)
    for database, sentences in problems.items():
        log.error("Prometheus tells not all of %s: %s", database, "; ".join(sentences))
    Feed.objects.filter(pk=feed.pk).update(error="", problems=problems, read_at=timezone.now())
    return written


def ask(source: Prometheus, query: str) -> list[Series]:
    """Return the answer to an instant query (`/api/v1/query`). Raises NotRead."""
    request = Request(f"{source.url}/api/v1/query?{urlencode({'query': query})}")  # noqa: S310  (config.py checks the scheme)
    try:
        if source.token_file is not None:
            # Not for whomever an answer points to.
            request.add_unredirected_header("Authorization", f"Bearer {source.token_file.read_text().strip()}")
        with urlopen(request, timeout=source.timeout_seconds) as answer:  # noqa: S310
            return _series(query, json.loads(answer.read(LONGEST_ANSWER)))
    except HTTPError as error:
        raise NotRead(msg("{query}: {words}", query=query, words=_reason(error))) from error
    except (URLError, OSError, HTTPException) as error:
        raise NotRead(msg("{words}", words=str(getattr(error, "reason", error)))) from error
    except ValueError as error:
        raise NotRead(msg("{query}: the answer is no JSON", query=query)) from error


def _reason(error: HTTPError) -> str:
    """Prometheus says in JSON what is wrong with a query."""
    try:
        return str(json.loads(error.read(10_000))["error"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"


def _series(query: str, answer: Any) -> list[Series]:
    try:
        data = answer["data"]
        if data["resultType"] == "scalar":
            return [Series({}, float(data["result"][1]))]
        return [Series(dict(entry["metric"]), float(entry["value"][1])) for entry in data["result"]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise NotRead(msg("{query}: the answer is no instant vector", query=query)) from error


def read(
    source: Prometheus,
    answers: Mapping[str, Sequence[Series]],
    findings: Mapping[str, Sequence[Series]],
    labels: Mapping[str, str],
) -> Seen:
    """Return what of all this is about the database with these labels."""
    status = Seen()
    for measure, series in answers.items():
        try:
            value = _one(closest(series, labels))
            if measure == "up":
                status.up = value > 0
            else:
                status.values[measure] = _whole(measure, value)
        except NotRead as problem:
            status.problems.append(msg("{measure}: {problem}", measure=measure, problem=problem.sentence))
    for code, series in findings.items():
        entry = source.findings[code]
        mine = [s for s in series if about(s, labels)]
        if len(mine) > FINDINGS:
            status.problems.append(
                msg(
                    "{code}: {count} series are too many, only {kept} were kept",
                    code=code,
                    count=len(mine),
                    kept=FINDINGS,
                )
            )
        for one in mine[:FINDINGS]:
            status.findings.append(
                {
                    "code": code,
                    "severity": entry.severity,
                    "object": _object(one)[:500],
                    "evidence": f"{entry.query} = {one.value:g}"[:2000],
                    "hint": entry.hint,
                }
            )
    return status


def about(series: Series, labels: Mapping[str, str]) -> int:
    """Return how many of the labels it has; 0 when it has one with another value. `pg_up` knows only the instance."""
    common = [name for name in labels if name in series.labels]
    return len(common) if all(series.labels[name] == labels[name] for name in common) else 0


def closest(series: Sequence[Series], labels: Mapping[str, str]) -> list[Series]:
    """Return those with the most of the labels: a series of the whole server is not about one of its databases."""
    most = max((about(s, labels) for s in series), default=0)
    return [s for s in series if most and about(s, labels) == most]


def _one(series: Sequence[Series]) -> float:
    if not series:
        raise NotRead(msg("no series is about this database"))
    if len(series) > 1:
        raise NotRead(msg("{count} series are about this database; aggregate them in the query", count=len(series)))
    return series[0].value


def _whole(measure: str, value: float) -> int:
    if not math.isfinite(value) or not 0 <= value <= LARGEST.get(measure, LARGEST_SIZE):
        raise NotRead(msg("{value} cannot be", value=f"{value:g}"))
    return round(value)


def _object(series: Series) -> str:
    """The table, where the series names one."""
    for name in ("object", "relname", "table"):
        if series.labels.get(name):
            schema = series.labels.get("schemaname")
            return f"{schema}.{series.labels[name]}" if schema else series.labels[name]
    return ""


def keep(setting: MaintenanceSetting, seen: Seen) -> bool:
    """Write the state, unless nothing was measured; return whether. Sizes alone do not tell that a database is well."""
    if seen.up is None and not seen.values and not seen.findings:
        return False
    worst = next((s for s in STATES if any(f["severity"] == s for f in seen.findings)), "low")
    told = seen.up is not None or seen.findings or "health" in seen.values
    DatabaseState.objects.create(
        setting=setting,
        source=DatabaseState.Source.MONITORING,
        state="unreachable" if seen.up is False else STATES[worst] if told else "unknown",
        findings=seen.findings,
        error=listed(seen.problems),
        **seen.values,
    )
    return True
