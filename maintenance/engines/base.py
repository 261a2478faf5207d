"""What every engine can do, in the order the procedure asks for it.

An engine knows one database product and one target database. It knows neither Django nor the
procedure. Every method that has an effect can be called a second time after a crash: it looks at
reality first. Names from outside are quoted by the dialect, values are bound.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import quantiles
from typing import ClassVar

from sqlalchemy import URL

from .archive import Seal
from .errors import EngineError, Interrupted, Unable
from .messages import Sentence, say
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
    Limits,
    Load,
    MaintenanceType,
    Performed,
    Progress,
    Sample,
    Tag,
    Thresholds,
)

AT_WORK_ELSEWHERE = say("another installation of this console is at work on it; wait until that has ended")
CLOSED_BY_ANOTHER = say(
    "another installation of this console closed it and has not opened it again; it has to be ended or released there"
)

Rows = list[tuple[object, ...]]


class Engine(ABC):
    """One target database. Thread-safe: methods open their own connections unless said otherwise."""

    name: ClassVar[str]
    """As shown and stored: postgresql, mysql, mariadb or sqlite."""
    backup_methods: ClassVar[tuple[str, str]]
    """The usual method and an alternate of a different kind (flowchart node R)."""
    hold_dies_with_worker: ClassVar[bool] = False
    """True where the cut is a lock of this process, so that after a crash everybody was in again."""
    check_harms_damaged_tables: ClassVar[bool] = False
    """True where a structural check takes away what could still be read of a damaged table: read first there."""

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        self.url, self.tag, self.limits = url, tag, limits
        self.stopping = threading.Event()
        self.still_ours: Callable[[], object] = lambda: None
        """Asked before a lock that was lost on the target is taken again; raises when another worker has the run."""
        self._interrupting = threading.Lock()

    # -- who is it ---------------------------------------------------------------------------------

    @abstractmethod
    def facts(self) -> Facts:
        """Connects. Raises Unreachable or AccessDenied with the server's words, never the password."""

    @abstractmethod
    def grants(self, role: str | None = None) -> list[Grant]:
        """Every right that this target's account needs, or that account `role` would need, given or not.

        In an order in which an administrator can run the statements. Read-only; connects as the target's account.
        """

    @abstractmethod
    def resolve(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Canonical names of the tables a person named, and those names that are unknown.

        Accepts the canonical name, the bare 'schema.table', and the bare table name when unique.
        """

    def recall(self, gate: Json) -> None:  # noqa: B027
        """Take from the journal which object of the server the target is. Where others can plant names and marks,
        it is found by that alone from then on."""

    @abstractmethod
    def fence(self) -> int:
        """Ends every session of this run target that carries another token; returns how many.

        Also takes the target's own mutual exclusion, held by this object until `close`. Raises
        Transient when somebody else's maintenance holds it, Unable when another installation left its mark.
        """

    def kept_by_another(self) -> Sentence | None:
        """What another installation of this console does with the target, or left on it; None: nothing. Read-only."""
        return None

    def refuse_anothers(self, mark: Mapping[str, object] | None) -> None:
        """Raises Unable when the mark of a cut that was found on the target is another installation's."""
        if mark is not None and self.tag.is_anothers(mark):
            raise Unable("taking over", self.url.database or "", CLOSED_BY_ANOTHER)

    def interrupt(self) -> None:
        """Ends what runs now, on the server too, within 5 s. Later calls raise Interrupted."""
        with self._interrupting:
            self.stopping.set()
            self.end_statements()

    @abstractmethod
    def end_statements(self) -> None:
        """The engine's part of `interrupt`: ends what our sessions run on the server."""

    def clear_interrupt(self) -> None:
        """Lets this object work again, for the rollback - after an interrupt under way, which would end that too."""
        with self._interrupting:
            self.stopping.clear()

    def raise_if_stopping(self, doing: str, object: str) -> None:
        """Call between pieces of long work."""
        if self.stopping.is_set():
            raise Interrupted(doing, object, "stopped on request")

    def hang_up(self) -> None:  # noqa: B027
        """Ends our connections to a server that answers no more: who waits for it then gets a lost connection."""

    @abstractmethod
    def close(self) -> None:
        """Gives back connections and locks this object holds; the gate stays as it is."""

    # -- B diagnose, C decide ----------------------------------------------------------------------

    @abstractmethod
    def diagnose(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        """Read-only and harmless to a sick server. `tables` are canonical names, None for all."""

    def survey(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        """As `diagnose`, as far as it tells what to optimize: for a look within the outage, after the proof."""
        return self.diagnose(thresholds, tables)

    @abstractmethod
    def plan(
        self,
        kind: MaintenanceType,
        diagnosis: Diagnosis,
        thresholds: Thresholds,
        tables: Sequence[str] | None,
        allow_data_loss: bool,
    ) -> list[Action]:
        """Pure function of its arguments. Only what needs it, unless `rebuild`."""

    # -- D back up, R alternate --------------------------------------------------------------------

    @abstractmethod
    def back_up(self, method: str, folder: Path, stem: str, seal: Seal) -> Backup:
        """Writes `folder/stem.<ext>` by way of `.part`, syncs, reads it back whole, renames."""

    # -- F cut -------------------------------------------------------------------------------------

    @abstractmethod
    def read_gate(self) -> Json:
        """Everything `open_gate` needs to restore exactly. Where our marker of an earlier crash is
        on the target, the original state that the marker holds."""

    @abstractmethod
    def cut(self, gate: Json, marker: Json) -> Cut:
        """Marks the target with `marker` and `gate`, blocks, ends sessions, proves quiet.

        Idempotent; spares replication and our own sessions. Raises Transient when somebody stays.
        """

    @abstractmethod
    def open_gate(self, gate: Json, share: float | None) -> None:
        """Lets `share` (0..1) of the connections in; None: exactly as before, marker removed."""

    @abstractmethod
    def gate_differences(self, gate: Json) -> list[str]:
        """What is not as `gate` says, in words; empty when exactly as before."""

    @abstractmethod
    def is_cut(self) -> bool:
        """Whether the mark of the cut is on the target still; not when the switch or a person opened it."""

    @abstractmethod
    def by_hand(self, gate: Json) -> list[str]:
        """What a person types, one command a line, to open the target as `gate` says without this console."""

    # -- the dead man's switch: only for a cut that outlives its process ------------------------------

    def arm(self, gate: Json, seconds: float) -> None:
        """The target opens itself as `gate` says once nothing was heard of us for `seconds`.

        Armed already: the time begins anew. Raises Unable where the target cannot do that.
        """
        raise Unable("arming the switch of", self.url.database or "", "a lock on a file ends with its process anyway")

    def disarm(self) -> None:  # noqa: B027
        """The target stays closed from here on. `is_cut` tells afterwards whether that was in time."""

    def still_here(self) -> None:  # noqa: B027
        """Asked every few seconds: puts the switch off. Needs an answer of the server, so it also proves the way."""

    @abstractmethod
    def image(self, backup: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: Seal) -> Image:
        """Under the cut: what a rollback will restore from, with every row committed before the cut.

        `baseline` are the fingerprints under the cut. Damaged pages are copied, never a reason to fail
        where the engine has a way to copy by file.
        """

    # -- G maintain --------------------------------------------------------------------------------

    @abstractmethod
    def perform(self, action: Action, allow_data_loss: bool) -> Performed:
        """Does one action, several at a time from several threads; verifies it by its effect.

        Raises Damaged when only loss of data would help and that is not allowed.
        """

    def progress(self) -> list[Progress]:
        """What the server says of work in hand; empty when it says nothing."""
        return []

    # -- H verify ----------------------------------------------------------------------------------

    @abstractmethod
    def fingerprint(self, tables: Sequence[str] | None, side: str | None = None) -> dict[str, Fingerprint]:
        """Every row of these tables (None: all) by canonical name; of the side copy when given.

        A table that cannot be read has its error in the result; the others go on.
        """

    def recount(self, tables: Sequence[str] | None) -> dict[str, Fingerprint]:
        """As `fingerprint`, of the live database. A table need not be read again where the engine can prove that
        nobody wrote to it since this object read it."""
        return self.fingerprint(tables)

    @abstractmethod
    def check(self, tables: Sequence[str] | None, thorough: bool = True) -> list[Check]:
        """Structure first, then constraints and sequences.

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
    def catalog(self, side: str | None = None) -> dict[str, str]:
        """Object -> digest of its definition: columns, indexes, constraints, views, triggers, routines."""

    def encryption(self, side: str | None = None) -> dict[str, list[str]]:
        """Table -> what shows that it is encrypted on disk; of the side copy when given.

        Only tables that are. Empty also where the product encrypts nothing itself.
        """
        return {}

    def tls(self) -> dict[str, list[str]]:
        """Account or rule that leads to the target -> what it demands of a connection; only where TLS is demanded."""
        return {}

    @abstractmethod
    def query(self, sql: str) -> Rows:
        """Runs an operator's read-only functional check, in a transaction that cannot write."""

    @contextmanager
    def asking(self) -> Iterator[Callable[[str], Rows]]:
        """Asks as `query` does, many times; in one session where opening one takes longer than a question does."""
        yield self.query

    # -- benchmark ---------------------------------------------------------------------------------

    @abstractmethod
    def benchmark_queries(self, tables: Sequence[str] | None) -> list[str]:
        """Queries for the largest tables when TBL-098 names none; the same list for the same data."""

    @abstractmethod
    def measure(self, query: str, repeats: int) -> Sample:
        """Read-only, pinned settings, one discarded warm-up. An error is in the sample."""

    def measure_all(self, queries: Sequence[str], repeats: int) -> list[Sample]:
        """Each of them as `measure` does, one after the other. Raises Interrupted between two."""
        samples: list[Sample] = []
        for query in queries:
            self.raise_if_stopping("measuring", query[:80])
            samples.append(self.measure(query, repeats))
        return samples

    def load_test(self, queries: Sequence[str], seconds: float, clients: int) -> Load:
        """`clients` threads ask the queries in turn for `seconds`. Our own sessions, gate still closed.

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

    # -- S roll back -------------------------------------------------------------------------------

    @abstractmethod
    def restore_beside(self, image: Image, backup: Backup, seal: Seal) -> str:
        """Restores into a side copy, never into the live one; drops an incomplete one first.

        Returns the name to give to `fingerprint(side=…)` and `swap`.
        """

    @abstractmethod
    def swap(self, side: str, gate: Json, marker: Json) -> str:
        """Puts the side copy in the place of the live one, gate still closed; the broken one is kept.

        Owner, grants, settings and comments go along. Done already (seen on the target): nothing.
        Returns where the broken one is kept.
        """

    # -- afterwards --------------------------------------------------------------------------------

    @abstractmethod
    def leftovers(self) -> list[str]:
        """What of this run target is still on the target: copies, side tables, markers, sessions."""

    @abstractmethod
    def clean(self, keep: Sequence[str] = ()) -> list[str]:
        """Removes leftovers but `keep`; returns what it removed."""
