"""Specification 9, on a real database of each engine, through the command a DBA types."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Console
from tests.engines.lab import Lab
from tests.engines.working import small_disk

ROWS = "SELECT count(*), sum(id) FROM orders"
NEW_ORDER = "INSERT INTO orders (id, customer_id, status, note) VALUES ({number}, 1, 'new', 'while it went on')"


def assert_open(lab: Lab) -> None:
    """An ordinary application gets in and may write."""
    with lab.application() as client:
        client.execute(NEW_ORDER.format(number=900_001))
        client.execute("DELETE FROM orders WHERE id = 900001")


def only(told: dict[str, Any]) -> dict[str, Any]:
    (target,) = told["targets"]
    return dict(target)


def assert_proven(target: dict[str, Any]) -> None:
    assert target["integrity"]["tables"]
    assert all(t["fingerprint_equal"] for t in target["integrity"]["tables"]), target["integrity"]
    assert any(b["verified"] and len(b["sha256"]) == 64 for b in target["backup_files"])


@pytest.mark.parametrize("kind", ["rebuild", "optimize", "repair"])
def test_an_ordinary_maintenance_succeeds_and_proves_it(lab: Lab, console: Console, kind: str) -> None:
    lab.fill()
    before = lab.sql(ROWS)
    console.register(lab)
    code, told = console.maintain(kind, "--database", "shop")
    assert (code, told["status"]) == (0, "succeeded"), told["ended_because"]
    target = only(told)
    assert_proven(target)
    assert target["outage_seconds"] > 0
    assert [s["step"] for s in target["steps"] if not s["part"]][:5] == [
        "start", "diagnose", "decide", "back_up", "stop_applications",
    ]  # fmt: skip
    assert Path(told["report_pdf"]).read_bytes().startswith(b"%PDF")
    assert "orders" in Path(told["performance_csv"]).read_text()
    if kind != "repair":
        assert {a["state"] for a in target["actions"]} == {"finished"}
        orders = [a for a in target["actions"] if a["bytes_before"] and a["bytes_after"]]
        assert any(a["bytes_after"] < a["bytes_before"] for a in orders)
        assert target["benchmark"]
    assert lab.sql(ROWS) == before
    assert_open(lab)


@pytest.mark.every(3, 1)
def test_a_partial_maintenance_touches_the_named_table_only(lab: Lab, console: Console) -> None:
    lab.fill()
    console.register(lab)
    code, told = console.maintain("rebuild", "--database", "shop", "--table", "orders")
    assert code == 0, told
    assert all("orders" in a["object"] for a in only(told)["actions"])
    assert_open(lab)


def test_a_damaged_index_is_repaired_without_losing_a_row(lab: Lab, console: Console) -> None:
    lab.fill()
    before = lab.sql(ROWS)
    lab.damage_index()
    console.register(lab)
    code, told = console.maintain("repair", "--database", "shop")
    assert (code, told["status"]) == (0, "succeeded"), told["ended_because"]
    assert_proven(only(told))
    assert lab.sql(ROWS) == before
    assert_open(lab)


def test_damaged_rows_are_not_given_up_without_leave(lab: Lab, console: Console) -> None:
    lab.fill()
    lab.damage_table()
    console.register(lab)
    code, told = console.maintain("repair", "--database", "shop")
    assert (code, told["status"]) in [(1, "rolled_back"), (1, "failed")], told["ended_because"]
    assert only(told)["data_loss"] == []
    assert "orders" in told["ended_because"]
    with lab.application() as client:
        assert client.execute("SELECT count(*) FROM customers")


def test_with_leave_readable_rows_are_saved_and_the_rest_is_listed(lab: Lab, console: Console) -> None:
    lab.fill()
    lab.damage_table()
    console.register(lab)
    code, told = console.maintain("repair", "--database", "shop", "--allow-data-loss")
    target = only(told)
    assert (code, told["status"]) == (0, "succeeded"), told["ended_because"]
    assert target["data_loss"]
    assert all("orders" in loss["object"] and loss["detail"] for loss in target["data_loss"])
    assert int(str(lab.sql("SELECT count(*) FROM orders")[0][0])) > 5000
    assert_open(lab)


@pytest.mark.every(3, 1)
def test_an_unwritable_backup_folder_leads_to_the_alternate(lab: Lab, console: Console) -> None:
    lab.fill()
    (lab.folder / "in the way").write_text("a file where a folder should be")
    console.register(lab)
    done = console.run("register_target", "shop", lab.url.render_as_string(hide_password=False),
                       "--backup-dir", str(lab.folder / "in the way"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    code, told = console.maintain("rebuild", "--database", "shop")
    assert (code, told["status"]) == (0, "succeeded"), told["ended_because"]
    files = only(told)["backup_files"]
    assert [f["verified"] for f in files] == [False, True]
    assert files[0]["error"]
    assert files[1]["path"].startswith(str(console.home / "alternate"))
    assert_open(lab)


@pytest.mark.rare
def test_a_full_backup_disk_leads_to_the_alternate(lab: Lab, console: Console, tmp_path: Path) -> None:
    lab.fill()
    console.register(lab)
    with small_disk(tmp_path) as disk:
        done = console.run("register_target", "shop", lab.url.render_as_string(hide_password=False),
                           "--backup-dir", str(disk))  # fmt: skip
        assert done.returncode == 0, done.stderr
        code, told = console.maintain("rebuild", "--database", "shop")
        left = [path.name for path in disk.iterdir() if not path.name.startswith("black-box")]
    assert (code, told["status"]) == (0, "succeeded"), told["ended_because"]
    files = only(told)["backup_files"]
    assert [f["verified"] for f in files] == [False, True]
    assert "ResourceShortage" in files[0]["error"]
    assert files[1]["path"].startswith(str(console.home / "alternate"))
    assert left == []
    assert_open(lab)


@pytest.mark.every(2)
@pytest.mark.parametrize("point", ["action.started", "action.finished"])
def test_after_kill_9_in_maintain_recover_ends_with_everything_as_before(
    lab: Lab, console: Console, point: str
) -> None:
    lab.fill()
    before = lab.sql(ROWS)
    console.register(lab)
    code, _ = console.maintain("rebuild", "--database", "shop", DBMAINT_CRASH_AT=point)
    assert code == -9
    code, runs = console.recover()
    assert code == 0, runs
    (told,) = runs
    assert told["status"] == "succeeded", told["ended_because"]
    assert_proven(only(told))
    assert lab.sql(ROWS) == before
    assert_open(lab)
    assert console.run("verify_audit").returncode == 0


def test_after_kill_9_release_alone_opens_the_database(lab: Lab, console: Console) -> None:
    lab.fill()
    before = lab.sql(ROWS)
    console.register(lab)
    code, _ = console.maintain("rebuild", "--database", "shop", DBMAINT_CRASH_AT="action.started")
    assert code == -9
    for path in console.home.glob("control.sqlite3*"):
        path.unlink()
    done = console.run("release", "shop")
    assert done.returncode == 0, done.stderr
    assert lab.sql(ROWS) == before
    assert_open(lab)


@pytest.mark.every(3, 2)
def test_applications_are_stopped_first_and_started_last(lab: Lab, console: Console) -> None:
    lab.fill()
    flag = console.home / "running"
    flag.touch()
    commands = {
        "stop": ["rm", "-f", str(flag)],
        "start": ["touch", str(flag)],
        "check": ["test", "-e", str(flag)],
    }
    console.configure(applications={"shop-web": commands})
    console.register(lab, "shop", 'applications=["shop-web"]')
    code, _ = console.maintain("rebuild", "--database", "shop", DBMAINT_CRASH_AT="action.started")
    assert code == -9
    assert not flag.exists()
    code, runs = console.recover()
    assert code == 0, runs
    assert flag.exists()
    sentences = [s["sentence"] for s in only(runs[0])["steps"]]
    assert "Stopped shop-web." in sentences
    assert sentences.count("Started shop-web.") == 1


BAD_INPUT = [
    (["--database", "nowhere"], "There is no database nowhere"),
    (["--database", "shop", "--table", "no_such_table"], "There is no table no_such_table"),
    (["--database", "shop", "--type", "polish"], "one of repair, optimize, rebuild"),
    (["--database", "shop", "--severity", "urgent"], "one of critical, high, medium"),
    (["--database", "shop", "--reason", " "], "A reason is required"),
]


@pytest.mark.every(3, 2)
def test_bad_input_is_one_sentence_and_starts_nothing(lab: Lab, console: Console) -> None:
    lab.fill()
    console.register(lab)
    for change, words in BAD_INPUT:
        code, told = console.maintain("rebuild", *change)
        assert code == 2, change
        assert words in told["error"]
        assert "\n" not in told["error"]
    assert console.recover() == (0, [])
    assert list(lab.folder.iterdir()) == []


def test_an_unreachable_target_and_a_wrong_password_start_nothing(lab: Lab, console: Console) -> None:
    if lab.url.get_backend_name() == "sqlite":
        wrong = lab.url.set(database=f"{lab.url.database}.absent")
    else:
        wrong = lab.url.set(username="nobody_here", password="hunter2-secret")
    done = console.run("register_target", "shop", wrong.render_as_string(hide_password=False),
                       "--backup-dir", str(lab.folder))  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = console.run("maintain", "--type", "rebuild", "--database", "shop", "--severity", "high",
                       "--reason", "a test", "--foreground", "--json")  # fmt: skip
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert told["error"].startswith("shop: Failed while ")
    assert "hunter2" not in done.stdout + done.stderr
    if wrong.get_backend_name() == "sqlite":
        assert not os.path.exists(str(wrong.database))
    everything = b"".join(p.read_bytes() for p in console.home.rglob("*") if p.is_file())
    assert b"hunter2" not in everything


@pytest.mark.every(3, 2)
def test_two_at_once_and_the_second_is_told_who_holds_the_lock(lab: Lab, console: Console) -> None:
    lab.fill()
    console.register(lab, "shop", "load_seconds=4")
    words = ["maintain", "--type", "rebuild", "--database", "shop", "--severity", "high", "--reason", "a test",
             "--foreground", "--json"]  # fmt: skip
    with console.start(*words) as first, console.start(*words) as second:
        outputs = [p.communicate(timeout=600)[0] for p in (first, second)]
    told = {p.returncode: json.loads(output) for p, output in zip((first, second), outputs, strict=True)}
    assert set(told) == {0, 4}
    assert "holds the lock" in told[4]["error"]


@pytest.mark.every(3, 1)
def test_a_plan_changes_nothing(lab: Lab, console: Console) -> None:
    lab.fill()
    console.register(lab)
    done = console.run("maintain", "--type", "rebuild", "--database", "shop", "--severity", "high",
                       "--reason", "a test", "--plan", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (target,) = json.loads(done.stdout)["targets"]
    assert target["actions"]
    assert all(a["reason"] and a["lock"] for a in target["actions"])
    assert list(lab.folder.iterdir()) == []
