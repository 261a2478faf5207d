"""Damages a database whose rows are known, repairs it, and judges by the rows that are there afterwards."""

from __future__ import annotations

import os
import random
import sqlite3
import time
import traceback
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from sqlalchemy import URL

from maintenance.engines.errors import EngineError
from maintenance.engines.sqlite import SQLite
from maintenance.engines.sqlite.verification import VIOLATED
from maintenance.engines.values import Backup, Check, Diagnosis, Fingerprint, Limits, Loss, Tag, Thresholds
from maintenance.workflow.verdict import Evidence, objections
from tests.engines.sqlite.world import PLAIN

from .damages import DAMAGES, Damage
from .schemas import SCHEMAS, Schema
from .shell import recover

Row = tuple[object, ...]
Tables = dict[str, Counter[Row]]
SIZES = (512, 1024, 1024, 4096, 4096, 8192, 65536)
ENCODINGS = ("UTF-8", "UTF-8", "UTF-16le", "UTF-16be")
HANGS = 20.0
"""Seconds that no repair of so small a file takes."""
NO_BACKUP = Backup(Path("/nonexistent"), "sqlite_backup", 0, "", True, {})
THRESHOLDS = Thresholds(minimum_bytes=10**9)


@dataclass(frozen=True)
class Original:
    """A sound file: its bytes, its rows, and which table each page is of."""

    content: bytes
    page_size: int
    tables: Tables
    owners: dict[int, str]
    """Page -> table that it is of, also where it is of an index of the table."""
    overflow: frozenset[int]
    indexed: frozenset[str]
    """Tables of which an index knows the rows."""


@dataclass
class Verdict:
    """What is wrong with one repair, and how many rows came back."""

    seed: int
    damage: str
    schema: str
    faults: list[str] = field(default_factory=list)
    true: int = 0
    saved: int = 0
    recovered: int = 0
    seconds: float = 0.0
    leave: bool = False

    def __str__(self) -> str:
        return f"seed {self.seed} ({self.damage}, {self.schema}): {'; '.join(self.faults)}"


@cache
def original(folder: Path, schema: Schema, page_size: int, encoding: str, vacuum: int, variant: int) -> Original:
    path = folder / "original.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in (f"page_size = {page_size}", f"encoding = '{encoding}'", f"auto_vacuum = {vacuum}"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        for statement in schema.statements:
            connection.execute(statement)
        schema.fill(connection, random.Random(variant), max(24, min(60, 20 * page_size // 1024)))
        connection.execute("COMMIT")
        if variant % 2:
            connection.execute("ANALYZE")
        pages = connection.execute("SELECT name, pageno, pagetype FROM dbstat").fetchall()
        of = dict(connection.execute("SELECT name, tbl_name FROM sqlite_master").fetchall())
        of["sqlite_schema"] = "sqlite_schema"
        indexed = {str(row[0]) for row in connection.execute("SELECT tbl_name FROM sqlite_master WHERE type = 'index'")}
    owners = {int(page): str(of[name]) for name, page, _ in pages}
    overflow = frozenset(int(page) for _, page, kind in pages if kind == "overflow")
    return Original(path.read_bytes(), page_size, tables_of(path), owners, overflow, frozenset(indexed))


def tables_of(path: Path, told: bool = True) -> Tables:
    """Every row of every table, with its rowid, text as the bytes it consists of. What cannot be read is left out."""
    found: Tables = {}
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        connection.text_factory = Text
        connection.execute("PRAGMA writable_schema = ON")
        try:
            names = connection.execute(
                "SELECT CAST(name AS BLOB) FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
            ).fetchall()
        except sqlite3.Error:
            return {}
        for (raw,) in names:
            name = _decoded(raw)
            if not name.startswith("sqlite_"):
                found[name] = _rows(connection, name)
    return found


class Text(bytes):
    """Tells text from a blob of the same bytes."""


def _decoded(raw: bytes) -> str:
    return raw.decode(errors="replace").replace("\0", "")


def is_sound(path: Path) -> bool:
    """Whether SQLite itself finds nothing wrong but values that contradict the schema: those are told."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        try:
            lines = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        except sqlite3.Error:
            return False
    return all(line == "ok" or VIOLATED.match(line) for line in lines)


def _rows(connection: sqlite3.Connection, name: str) -> Counter[Row]:
    rows: Counter[Row] = Counter()
    for columns in ("_rowid_, *", "*"):
        try:
            for row in connection.execute(f'SELECT {columns} FROM "{name}" NOT INDEXED'):
                rows[tuple((type(value).__name__, value) for value in row)] += 1
            return rows
        except sqlite3.Error:
            if rows:
                return rows
    return rows


def judge(seed: int, folder: Path) -> Verdict:
    rng = random.Random(seed)
    name, spoil = rng.choice(list(DAMAGES.items()))
    schema = rng.choice(SCHEMAS)
    encoding = "UTF-8" if schema.name == "invalid" else rng.choice(ENCODINGS)
    made = original(folder, schema, rng.choice(SIZES), encoding, rng.choice((0, 0, 1)), rng.randrange(2))
    damage = Damage(bytearray(made.content), made.page_size, rng)
    spoil(damage)
    verdict = Verdict(seed, name, schema.name, true=sum(rows.total() for rows in made.tables.values()))
    path = folder / "case" / "case.db"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(damage.content)
    recover(path, folder / "recovered.db")
    theirs = tables_of(folder / "recovered.db")
    seen = tables_of(path)
    leave = rng.random() < 0.75
    begun = time.monotonic()
    try:
        run = repair(path, leave)
    except Exception:
        verdict.faults.append(traceback.format_exc())
        return verdict
    finally:
        verdict.seconds = time.monotonic() - begun
    if verdict.seconds > HANGS:
        verdict.faults.append(f"took {verdict.seconds:.0f} s")
    verdict.recovered = saved(made.tables, theirs)
    made = _without_derived(made, run)
    verdict.true, verdict.recovered = sum(rows.total() for rows in made.tables.values()), saved(made.tables, theirs)
    if run.ended:
        if path.read_bytes() != bytes(damage.content):
            verdict.faults.append(f"ended by an error and the file is another: {run.ended}")
        elif leave and verdict.recovered:
            verdict.faults.append(f"given up, .recover saves {verdict.recovered}: {run.ended}")
        return verdict
    ours = tables_of(path)
    verdict.leave = leave
    verdict.saved = verdict.recovered if not run.worked else saved(made.tables, ours)
    if not run.worked:
        if not is_sound(path):
            verdict.faults.append("the damage is not seen")
        return verdict
    verdict.faults += [
        *_lost(made, ours, run, seen, not damage.moves),
        *_invented(made, damage, ours, theirs, seen, run),
    ]
    verdict.faults += _touched(made, damage, ours, run)
    if leave and verdict.saved < verdict.recovered:
        verdict.faults.append(f"saved {verdict.saved}, .recover {verdict.recovered} of {verdict.true}")
    return verdict


@dataclass
class Run:
    """How a repair went: `ended` is the error, or what objects to calling it a success."""

    losses: list[Loss]
    ended: str
    worked: bool


def repair(path: Path, leave: bool) -> Run:
    """As the procedure does, without the console."""
    engine = SQLite(URL.create("sqlite", database=str(path)), Tag(7, 1), Limits(lock_seconds=1, cut_seconds=1))
    losses: list[Loss] = []
    try:
        diagnosis = engine.diagnostics.diagnose(THRESHOLDS)
        engine.lock.fence()
        gate = engine.gate.read_state()
        engine.gate.cut(gate, {})
        try:
            image = engine.backups.image(NO_BACKUP, {}, path.parent, "image", PLAIN)
            try:
                told = _worked(engine, diagnosis, leave, losses)
            except EngineError as error:
                told = Run(losses, str(error), True)
            if told.ended and engine.rollback.differs(image):
                engine.rollback.swap(engine.rollback.restore_beside(image, NO_BACKUP, PLAIN), gate, {})
        finally:
            engine.gate.open(gate, None)
            engine.rollback.clean()
        return told
    except EngineError as error:
        return Run(losses, str(error), False)
    finally:
        engine.close()
        for name in os.listdir(path.parent):
            if name not in ("case.db",):
                (path.parent / name).unlink()


def _worked(engine: SQLite, diagnosis: Diagnosis, leave: bool, losses: list[Loss]) -> Run:
    actions = engine.planner.plan("repair", diagnosis, THRESHOLDS, None, leave)
    if not actions:
        return Run(losses, "", False)
    verifier = engine.verifier
    prints = verifier.fingerprint(None)
    checks: list[Check] = verifier.check(None)
    definitions = verifier.definitions()
    for action in actions:
        losses += engine.actions.perform(action, leave).losses
    after: dict[str, Fingerprint] = verifier.fingerprint(None)
    told = objections(
        Evidence(
            before=prints,
            after=after,
            checks_before=checks,
            checks=verifier.check(None),
            definitions_before=definitions,
            definitions=verifier.definitions(),
            lost_by_consent={loss.object for loss in losses},
        )
    )
    return Run(losses, "; ".join(told), True)


# -- judging -------------------------------------------------------------------------------------------


def saved(true: Tables, found: Tables) -> int:
    """True rows that are there: in their table, or with all their values in a table for what is lost."""
    beside = _beside(found)
    count = 0
    for name, rows in true.items():
        for row, times in rows.items():
            here = min(times, found.get(name, Counter())[row])
            count += here
            for form in _forms(row) if here < times else ():
                if beside[form] > 0:
                    beside[form] -= 1
                    count += 1
                    break
    return count


def _beside(found: Tables) -> Counter[Row]:
    """Rows of lost_and_found without their rowids: the values of as many fields as the record had."""
    rows: Counter[Row] = Counter()
    for name, held in found.items():
        if name.startswith("lost_and_found"):
            for row, times in held.items():
                fields = row[3]
                assert isinstance(fields, tuple)
                kept = row[5 : 5 + int(fields[1])] if isinstance(fields[1], int) else ()
                rows[_plain(kept)] += times
    return rows


def _plain(values: Row) -> Row:
    """A whole number is stored as an integer, also in a column of reals; NULL stands for the rowid in a record."""
    return tuple(_number(value) for value in values)


def _number(value: object) -> object:
    assert isinstance(value, tuple)
    return ("int", int(value[1])) if isinstance(value[1], float) and value[1].is_integer() else value


def _forms(row: Row) -> list[Row]:
    """How the record of a row may look: as it is, or with NULL for the rowid; keys of WITHOUT ROWID come first."""
    plain = _plain(row)
    values = plain[1:]
    null = ("NoneType", None)
    forms = [values, (null, *values[1:]), plain]
    if len(plain) == 4:
        forms.append((plain[1], plain[0], *plain[2:]))
    return [form for form in forms for form in (form, form[:-1])] if len(plain) == 5 else forms


def _without_derived(made: Original, run: Run) -> Original:
    """Without the tables in which a search index keeps what it finds by, where it is told to be made again."""
    told = [loss.object for loss in run.losses if "was made again from its rows" in str(loss.detail)]
    derived = tuple(f"{name.rpartition('_')[0]}_" for name in told)
    kept = {name: rows for name, rows in made.tables.items() if not (derived and name.startswith(derived))}
    return replace(made, tables=kept)


def _lost(made: Original, ours: Tables, run: Run, seen: Tables, altered: bool) -> list[str]:
    """Rows that are gone and of which nothing is said, or more than is said."""
    faults = []
    told = {loss.object: loss.rows for loss in run.losses}
    for name, rows in made.tables.items():
        missing = rows - ours.get(name, Counter())
        if not altered:  # else a row may be there with other bytes, which nothing tells
            gone = missing.total()
        else:
            gone = sum(times for row, times in missing.items() if row[0] not in {one[0] for one in ours.get(name, ())})
        if not gone:
            continue
        if name not in told and f"table {name}" not in told and not _of_file(told):
            shown = (rows - ours.get(name, Counter())) - (rows - seen.get(name, Counter()))
            if shown or (name in ours and seen.get(name) != ours.get(name)):
                faults.append(f"{gone} rows of {name} lost in silence")
        elif told.get(name) is not None and (told[name] or 0) < gone and not _of_file(told):
            faults.append(f"{gone} rows of {name} lost, {told[name]} told")
    return faults


def _of_file(told: dict[str, int | None]) -> bool:
    return any(name.endswith(".db") for name in told)


def _invented(made: Original, damage: Damage, ours: Tables, theirs: Tables, seen: Tables, run: Run) -> list[str]:
    """Rows in a table that it never had. Where bytes were changed, a row may be as the file now shows it.

    So may it where pages were only moved and nothing in the file speaks against them: an overflow page does not say
    of which row it is, and of two tables alike without an index each could own a page of the other, which is then told.
    """
    faults = []
    told = {loss.object for loss in run.losses if loss.rows is None}
    of_overflow = {made.owners[page] for page in made.overflow & _changed(made, damage)}
    for name, rows in made.tables.items():
        strange = ours.get(name, Counter()) - rows
        if not damage.moves or made.overflow:
            strange -= theirs.get(name, Counter())
        if not damage.moves:
            altered = {row[0] for row in rows - ours.get(name, Counter())}
            strange = Counter({row: times for row, times in strange.items() if row[0] not in altered})
        if not damage.moves or name in of_overflow or (name in told and name not in made.indexed):
            strange -= seen.get(name, Counter())
        if strange:
            faults.append(f"{strange.total()} rows of {name} invented, e.g. {next(iter(strange))!r:.200}")
    return faults


def _touched(made: Original, damage: Damage, ours: Tables, run: Run) -> list[str]:
    """Tables none of whose pages differ, in a file whose schema is whole."""
    spoilt = {made.owners[page] for page in _changed(made, damage)}
    if "sqlite_schema" in spoilt:
        return []
    return [
        f"{name} was sound and is another"
        for name, rows in made.tables.items()
        if name not in spoilt and ours.get(name) != rows
    ]


def _changed(made: Original, damage: Damage) -> set[int]:
    """Pages of the tables whose bytes differ."""
    size = made.page_size
    return {
        n for n in made.owners if damage.content[(n - 1) * size : n * size] != made.content[(n - 1) * size : n * size]
    }
