"""Specification 9.2 on real databases: what was spoilt is brought back, with every row committed before the cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from maintenance.auditing import chain
from maintenance.engines.base import Engine
from maintenance.engines.errors import Unable
from maintenance.engines.messages import msg
from maintenance.models import MaintenanceRun, MaintenanceSetting, Node, StepState
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.results.outcome import outcome
from maintenance.workflow import runner
from maintenance.workflow.steps import cut, maintain
from maintenance.workflow.steps.context import Context
from tests.engines.lab import Lab

pytestmark = pytest.mark.django_db(transaction=True)
EVERYTHING = "SELECT count(*), sum(id) FROM orders"
LATE = "INSERT INTO orders (id, customer_id, status, note) VALUES (700001, 1, 'new', 'after the backup')"


def spoil(lab: Lab, engine: Engine, statement: str) -> None:
    """Changes data although the database is cut off, as a bug in the maintenance would."""
    held: Any = engine
    match engine.name:
        case "sqlite":
            lab.under_cut(engine, statement)  # type: ignore[attr-defined]
        case "postgresql":
            with held.target.session("spoiling", settings={"search_path": "public"}) as connection:
                connection.exec_driver_sql(statement)
        case _:
            lab.sql(statement)


@pytest.fixture
def setting(lab: Lab, settings: Any) -> MaintenanceSetting:
    made = MaintenanceSetting(
        name="shop",
        url=lab.url.render_as_string(hide_password=False),
        backup_dir=f"{settings.HOME}/backups/{lab.folder.name}",
        stage_wait_seconds=0,
        load_seconds=0.1,
        benchmark_repeats=3,
        integrity_wait_seconds=0,
        transient_wait_seconds=0.2,
        minimum_bytes=100_000,
    )
    made.full_clean()
    made.save()
    return made


@pytest.fixture(autouse=True)
def _no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)


def go(someone: Actor, request: Request) -> MaintenanceRun:
    run = launch.launch(someone, request, enqueue=False)
    runner.advance(run.targets.get().pk)
    return MaintenanceRun.objects.get(pk=run.pk)


@pytest.fixture
def late_rows(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application commits between the backup and the cut."""
    close = cut.close

    def after_one_more_row(ctx: Context) -> None:
        with lab.application() as client:
            client.execute(LATE)
        close(ctx)

    monkeypatch.setattr(cut, "close", after_one_more_row)


def breaking(lab: Lab, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    """Every piece of work also deletes rows; with `error` it then fails."""
    perform = maintain.perform

    def badly(ctx: Context, action: Any) -> Any:
        spoil(lab, ctx.engine, "DELETE FROM orders WHERE mod(id, 7) = 1")
        if error is not None:
            line = ctx.journal.action_started(action, ctx.target.round)
            ctx.journal.action_failed(line, StepState.FAILED, msg("It broke."))
            raise error
        return perform(ctx, action)

    monkeypatch.setattr(maintain, "perform", badly)


@pytest.mark.usefixtures("late_rows")
@pytest.mark.parametrize("fails", [True, False], ids=["maintenance fails", "integrity error"])
def test_spoilt_data_is_rolled_back_with_the_rows_committed_after_the_backup(
    lab: Lab,
    setting: MaintenanceSetting,
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
    fails: bool,
) -> None:
    lab.fill()
    count, total = (int(str(x)) for x in lab.sql(EVERYTHING)[0])
    breaking(lab, monkeypatch, Unable("rewriting", "orders", "it broke") if fails else None)
    run = go(someone, request_for("shop"))
    assert run.status == "rolled_back", run.ended_because
    assert lab.sql(EVERYTHING) == [(count + 1, total + 700001)]
    with lab.application() as client:
        client.execute("DELETE FROM orders WHERE id = 700001")
    if not fails:
        parts = list(run.targets.get().steps.filter(node=Node.VERIFY).values_list("part", flat=True))
        assert parts == ["", "proof 1", "repair 1", "proof 2"]
    kept = [s["sentence"] for s in outcome(run)["targets"][0]["steps"] if s["node"] == "S"]
    assert any("the broken one is kept as" in sentence for sentence in kept)
    assert chain.verify().whole


def test_a_difficult_schema_comes_back_whole(
    lab: Lab,
    setting: MaintenanceSetting,
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab.difficult()
    lab.sql("CREATE TABLE orders (id integer PRIMARY KEY, note varchar(100))")
    lab.sql(f"INSERT INTO orders VALUES {', '.join(f'({n}, {n})' for n in range(1, 100))}")
    with lab.engine(target=99) as engine:
        before, catalog = engine.verifier.fingerprint(None), engine.verifier.definitions()
    breaking(lab, monkeypatch, None)
    run = go(someone, request_for("shop"))
    assert run.status == "rolled_back", run.ended_because
    with lab.engine(target=99) as engine:
        assert engine.verifier.fingerprint(None) == before
        assert engine.verifier.definitions() == catalog


def test_a_difficult_schema_is_rebuilt_whole(
    lab: Lab, setting: MaintenanceSetting, request_for: Callable[..., Request], someone: Actor
) -> None:
    lab.difficult()
    run = go(someone, request_for("shop"))
    assert run.status == "succeeded", run.ended_because
    tables = outcome(run)["targets"][0]["integrity"]["tables"]
    assert len(tables) > 5
    assert all(t["fingerprint_equal"] for t in tables)


@pytest.mark.rare
def test_two_hundred_tables(
    lab: Lab, setting: MaintenanceSetting, request_for: Callable[..., Request], someone: Actor
) -> None:
    for number in range(200):
        lab.sql(f"CREATE TABLE part_{number} (id integer PRIMARY KEY, word varchar(20))")
        lab.sql(f"INSERT INTO part_{number} VALUES (1, 'one'), (2, 'two')")
    run = go(someone, request_for("shop"))
    assert run.status == "succeeded", run.ended_because
    assert len(outcome(run)["targets"][0]["integrity"]["tables"]) == 200
