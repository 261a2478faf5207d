"""A database that exists as one JSON file: fast, crash-safe to observe, and told beforehand what shall fail.

URL: `fake:////path/to/state.json`. Registered by `install()`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from maintenance.engines import ENGINES
from maintenance.engines.archive import Seal
from maintenance.engines.base import Engine
from maintenance.engines.errors import Damaged, EngineError, ResourceShortage, Transient, Unable, Unreachable
from maintenance.engines.measuring import Meter
from maintenance.engines.messages import Message, msg
from maintenance.engines.parts import (
    AccessGate,
    Actions,
    Backups,
    Benchmark,
    DeadManSwitch,
    Diagnostics,
    MaintenanceLock,
    Planner,
    Privileges,
    Rehearsal,
    Rollback,
    Sessions,
    Verifier,
)
from maintenance.engines.values import (
    Action,
    Backup,
    Check,
    Cut,
    Diagnosis,
    Facts,
    Finding,
    Fingerprint,
    Grant,
    Image,
    Json,
    Limits,
    MaintenanceType,
    Performed,
    Progress,
    Sample,
    Stage,
    TableFacts,
    Tag,
    Thresholds,
)
from maintenance.workflow import crashpoints

FAULTS: dict[str, type[EngineError]] = {
    "transient": Transient,
    "resource": ResourceShortage,
    "integrity": Damaged,
    "permanent": Unable,
    "unreachable": Unreachable,
}
CONTROL = "control"
OPEN = {"limit": -1, "comment": "ours"}


def install() -> None:
    ENGINES["fake"] = "tests.fakes:FakeEngine"


def new_database(path: Path, **faults: Any) -> URL:
    """Three tables. `faults` maps a verb (`back_up`, `perform`, `check`, …) to a list of error kinds, used
    up one a call; 'damage' makes the verb change data silently."""
    state = {
        "tables": {"orders": [1, 2, 3, 4], "customers": [10, 20], "empty": []},
        "bytes": {"orders": 4000, "customers": 2000, "empty": 100},
        "slow": {"orders": 10.0, "customers": 5.0},
        "gate": dict(OPEN),
        "marker": None,
        "switch": None,
        "sides": {},
        "sessions": 3,
        "calls": [],
        "faults": {name: list(kinds) for name, kinds in faults.items()},
    }
    path.write_text(json.dumps(state))
    return URL.create("fake", database=str(path))


@contextmanager
def opened(path: str | Path) -> Iterator[dict[str, Any]]:
    """Reads and writes the file as one transaction."""
    try:
        with open(path, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            state = json.load(file)
            yield state
            text = json.dumps(state)
            file.seek(0)
            file.write(text)
            file.truncate()
    except FileNotFoundError as error:
        raise Unreachable("opening", str(path), "no such file") from error


class FakeRehearsal(Rehearsal):
    """The copy is a file beside the state; what is told beforehand to fail, fails on the copy too."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine

    @property
    def copy(self) -> Path:
        return Path(f"{self.engine.path}.rehearsal{self.engine.tag.target}")

    def refusal(self) -> Message | None:
        """'not to be copied' in the state."""
        with opened(self.engine.path) as state:
            return msg("it cannot be copied") if state.get("not to be copied") else None

    def build(self, folder: Path, stem: str, seal: Seal) -> Stage:
        with self.engine.doing("copy_for_rehearsal") as state:
            content = json.dumps({**state, "sides": {}, "calls": []})
            self.copy.write_text(content)
        return Stage(str(self.copy), len(content), 0.1, by_file=True)

    def address(self) -> URL:
        return self.engine.url.set(database=str(self.copy))

    def remove(self) -> list[str]:
        crashpoints.point("fake.remove_copy.before")
        there = self.copy.exists()
        self.copy.unlink(missing_ok=True)
        crashpoints.point("fake.remove_copy.after")
        return [str(self.copy)] if there else []


class FakeEngine(
    Engine,
    Sessions,
    MaintenanceLock,
    AccessGate,
    DeadManSwitch,
    Diagnostics,
    Planner,
    Backups,
    Actions,
    Verifier,
    Rollback,
    Benchmark,
    Privileges,
):
    """An engine whose one object is each of its parts: they share the state in one file."""

    name = "fake"
    methods = ("dump", "copy")
    _holding = False

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        super().__init__(url, tag, limits)
        self.rehearsal = FakeRehearsal(self)
        self.sessions = self.lock = self.gate = self.switch = self.diagnostics = self.planner = self
        self.backups = self.actions = self.verifier = self.rollback = self.benchmark = self.privileges = self

    @property
    def path(self) -> str:
        return str(self.url.database)

    @contextmanager
    def doing(self, verb: str, thing: str = "") -> Iterator[dict[str, Any]]:
        """One statement: faults first, a crash point before and after the effect."""
        self.raise_if_stopping(verb, thing)
        crashpoints.point(f"fake.{verb}.before")
        with opened(self.path) as state:
            state["calls"].append(f"{verb} {thing}".strip())
            waiting = state["faults"].get(verb, [])
            kind = waiting.pop(0) if waiting else None
            if kind not in FAULTS:
                if kind == "damage":
                    state["tables"]["orders"] = state["tables"]["orders"][1:]
                yield state
        if kind in FAULTS:
            raise FAULTS[kind](verb, thing or "shop", "told to fail")
        crashpoints.point(f"fake.{verb}.after")

    def facts(self) -> Facts:
        with opened(self.path) as state:
            return Facts("Fake 1", f"fake {os.path.realpath(self.path)}", None, bool(state.get("replica")), 6100)

    def grants(self, role: str | None = None) -> list[Grant]:
        with opened(self.path) as state:
            account = role or "dba"
            return [
                Grant(f"GRANT EVERYTHING TO {account}", msg("Without this right nothing works"), "rights" in state),
                Grant("", msg("Only the owner of the machine can repair it"), False, "low"),
            ]

    def spellings(self) -> dict[str, list[str]]:
        with opened(self.path) as state:
            return {name: [name] for name in state["tables"]}

    def writers(self) -> list[Message]:
        """'writers' in the state."""
        with opened(self.path) as state:
            return [msg("{name}", name=name) for name in state.get("writers", [])]

    def acquire(self) -> int:
        return 0

    def is_held_elsewhere(self) -> bool:
        return False

    def mark(self) -> None:
        """No other installation ever marks a fake."""

    def end_statements(self) -> None:
        pass

    def close(self) -> None:
        pass

    def diagnose(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        """'findings' in the state: more of them, as code, severity, object and evidence."""
        with self.doing("diagnose") as state:
            found = tuple(
                TableFacts(n, state["bytes"][n], len(rows), bloat_share=0.5 if state["slow"].get(n, 0) > 4 else 0.0)
                for n, rows in state["tables"].items()
                if tables is None or n in tables
            )
            told = [(*words, msg("{x}", x=evidence), msg("")) for *words, evidence in state.get("findings", [])]
        bloated = [t for t in found if t.bloat_share]
        findings = tuple(
            Finding("table_bloat", "medium", t.name, msg("half of it is unused"), msg("many rows were deleted"))
            for t in bloated
        ) + tuple(Finding(*words) for words in told)
        return Diagnosis("Fake 1", sum(t.bytes for t in found), 3, 100, None, found, findings)

    def plan(
        self,
        kind: MaintenanceType,
        diagnosis: Diagnosis,
        thresholds: Thresholds,
        tables: Sequence[str] | None,
        allow_data_loss: bool,
    ) -> list[Action]:
        chosen = [t for t in diagnosis.tables if kind != "optimize" or (t.bloat_share or 0) > thresholds.bloat_share]
        return [Action(t.name, kind, msg("because"), msg("nobody reads meanwhile"), t.bytes, t.bytes) for t in chosen]

    def back_up(self, method: str, folder: Path, stem: str, seal: Seal) -> Backup:
        with self.doing("back_up", method) as state:
            content = json.dumps(state["tables"]).encode()
            final = folder / f"{stem}.json"
            final.write_bytes(content)
            snapshot = _prints(state["tables"])
        return Backup(final, method, len(content), hashlib.sha256(content).hexdigest(), True, snapshot)

    def read_state(self) -> Json:
        with self.doing("read_gate") as state:
            return dict(state["marker"]["gate"] if state["marker"] else state["gate"])

    def cut(self, gate: Json, marker: Json) -> Cut:
        with self.doing("cut") as state:
            state["gate"], state["marker"] = {"limit": 0, "comment": "dbmaint"}, {**marker, "gate": gate}
            ended, state["sessions"] = state["sessions"], 0
            self._holding = True
        return Cut(ended, 3, 0.0)

    def open(self, gate: Json, share: float | None) -> None:
        with self.doing("open_gate", "" if share is None else f"{share:.2f}") as state:
            if share is None:
                state["gate"], state["marker"] = dict(gate), None
            else:
                state["gate"]["limit"] = int(100 * share)

    def differences(self, gate: Json) -> list[str]:
        with opened(self.path) as state:
            return [f"{k} is {state['gate'][k]}" for k in gate if state["gate"][k] != gate[k]]

    def is_cut(self) -> bool:
        with opened(self.path) as state:
            return state["marker"] is not None and (self._holding or not self.dies_with_worker)

    def manual_commands(self, gate: Json) -> list[str]:
        return [f"open {self.path} {json.dumps(gate)}"]

    def arm(self, gate: Json, seconds: float) -> None:
        with self.doing("arm") as state:
            state["switch"] = seconds

    def disarm(self) -> None:
        with self.doing("disarm") as state:
            state["switch"] = None

    def keepalive(self) -> None:
        """Nobody puts a fake's switch off: tests fire it themselves."""

    def image(self, backup: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: Seal) -> Image:
        with self.doing("image") as state:
            state["sides"][f"image{self.tag.target}"] = dict(state["tables"])
        return Image("copy", f"image{self.tag.target}", 10)

    def perform(self, action: Action, allow_data_loss: bool) -> Performed:
        with self.doing("perform", action.object) as state:
            before = state["bytes"][action.object]
            state["bytes"][action.object] = min(before, 1000)
            if action.object in state["slow"]:
                state["slow"][action.object] = 1.0
        return Performed(msg("Rewrote {table}.", table=action.object), before, min(before, 1000))

    def progress(self) -> list[Progress]:
        return [Progress("orders", 0.5, "REWRITE orders")]

    def fingerprint(self, tables: Sequence[str] | None, side: str | None = None) -> dict[str, Fingerprint]:
        with self.doing("fingerprint") as state:
            source = state["sides"][side] if side else state["tables"]
            return _prints({n: r for n, r in source.items() if tables is None or n in tables})

    def check(self, tables: Sequence[str] | None, thorough: bool = True) -> list[Check]:
        """'orphans' in the state: rows of orders without their customer, however long ago they came about."""
        with self.doing("check") as state:
            chosen = [name for name in state["tables"] if tables is None or name in tables]
            orphans = [Check("foreign key", "orders", False, "2 rows", of_rows=True)] if state.get("orphans") else []
            return [Check("structure", name, not state.get("broken"), "") for name in chosen] + orphans * thorough

    def definitions(self, side: str | None = None) -> dict[str, str]:
        """'views' in the state: beside the tables; a side copy brings back those of 'views of the image'."""
        with opened(self.path) as state:
            views = state.get("views of the image" if side else "views", [])
            return {**{f"table {name}": "" for name in state["tables"]}, **{f"view {name}": "" for name in views}}

    def encryption(self, side: str | None = None) -> dict[str, list[str]]:
        """'encrypted' in the state: tables; 'encrypted by the image': those of any side copy."""
        with opened(self.path) as state:
            key = "encrypted by the image" if side else "encrypted"
            return {name: ["encrypted with key 1"] for name in state.get(key, [])}

    def tls(self) -> dict[str, list[str]]:
        with opened(self.path) as state:
            return {name: ["REQUIRE SSL"] for name in state.get("tls", [])}

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with self.doing("query", sql) as state:
            return [(len(state["tables"]["orders"]),)]

    def queries(self, tables: Sequence[str] | None) -> list[str]:
        with opened(self.path) as state:
            return sorted(state["slow"])

    @property
    def cost_unit(self) -> str:
        return ""

    @contextmanager
    def measuring(self, query: str, seconds: float) -> Iterator[Meter]:
        yield Meter(self._counted, self._timed, CONTROL)

    def _counted(self, query: str) -> Sample:
        with self.doing("measure", query) as state:
            return Sample(query, (state["slow"].get(query, 1.0),), None, "", 1)

    def _timed(self, query: str) -> Sample:
        if query == CONTROL:
            return Sample(query, (10.0,), None, "")
        with opened(self.path) as state:
            return Sample(query, (state["slow"].get(query, 1.0),), None, "", 1)

    def restore_beside(self, image: Image, backup: Backup, seal: Seal) -> str:
        with self.doing("restore_beside") as state:
            assert image.name in state["sides"]
        return image.name

    def swap(self, side: str, gate: Json, marker: Json) -> str:
        with self.doing("swap") as state:
            if side in state["sides"]:
                state["sides"]["broken"] = state["tables"]
                state["tables"] = state["sides"].pop(side)
                state["views"] = state.get("views of the image", [])
        return "broken"

    def leftovers(self) -> list[str]:
        with opened(self.path) as state:
            return [*state["sides"], *(["marker"] if state["marker"] else [])]

    def clean(self, keep: Sequence[str] = ()) -> list[str]:
        with self.doing("clean") as state:
            gone = [s for s in state["sides"] if s not in keep]
            for name in gone:
                del state["sides"][name]
        return gone


def fire(path: str | Path) -> None:
    """The switch of a console that is gone: opens the database if it is armed."""
    with opened(path) as state:
        if state["switch"] is not None and state["marker"] is not None:
            state["gate"], state["marker"], state["switch"] = dict(state["marker"]["gate"]), None, None


def _prints(tables: Mapping[str, list[int]]) -> dict[str, Fingerprint]:
    return {n: Fingerprint(len(rows), str(sorted(rows))) for n, rows in tables.items()}
