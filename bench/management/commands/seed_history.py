"""Synthetic finished runs, so that pages can be tried with a long history."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from maintenance import terminal
from maintenance.models import ENDED, MaintenanceRun, MaintenanceType, Node, RunTarget, SeverityLevel, Status

BATCH = 5000
NAMES = ("shop", "billing", "warehouse", "crm", "kiosk")


class Command(terminal.PersonsCommand):
    needs = ("add_maintenancerun",)
    help = "Adds N synthetic finished runs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("count", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        chance = random.Random(905)
        now = timezone.now()
        for first in range(0, options["count"], BATCH):
            numbers = range(first, min(first + BATCH, options["count"]))
            runs = MaintenanceRun.objects.bulk_create(
                [made_up(chance, now - timedelta(minutes=37 * n)) for n in numbers]
            )
            RunTarget.objects.bulk_create([target_of(run, chance) for run in runs])
        self.stdout.write(f"Added {options['count']} runs.")


def made_up(chance: random.Random, at: Any) -> MaintenanceRun:
    status = Status.SUCCEEDED if chance.random() < 0.96 else chance.choice(ENDED)
    outage = chance.lognormvariate(5, 1)
    return MaintenanceRun(
        maintenance_type=chance.choice(MaintenanceType.values),
        target_databases=[chance.choice(NAMES)],
        severity_level=chance.choice(SeverityLevel.values),
        reason="synthetic",
        requested_by_name="seed_history",
        origin="seed",
        status=status,
        ended_because="Synthetic run.",
        created_at=at,
        started_at=at,
        finished_at=at + timedelta(seconds=outage * 2),
        outage_seconds=outage,
        duration_seconds=outage * 2,
    )


def target_of(run: MaintenanceRun, chance: random.Random) -> RunTarget:
    assert run.started_at is not None
    ratio = chance.lognormvariate(-0.7, 0.5) if chance.random() < 0.9 else None
    return RunTarget(
        run=run,
        database=run.target_databases[0],
        engine="postgresql",
        status=run.status,
        node=Node.COMPLETE if run.status == Status.SUCCEEDED else Node.END_IN_FAILURE,
        ended_because=run.ended_because,
        attempt=1,
        token=1,
        started_at=run.started_at,
        finished_at=run.finished_at,
        outage_started_at=run.started_at,
        outage_ended_at=run.started_at + timedelta(seconds=run.outage_seconds or 0),
        out_seconds=run.outage_seconds,
        ratio=ratio,
        change="unmeasured" if ratio is None else "faster" if ratio < 0.9 else "slower" if ratio > 1.1 else "no_change",
        bytes_won=int(chance.lognormvariate(18, 1.5)),
    )
