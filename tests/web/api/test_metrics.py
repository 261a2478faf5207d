"""What Prometheus reads."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.utils import timezone

from maintenance.api import metrics
from maintenance.models import BackupFile, Feed, Incident, MaintenanceSetting, Notification, RunTarget, Status, Worker
from tests import records
from tests.web.api.calling import CANARY, Caller, Register


@pytest.mark.django_db
class TestMetrics:
    def values(self) -> dict[str, float]:
        answer = Client().get("/metrics")
        assert answer.status_code == 200
        assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
        text = answer.content.decode()
        assert CANARY not in text
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    def test_of_an_empty_console(self) -> None:
        told = self.values()
        assert told == {
            "dbmaint_queue_length": 0,
            "dbmaint_workers_alive": 0,
            "dbmaint_messages_failing": 0,
            "dbmaint_runs_awaiting_approval": 0,
            "dbmaint_audit_alarm": 0,
        }

    def test_what_has_been(self, shop: MaintenanceSetting) -> None:
        now = timezone.now()
        records.finished_run(created_at=now)
        records.empty_run(created_at=now)
        BackupFile.objects.update(created_at=now - timedelta(hours=2))
        told = self.values()
        labels = '{status="succeeded",type="rebuild"}'
        assert told[f"dbmaint_runs{labels}"] == 1
        assert told[f"dbmaint_run_duration_seconds_sum{labels}"] == 80
        assert told[f"dbmaint_run_outage_seconds_sum{labels}"] == 41.5
        assert told['dbmaint_run_outage_seconds_count{status="failed",type="rebuild"}'] == 0
        assert told['dbmaint_database_health{database="shop"}'] == 45
        assert told['dbmaint_database_state{database="shop",state="critical"}'] == 1
        assert told['dbmaint_database_state{database="shop",state="well"}'] == 0
        assert 7200 <= told['dbmaint_last_verified_backup_age_seconds{database="shop"}'] < 7260
        assert told["dbmaint_success_ratio"] == 0.5
        ended = told['dbmaint_last_run_ended_timestamp_seconds{database="shop",status="succeeded"}']
        assert ended == records.at(78).timestamp()
        assert told['dbmaint_integrity_ratio{database="shop"}'] == 1

    def test_a_proof_that_found_something(self, shop: MaintenanceSetting) -> None:
        run = records.empty_run()
        target = records.target_of(run, "shop")
        records.add_proof(target, ["public.orders"], problems=["public.orders: 3 rows are missing"])
        assert self.values()['dbmaint_integrity_ratio{database="shop"}'] == pytest.approx(2 / 3)

    def test_what_waits_for_people(self, shop: MaintenanceSetting) -> None:
        run = records.empty_run(status=Status.AWAITING_APPROVAL, finished_at=None)
        Incident.objects.create(fingerprint="f", alert="x", severity_level="high", opened_at=timezone.now())
        Notification.objects.create(run=run, event="late", audience="dba", tries=3)
        Notification.objects.create(run=run, event="late", audience="dba", tries=2)
        read = timezone.now() - timedelta(minutes=5)
        Feed.objects.create(name="prometheus", tried_at=timezone.now(), read_at=read, problems={"shop": ["x"]})
        told = self.values()
        assert told['dbmaint_incidents_open{severity="high"}'] == 1
        assert (told["dbmaint_messages_failing"], told["dbmaint_runs_awaiting_approval"]) == (1, 1)
        assert 300 <= told["dbmaint_feed_age_seconds"] < 330
        assert told["dbmaint_feed_problems"] == 1

    @pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
    def test_promtool_finds_nothing_to_improve(self, shop: MaintenanceSetting) -> None:
        now = timezone.now()
        records.finished_run(created_at=now)
        run = records.empty_run(status=Status.RUNNING, finished_at=None)
        records.target_of(run, "shop", beat_at=now, started_at=now, outage_started_at=now, finished_at=None)
        Feed.objects.create(name="prometheus", tried_at=now)
        Incident.objects.create(fingerprint="f", alert="x", severity_level="high", opened_at=now)
        text = Client().get("/metrics").content
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")

    def test_what_is_going_on(self, shop: MaintenanceSetting, fake: Register) -> None:
        now = timezone.now()
        Worker.objects.create(name="here:1")
        run = records.empty_run(["shop", "crm"], status=Status.RUNNING, finished_at=None)
        begun = now - timedelta(seconds=30)
        records.target_of(run, "shop", beat_at=now - timedelta(seconds=9), outage_started_at=begun)
        records.target_of(run, "crm", status=Status.QUEUED)
        told = self.values()
        labels = f'{{database="shop",run="{run.pk}"}}'
        assert (told["dbmaint_queue_length"], told["dbmaint_workers_alive"]) == (1, 1)
        assert 9 <= told[f"dbmaint_lease_age_seconds{labels}"] < 20
        assert 30 <= told[f"dbmaint_outage_now_seconds{labels}"] < 40
        assert told['dbmaint_database_state{database="shop",state="maintenance"}'] == 1

    def test_an_outage_goes_on_after_the_run_until_somebody_released_the_database(
        self, shop: MaintenanceSetting
    ) -> None:
        begun, over = timezone.now() - timedelta(hours=2), timezone.now() - timedelta(hours=1)
        run = records.empty_run(status=Status.NEEDS_OPERATOR)
        target = records.target_of(run, "shop", outage_started_at=begun, finished_at=over)
        name = f'dbmaint_outage_now_seconds{{database="shop",run="{run.pk}"}}'
        assert 7200 <= self.values()[name] < 7230
        RunTarget.objects.filter(pk=target.pk).update(outage_ended_at=timezone.now())
        assert name not in self.values()

    def test_how_long_it_takes_may_take_and_usually_takes(self, shop: MaintenanceSetting) -> None:
        records.finished_run()
        run = records.empty_run(status=Status.RUNNING, finished_at=None)
        records.target_of(run, "shop", started_at=timezone.now() - timedelta(minutes=3), finished_at=None)
        told = self.values()
        labels = f'{{database="shop",run="{run.pk}"}}'
        assert 180 <= told[f"dbmaint_run_age_seconds{labels}"] < 200
        assert told[f"dbmaint_run_limit_seconds{labels}"] == 180 * 60
        assert told[f"dbmaint_run_usual_seconds{labels}"] == 78

    def test_from_elsewhere_with_a_token_of_scope_read(self, machine: Caller, people: dict[str, User]) -> None:
        for elsewhere in ({"REMOTE_ADDR": "192.0.2.7"}, {"HTTP_X_FORWARDED_FOR": "192.0.2.7"}):
            client = Client(**elsewhere)  # type: ignore[arg-type]
            answer = client.get("/metrics")
            assert (answer.status_code, answer["Content-Type"]) == (401, "application/problem+json")
            assert client.get("/metrics", headers=machine("monitoring", "read").headers).status_code == 200
            assert client.get("/metrics", headers=machine("monitoring", "monitor").headers).status_code == 403
            assert client.get("/metrics", headers=machine("outsider", "read").headers).status_code == 403
            client.force_login(people["manager"])
            assert client.get("/metrics").status_code == 200

    def test_a_wrong_token_is_told_even_here(self) -> None:
        assert Client().get("/metrics", headers={"Authorization": "Bearer x"}).status_code == 401
        assert metrics.direct(RequestFactory().get("/metrics"))
