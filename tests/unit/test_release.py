"""Service comes back in stages, and a stage that the database does not bear is taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import call_command

from maintenance.conf import config
from maintenance.conf.config import Application
from maintenance.engines.errors import Transient
from maintenance.models import MaintenanceRun, MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner
from maintenance.workflow.blackbox import BlackBox
from tests import fakes
from tests.fakes import FakeEngine

pytestmark = pytest.mark.django_db(transaction=True)
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


@pytest.mark.parametrize(
    ("failures", "stages"),
    [
        (0, ["0.10", "0.50", "all"]),
        (1, ["0.10", "0.50", "0.10", "0.50", "all"]),
    ],
)
def test_a_stage_with_errors_is_taken_back_and_tried_again(
    fake: Register,
    request_for: Ask,
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
    stages: list[str],
) -> None:
    setting = fake()
    setting.functional_checks, setting.stage_wait_seconds = ["SELECT shop_works"], 0
    setting.save()
    path = Path(str(setting.engine_url.database))
    opened: list[str] = []
    left = [failures]
    open_gate, query = FakeEngine.open, FakeEngine.query

    def noted(self: FakeEngine, gate: dict[str, object], share: float | None) -> None:
        opened.append("all" if share is None else f"{share:.2f}")
        open_gate(self, gate, share)

    def failing(self: FakeEngine, sql: str) -> list[tuple[object, ...]]:
        if json.loads(path.read_text())["gate"]["limit"] == 50 and left[0]:
            left[0] -= 1
            return [(False,)]
        return query(self, sql)

    monkeypatch.setattr("reports.write.make_reports", lambda run: None)
    monkeypatch.setattr(FakeEngine, "open", noted)
    monkeypatch.setattr(FakeEngine, "query", failing)
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    runner.advance(run.targets.get().pk)
    assert opened == stages
    assert MaintenanceRun.objects.get(pk=run.pk).status == "succeeded"
    lines = run.targets.get().steps.filter(part="step back").values_list("sentence", flat=True)
    assert len(lines) == failures
    assert all("Stepped back to 10 % because of: SELECT shop_works" in line for line in lines)


def box_with(tmp_path: Path, url: str, *applications: str) -> Path:
    """The black box of a worker that died under the cut, with applications stopped."""
    box = BlackBox(tmp_path / "box.jsonl")
    box.write({"kind": "opened", "url": url, "sealed_password": "", "target": 5, "token": 2})
    box.write({"kind": "changed", "gate": fakes.OPEN})
    for name in applications:
        box.write({"kind": "started", "before": {"application": name, "was_running": True}})
    return box.path


def applications_in(monkeypatch: pytest.MonkeyPatch, folder: Path, **starting: str) -> None:
    """Applications that run once their start command has made a file."""
    known = {
        name: Application(name, ("false",), ("sh", "-c", command), ("test", "-e", str(folder / name)), 5)
        for name, command in starting.items()
    }
    monkeypatch.setattr(config, "load", lambda: SimpleNamespace(applications=known))


def test_release_by_hand_tries_every_part_past_the_failure_of_another(
    fake: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = fake(open_gate=["permanent"])
    box = box_with(tmp_path, str(setting.engine_url), "first", "broken", "unknown")
    applications_in(monkeypatch, tmp_path, first=f"touch {tmp_path}/first", broken="exit 7")
    with pytest.raises(SystemExit) as ended:
        call_command("release", "shop", "--black-box", str(box))
    told = capsys.readouterr()
    assert ended.value.code == 3
    assert "Started first." in told.err
    for failure in ("told to fail", "Failed while starting broken", "start unknown by hand"):
        assert failure in told.err
    assert "open as before" not in told.out
    assert "released" not in box.read_text(), "it can be done again"


def test_release_by_hand_opens_connections_although_an_application_does_not_start(
    fake: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = fake()
    path = Path(str(setting.engine_url.database))
    path.write_text(json.dumps({**json.loads(path.read_text()), "gate": {"limit": 0, "comment": "dbmaint"}}))
    applications_in(monkeypatch, tmp_path, broken="exit 7")
    with pytest.raises(SystemExit) as ended:
        call_command("release", "shop", "--black-box", str(box_with(tmp_path, str(setting.engine_url), "broken")))
    assert ended.value.code == 3
    assert json.loads(path.read_text())["gate"] == fakes.OPEN
    assert "Connections are as before." in capsys.readouterr().err


def test_release_by_hand_touches_nothing_where_another_maintenance_has_the_database(
    fake: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(self: FakeEngine) -> int:
        raise Transient("taking the maintenance lock of", "shop", "another maintenance holds it")

    setting = fake()
    monkeypatch.setattr(FakeEngine, "fence", held)
    applications_in(monkeypatch, tmp_path, first=f"touch {tmp_path}/first")
    with pytest.raises(SystemExit) as ended:
        call_command("release", "shop", "--black-box", str(box_with(tmp_path, str(setting.engine_url), "first")))
    assert ended.value.code == 3
    assert not (tmp_path / "first").exists()
    assert not any(
        "open_gate" in call for call in json.loads(Path(str(setting.engine_url.database)).read_text())["calls"]
    )
