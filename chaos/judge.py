"""Plays one case and says what is wrong afterwards, seen from outside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from .case import Case
from .console import Console
from .target import DATABASE, LEDGER, Busy, Settings, Target

LOCKED, LOST, STOPPED, MISSING, AUDIT, LEFT = (
    "locked out",
    "rows lost",
    "applications left stopped",
    "audit entries missing",
    "audit broken",
    "left behind",
)
CHANGED, STATUS = "not as before", "wrong end"
FAULTS = (LOCKED, LOST, STOPPED, MISSING, AUDIT, LEFT, CHANGED, STATUS)
EXPECTED = {
    "success": {"succeeded"},
    "backup failed": {"succeeded"},
    "action failed": {"rolled_back"},
    "integrity error": {"rolled_back"},
    "not improved": {"succeeded"},
    "cancelled": {"cancelled"},
    "timed out": {"timed_out"},
}
AFTER_TWO_DEATHS = {"rolled_back", "failed"}
MORE_OF = {
    "databases", "schemas", "objects", "files", "sessions", "slots", "prepared", "events", "extensions", "comments",
    "indexes",
}  # fmt: skip
"""Settings of which more than before is something left behind."""


@dataclass
class Verdict:
    case: Case
    deaths: int = 0
    status: str = ""
    because: str = ""
    seconds: float = 0.0
    """Of the recovery, from the last death to its end."""
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Which of FAULTS, and what exactly."""
    for_people: bool = False
    """Ended as docs/safety.md says it may, with everything there that a person needs."""
    released: bool = False
    """Opened by `release` before anybody recovered."""
    points: list[str] = field(default_factory=list)


def play(case: Case, console: Console, target: Target) -> Verdict:
    """From a fresh database to the verdict."""
    target.fresh(damaged=case.kind == "repair", other=case.other)
    console.fresh()
    if case.path == "backup failed":
        target.backups.rmdir()
        target.backups.write_text("a file where the folder should be")
    before, contents = target.settings(), target.contents()
    verdict = Verdict(case)
    with ExitStack() as stack:
        busy = stack.enter_context(Busy(target)) if case.busy else None
        life = console.maintain(case)
        begun = time.monotonic()
        for point in (*case.again, "") if life.killed else ():
            if life.killed:
                verdict.deaths += 1
                begun = time.monotonic()
                life = console.release(case, point) if case.released else console.recover(case, point)
        verdict.seconds = time.monotonic() - begun if verdict.deaths else 0.0
        if case.released and verdict.deaths:
            # Where nothing had been closed there was nothing to release: that run goes on as any other.
            verdict.released = bool(console.asked("SELECT 1 FROM run_target WHERE status = 'needs_operator'"))
            if life.code not in (0, 2):
                verdict.faults.append((STATUS, f"release: {life.output.strip()[-300:]}"))
            console.recover(case)
    verdict.points = console.points()
    committed = set(busy.committed) if busy else set()
    verdict.faults += wrong_end(verdict, console)
    verdict.for_people = verdict.status == "needs_operator" and case.may_need_people and verdict.deaths > 0
    if verdict.for_people:
        verdict.faults = [*left_to_people(target, console, committed)]
        return verdict
    in_image = target.kept() if case.may_need_people and verdict.deaths else set()
    verdict.for_people = bool(in_image - target.ledger())
    verdict.faults += [
        *locked_out(target, console),
        *rows_lost(target, contents, committed, in_image),
        *different(before, target, console, verdict.released),
    ]
    if not console.flag.exists():
        verdict.faults.append((STOPPED, verdict.because))
    verdict.faults += [(MISSING, words) for words in unaudited(console)]
    audit = console.run("verify_audit")
    if audit.code:
        verdict.faults.append((AUDIT, audit.output.strip()))
    return verdict


def wrong_end(verdict: Verdict, console: Console) -> Iterator[tuple[str, str]]:
    """One terminal status, the same for run and target, and of the expected kind."""
    ends = console.asked(
        "SELECT r.status, t.status, r.finished_at, t.finished_at, r.ended_because, t.node"
        " FROM tbl_096_maintenance_run r LEFT JOIN run_target t ON t.run_id = r.id"
    )
    if len(ends) != 1:
        # Dead before the run was written, or it was never begun.
        yield STATUS, f"{len(ends)} runs"
        return
    [(verdict.status, of_target, over, target_over, verdict.because, node)] = ends
    expected = {"needs_operator"} if verdict.released else EXPECTED[verdict.case.path.partition("@")[0]]
    if console.asked("SELECT 1 FROM run_target WHERE plan = '[]'"):
        expected = expected | {"succeeded"}  # Nothing was planned, so that nothing could go wrong.
    if verdict.deaths > 1 or (verdict.deaths and verdict.case.may_need_people):
        expected = expected | AFTER_TWO_DEATHS
    if verdict.status != of_target or not over or not target_over:
        yield STATUS, f"run {verdict.status}, target {of_target} at {node}, {'' if over else 'not '}finished"
    elif verdict.status not in expected:
        yield STATUS, f"{verdict.status}: {verdict.because}"
    if console.asked("SELECT * FROM scope_hold"):
        yield LOCKED, "the lock of the run is still held"


def unaudited(console: Console) -> Iterator[str]:
    """One entry for each launch, each claim and each end that the other tables know of."""
    entries = dict(console.asked("SELECT operation, count(*) FROM audit_entry GROUP BY operation"))
    for operation, sql in (
        ("run.launched", "SELECT count(*) FROM tbl_096_maintenance_run"),
        ("run.ended", "SELECT count(*) FROM tbl_096_maintenance_run WHERE finished_at IS NOT NULL"),
        ("target.claimed", "SELECT coalesce(sum(token), 0) FROM run_target"),
        ("target.ended", "SELECT count(*) FROM run_target WHERE finished_at IS NOT NULL"),
    ):
        [(wanted,)] = console.asked(sql)
        if entries.get(operation, 0) != wanted:
            yield f"{entries.get(operation, 0)} of {operation}, and {wanted} happened"


def left_to_people(target: Target, console: Console, committed: set[int]) -> Iterator[tuple[str, str]]:
    """The console says who has to decide; the rows are in the file or in the image; `release` opens all again."""
    done = console.run("release", DATABASE)
    if done.code:
        yield LOCKED, f"release: {done.output.strip()}"
    yield from locked_out(target, console)
    if not console.flag.exists():
        yield STOPPED, "release did not start them"
    missing = sorted((set(range(1, LEDGER + 1)) | committed) - target.ledger() - target.kept())
    if missing:
        yield (
            LOST,
            f"{len(missing)} rows of ledger are neither in the database nor in the image, the first {missing[:3]}",
        )


def locked_out(target: Target, console: Console) -> Iterator[tuple[str, str]]:
    """An ordinary application connects and may write."""
    try:
        with target.client() as client:
            client.execute("INSERT INTO ledger (id, word) VALUES (900001, 'afterwards')")
            client.execute("DELETE FROM ledger WHERE id = 900001")
    except Exception as error:
        yield LOCKED, f"{type(error).__name__}: {error}".strip()


def rows_lost(target: Target, contents: Settings, committed: set[int], in_image: set[int]) -> Iterator[tuple[str, str]]:
    try:
        missing = sorted((set(range(1, LEDGER + 1)) | committed) - target.ledger() - in_image)
        if missing:
            yield LOST, f"{len(missing)} rows of ledger, the first {missing[:3]}"
        now = target.contents()
    except Exception as error:
        yield LOST, f"cannot be read: {error}".strip()
        return
    for table, was in contents.items():
        if now[table] != was:
            yield LOST, f"{table}: {was} became {now[table]}"


def different(before: Settings, target: Target, console: Console, released: bool = False) -> Iterator[tuple[str, str]]:
    """What is not as before, and what is there that was not and that the journal does not list.

    Whoever was `released` needs an operator, and the copies that people may need stay.
    """
    try:
        after = target.settings()
    except Exception as error:
        yield CHANGED, f"cannot be seen: {error}".strip()
        return
    listed = " ".join(
        str(row) for row in console.asked("SELECT sentence FROM step_record WHERE part IN ('clean', 'data')")
    )
    for name, was in before.items():
        now = after[name]
        if now == was:
            continue
        if isinstance(was, list) and isinstance(now, list):
            gone = [entry for entry in was if entry not in now]
            more = [entry for entry in now if entry not in was and first_word(entry) not in listed]
            if gone:
                yield CHANGED, f"{name}: {gone} became {[e for e in now if e not in was]}"
            elif more and not (released and name in MORE_OF):
                yield (LEFT if name in MORE_OF else CHANGED), f"{name}: {more}"
        else:
            yield CHANGED, f"{name}: {was!r} became {now!r}"
    for pattern in () if released else ("*-run*.part*", "*-run*.check*", ".*-run*"):
        for part in target.backups.parent.glob(f"*/{pattern}"):
            yield LEFT, f"incomplete backup {part.name}"


def first_word(entry: object) -> str:
    return str(entry[0]) if isinstance(entry, tuple) else str(entry)
