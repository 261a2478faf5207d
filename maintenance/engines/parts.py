"""The parts an engine is composed of, one small abstract class each.

A part knows one database product and one target database; it knows neither Django nor the procedure. Every method
that has an effect can be called a second time after a crash: it looks at reality first. Names from outside are quoted
by the dialect, values are bound. What all products write alike is written here once.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from statistics import quantiles
from typing import ClassVar

from sqlalchemy import URL

from .archive import Seal
from .errors import EngineError, Interrupted, Unable
from .messages import Message, msg
from .values import (
    Action,
    Backup,
    Check,
    Cut,
    Diagnosis,
    Facts,
    Fingerprint,
    Grant,
    Image,
    Json,
    Load,
    MaintenanceType,
    Performed,
    Progress,
    RestoreBudget,
    Restored,
    Sample,
    Stage,
    Tag,
    Thresholds,
    WayBack,
)

AT_WORK_ELSEWHERE = msg("another installation of this console is at work on it; wait until that has ended")
CLOSED_BY_ANOTHER = msg(
    "another installation of this console closed it and has not opened it again; it has to be ended or released there"
)

Rows = list[tuple[object, ...]]
Measure = Callable[[str, int], Sample]
"""Measure a query: one discarded warm-up, then so many repeats."""


def raise_if_stopping(stopping: threading.Event, doing: str, object: str) -> None:
    """Call between pieces of long work. Raises Interrupted once the engine was asked to stop."""
    if stopping.is_set():
        raise Interrupted(doing, object, "stopped on request")


class Sessions(ABC):
    """Connections with pinned settings, and what the target says of itself."""

    @abstractmethod
    def facts(self) -> Facts:
        """Connect. Raises Unreachable or AccessDenied with the server's words, never the password."""

    @abstractmethod
    def spellings(self) -> Mapping[str, Sequence[str]]:
        """Return what people may call a table -> the canonical names it stands for.

        The canonical name, 'schema.table', and the bare table name where that is unique.
        """

    def resolve(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the canonical names of the tables a person named, each once and in order, and the unknown names."""
        known = self.spellings()
        found = dict.fromkeys(canonical for name in names for canonical in known.get(self.folded(name), ()))
        return list(found), [name for name in names if self.folded(name) not in known]

    def folded(self, name: str) -> str:
        """Return what the product compares of a name: a key of `spellings`."""
        return name

    @abstractmethod
    def writers(self) -> list[Message]:
        """Return who else may write to the target now (sessions, workers, jobs), in words; empty: nobody is seen.
        Read-only."""

    @abstractmethod
    def end_statements(self) -> None:
        """End what our sessions run on the server now, within 5 s."""

    def abort_connections(self) -> None:  # noqa: B027
        """Abort our connections to a server that answers no more: who waits for it then gets a lost connection."""


class MaintenanceLock(ABC):
    """The target's own mutual exclusion between consoles, and the fencing off of an earlier worker."""

    url: URL
    tag: Tag
    assert_lease: Callable[[], object] = staticmethod(lambda: None)
    """Called before a lock that was lost on the target is taken again; raises when another worker has the run."""

    @abstractmethod
    def acquire(self) -> int:
        """End every session of this run target that carries another token, and take the lock until the engine closes.

        Return how many sessions were ended. Raises Transient when somebody else's maintenance holds the lock.
        """

    @abstractmethod
    def is_held_elsewhere(self) -> bool:
        """Whether another installation of this console holds the lock now. Read-only."""

    @abstractmethod
    def mark(self) -> Mapping[str, object] | None:
        """Return what the mark of a cut on the target says; None: there is none of ours. Read-only."""

    def fence(self) -> int:
        """Acquire the lock, as `acquire` does. Raises Unable when another installation left its mark."""
        ended = self.acquire()
        if self._is_marked_by_another():
            raise Unable("taking over", self.url.database or "", CLOSED_BY_ANOTHER)
        return ended

    def held_by_other_installation(self) -> Message | None:
        """Return what another installation does with the target, or left on it; None: nothing. Read-only."""
        if self.is_held_elsewhere():
            return AT_WORK_ELSEWHERE
        return CLOSED_BY_ANOTHER if self._is_marked_by_another() else None

    def _is_marked_by_another(self) -> bool:
        mark = self.mark()
        return mark is not None and self.tag.is_anothers(mark)


class AccessGate(ABC):
    """Closing the target to everybody else, and opening it again exactly as it was."""

    dies_with_worker: ClassVar[bool] = False
    """True where the cut is a lock of this process, so that after a crash everybody was in again."""

    @abstractmethod
    def read_state(self) -> Json:
        """Return everything `open` needs to restore exactly.

        Where our mark of an earlier crash is on the target, the original state that the mark holds.
        """

    def recall(self, gate: Json) -> None:  # noqa: B027
        """Take from the journal which object of the server the target is.

        Where others can plant names and marks, it is found by that alone from then on.
        """

    @abstractmethod
    def cut(self, gate: Json, marker: Json) -> Cut:
        """Mark the target with `marker` and `gate`, block, end sessions, prove quiet.

        Idempotent; spares replication and our own sessions. Raises Transient when somebody stays.
        """

    @abstractmethod
    def open(self, gate: Json, share: float | None) -> None:
        """Let `share` (0..1) of the connections in; None: exactly as before, mark removed."""

    @abstractmethod
    def differences(self, gate: Json) -> list[str]:
        """Return what is not as `gate` says, in words; empty when exactly as before."""

    @abstractmethod
    def is_cut(self) -> bool:
        """Whether the mark of the cut is on the target still; not when the switch or a person opened it."""

    @abstractmethod
    def manual_commands(self, gate: Json) -> list[str]:
        """Return what a person types, one command a line, to open the target as `gate` says without this console."""


class DeadManSwitch(ABC):
    """The target opens itself when the console falls silent: where a cut outlives its process."""

    @abstractmethod
    def arm(self, gate: Json, seconds: float) -> None:
        """Make the target open itself as `gate` says once nothing was heard of us for `seconds`.

        Armed already: the time begins anew. Raises Unable where the target cannot do that.
        """

    @abstractmethod
    def disarm(self) -> None:
        """Keep the target closed from here on. `AccessGate.is_cut` tells afterwards whether that was in time."""

    @abstractmethod
    def keepalive(self) -> None:
        """Put the switch off; called every few seconds. Needs an answer of the server, so it also proves the way."""


class Diagnostics(ABC):
    """Looking at a sick database without making it worse."""

    @abstractmethod
    def diagnose(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        """Return what is wrong. Read-only and harmless to a sick server. `tables`: canonical names, None for all."""

    def survey(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        """As `diagnose`, as far as it tells what to optimize: for a look within the outage, after the proof."""
        return self.diagnose(thresholds, tables)


class Planner(ABC):
    """From findings to work."""

    @abstractmethod
    def plan(
        self,
        kind: MaintenanceType,
        diagnosis: Diagnosis,
        thresholds: Thresholds,
        tables: Sequence[str] | None,
        allow_data_loss: bool,
    ) -> list[Action]:
        """Return the work. Pure function of its arguments. Only what needs it, unless `rebuild`."""

    def informed(self, diagnosis: Diagnosis, checks: Sequence[Check], unreadable: Mapping[str, str]) -> Diagnosis:
        """Return the diagnosis with what a deeper look found: failing `checks` of the structure, and the error that
        reading each `unreadable` table raised. Pure."""
        damaged = {check.table or check.object for check in checks} | unreadable.keys()
        tables = (replace(fact, damaged=fact.damaged or fact.name in damaged) for fact in diagnosis.tables)
        return replace(diagnosis, tables=tuple(tables))


class Backups(ABC):
    """Backup files, and what a rollback restores from."""

    @property
    @abstractmethod
    def methods(self) -> tuple[str, str]:
        """The usual method and an alternate of a different kind (flowchart node R)."""

    @abstractmethod
    def back_up(self, method: str, folder: Path, stem: str, seal: Seal) -> Backup:
        """Write `folder/stem.<ext>` by way of `.part`, sync, read it back whole, rename."""

    @abstractmethod
    def image(self, backup: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: Seal) -> Image:
        """Under the cut: make what a rollback will restore from, with every row committed before the cut.

        `baseline` are the fingerprints under the cut. Damaged pages are copied, never a reason to fail
        where the engine has a way to copy by file.
        """


class Actions(ABC):
    """The work itself."""

    @abstractmethod
    def perform(self, action: Action, allow_data_loss: bool) -> Performed:
        """Do one action, several at a time from several threads; verify it by its effect.

        Raises Damaged when only loss of data would help and that is not allowed.
        """

    def progress(self) -> list[Progress]:
        """Return what the server says of work in hand; empty when it says nothing."""
        return []


class Verifier(ABC):
    """Proof that nothing was lost: rows, structure, constraints, definitions."""

    @property
    def harms_damaged_tables(self) -> bool:
        """Whether a structural check takes away what could still be read of a damaged table: read first there."""
        return False

    @abstractmethod
    def fingerprint(self, tables: Sequence[str] | None, side: str | None = None) -> dict[str, Fingerprint]:
        """Return the fingerprint of every row of these tables (None: all) by canonical name; of the side copy if given.

        A table that cannot be read has its error in the result; the others go on.
        """

    def recount(self, tables: Sequence[str] | None) -> dict[str, Fingerprint]:
        """As `fingerprint`, of the live database. A table need not be read again where the engine can prove that
        nobody wrote to it since this object read it."""
        return self.fingerprint(tables)

    @abstractmethod
    def check(self, tables: Sequence[str] | None, thorough: bool = True) -> list[Check]:
        """Check structure first, then constraints and sequences.

        Not `thorough`: without what compares indexes with rows, and rows with their constraints.
        """

    def check_early(self, tables: Sequence[str] | None) -> list[Check] | None:
        """Before the cut, while everybody works, for work that leaves every row: structure and constraints.

        None where such a look has to wait until nobody else is in: `check` then says everything under the cut.
        """
        return None

    def check_rest(self, tables: Sequence[str] | None) -> list[Check]:
        """Under the cut, what `check_early` could not say because everybody was still working."""
        return []

    def check_again(self, tables: Sequence[str] | None) -> list[Check]:
        """As `check`, after work that left every row as it was: what follows from the rows need not be asked, and
        what this object built anew may be proven in a quicker way."""
        return self.check(tables)

    @abstractmethod
    def definitions(self, side: str | None = None) -> dict[str, str]:
        """Return object -> digest of its definition: columns, indexes, constraints, views, triggers, routines."""

    def encryption(self, side: str | None = None) -> dict[str, list[str]]:
        """Return table -> what shows that it is encrypted on disk; of the side copy when given.

        Only tables that are. Empty also where the product encrypts nothing itself.
        """
        return {}

    def tls(self) -> dict[str, list[str]]:
        """Return account or rule that leads to the target -> what it demands of a connection; only where it demands
        TLS."""
        return {}


class Rollback(ABC):
    """The way back, and what is left afterwards."""

    def restore_test(self, backup: Backup, seal: Seal, budget: RestoreBudget) -> Restored | None:
        """Before the cut, while everybody works: restore the backup beside, prove it against its own snapshot, and keep
        the copy, which `Backups.image` then brings up to date under the cut so that a rollback is a rename.

        Return None where this product or this backup offers no such test. Raises EngineError with the object and the
        server's words where the backup cannot be restored or is not equal; nothing is left of the copy then.
        """
        return None

    def way_back(self, diagnosis: Diagnosis, budget: RestoreBudget) -> WayBack:
        """Return how far a backup will be restored before the outage, and what copies take. Pure."""
        open_ = msg("backups of this product are read back whole; that they can be restored is not proven before")
        return WayBack("none", 0, open_)

    @abstractmethod
    def restore_beside(self, image: Image, backup: Backup, seal: Seal) -> str:
        """Restore into a side copy, never into the live one; drop an incomplete one first.

        Return the name to give to `Verifier.fingerprint(side=…)` and `swap`.
        """

    def differs(self, image: Image) -> bool:
        """Whether the database, still closed, is another than its image although every row is as at the cut."""
        return False

    @abstractmethod
    def swap(self, side: str, gate: Json, marker: Json) -> str:
        """Put the side copy in the place of the live one, gate still closed; the broken one is kept.

        Owner, grants, settings and comments go along. Done already (seen on the target): nothing.
        Return where the broken one is kept.
        """

    @abstractmethod
    def leftovers(self) -> list[str]:
        """Return what of this run target is still on the target: copies, side tables, marks, sessions."""

    @abstractmethod
    def clean(self, keep: Sequence[str] = ()) -> list[str]:
        """Remove leftovers but `keep`; return what was removed."""


class Rehearsal(ABC):
    """A copy of the target on which a maintenance is rehearsed; its name follows from the run target's tag.

    Nothing of the target is changed, and nobody is kept out of it.
    """

    @abstractmethod
    def refusal(self) -> Message | None:
        """Return why a maintenance of this target cannot be rehearsed; None where it can."""

    @abstractmethod
    def build(self, folder: Path, stem: str, seal: Seal) -> Stage:
        """Make the copy while everybody works; drop an incomplete one first. A file needed on the way is `folder/stem`.

        Raises EngineError; nothing is left of the copy then, or `remove` finds it.
        """

    @abstractmethod
    def address(self) -> URL:
        """Return the address of the copy, with the target's password: for an engine of its own."""

    @abstractmethod
    def remove(self) -> list[str]:
        """Remove the copy and what was made of it, whole or not; return what was removed."""


class NoRehearsal(Rehearsal):
    """A product of which no maintenance can be rehearsed."""

    def refusal(self) -> Message | None:
        """See Rehearsal.refusal."""
        return msg(
            "A maintenance of this product cannot be rehearsed: a copy on its server would not be apart from it."
        )

    def build(self, folder: Path, stem: str, seal: Seal) -> Stage:
        """See Rehearsal.build."""
        raise Unable("copying for a rehearsal", stem, self.refusal() or "")

    def address(self) -> URL:
        """See Rehearsal.address."""
        raise Unable("finding the copy of", "a rehearsal", self.refusal() or "")

    def remove(self) -> list[str]:
        """See Rehearsal.remove."""
        return []


class Benchmark(ABC):
    """The operator's statements, read-only: functional checks, measured queries, a short load."""

    stopping: threading.Event

    @property
    @abstractmethod
    def cost_unit(self) -> str:
        """What `Sample.cost` counts."""

    @abstractmethod
    def query(self, sql: str) -> Rows:
        """Run an operator's functional check, in a transaction that cannot write."""

    @contextmanager
    def asking(self) -> Iterator[Callable[[str], Rows]]:
        """Ask as `query` does, many times; in one session where opening one takes longer than a question does."""
        yield self.query

    @abstractmethod
    def queries(self, tables: Sequence[str] | None) -> list[str]:
        """Return queries for the largest tables when TBL-098 names none; the same list for the same data."""

    @abstractmethod
    def measuring(self, query: str) -> AbstractContextManager[Measure]:
        """Open a read-only session with pinned settings, first for `query`, and yield what measures in it.

        That raises what goes wrong, Interrupted included.
        """

    def measure(self, query: str, repeats: int) -> Sample:
        """Measure one query; an error is in the sample. Raises Interrupted."""
        return self.measure_all([query], repeats)[0]

    def measure_all(self, queries: Sequence[str], repeats: int) -> list[Sample]:
        """Measure one query after the other, in one session until a query fails. Raises Interrupted."""
        samples: list[Sample] = []
        while len(samples) < len(queries):
            query = queries[len(samples)]
            try:
                with self.measuring(query) as measure:
                    for query in queries[len(samples) :]:
                        raise_if_stopping(self.stopping, "measuring", query[:80])
                        samples.append(measure(query, repeats))
            except Interrupted:
                raise
            except EngineError as error:
                samples.append(Sample(query, (), None, self.cost_unit, error=str(error.guarded)))
        return samples

    def load_test(self, queries: Sequence[str], seconds: float, clients: int) -> Load:
        """Let `clients` threads ask the queries in turn for `seconds`. Our own sessions, gate still closed.

        A client keeps its session, as an application's pool does, until a question fails.
        """
        until = time.monotonic() + seconds
        times: list[float] = []
        errors: list[str] = []

        def client(first: int) -> None:
            turn = cycle([*queries[first:], *queries[:first]])
            while time.monotonic() < until and not self.stopping.is_set():
                try:
                    with self.asking() as ask:
                        for query in turn:
                            begun = time.perf_counter()
                            ask(query)
                            times.append((time.perf_counter() - begun) * 1000)
                            if time.monotonic() >= until or self.stopping.is_set():
                                break
                except EngineError as error:
                    errors.append(str(error))

        begun = time.monotonic()
        if queries and clients:
            with ThreadPoolExecutor(clients) as pool:
                for future in [pool.submit(client, i % len(queries)) for i in range(clients)]:
                    future.result()
        cuts = quantiles(times, n=20) if len(times) > 1 else []
        return Load(
            clients=clients,
            seconds=time.monotonic() - begun,
            requests=len(times) + len(errors),
            errors=len(errors),
            p50_ms=cuts[9] if cuts else None,
            p95_ms=cuts[18] if cuts else None,
        )


class Privileges(ABC):
    """What the console's account may do on the target."""

    @abstractmethod
    def grants(self, role: str | None = None) -> list[Grant]:
        """Return every right that this target's account needs, or that account `role` would need, given or not.

        In an order in which an administrator can run the statements. Read-only; connects as the target's account.
        """
