"""What engines tell: plain frozen values, no behaviour beyond their own arithmetic."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .marks import Signer
from .messages import Message, msg

MaintenanceType = Literal["repair", "optimize", "rebuild"]
Severity = Literal["critical", "high", "medium", "low"]
Json = dict[str, object]


@dataclass(frozen=True)
class Tag:
    """Whose work this is: RunTarget id, fencing token and installation. Marks sessions, names and statements."""

    target: int
    token: int
    site: str = ""
    """Letters of the installation, as two may count their run targets alike. Empty for what began before them."""
    signer: Signer = field(default_factory=Signer)
    """Signs the marks left on the target. The default has an empty key: for work on an engine alone."""

    @property
    def session(self) -> str:
        """Name of every session we open, e.g. 'dbmaint:qxwvbntk42:3'."""
        return f"{self.family}{self.token}"

    @property
    def family(self) -> str:
        """What all sessions of this run target begin with, whatever the token: 'dbmaint:qxwvbntk42:'."""
        return f"dbmaint:{self.site}{self.target}:"

    @property
    def suffix(self) -> str:
        """Ending for side objects of this run target; the same after a crash: 'dbmqxwvbntk42'."""
        return f"dbm{self.site}{self.target}"

    @property
    def mark(self) -> Json:
        """What a mark on the target says of whose it is."""
        return {"target": self.target, "site": self.site}

    def is_anothers_session(self, name: str) -> bool:
        """Whether a session that holds the target's lock is another installation's, by its name."""
        own = re.fullmatch(r"dbmaint:([a-z]*)\d+:\d+", name)
        return own is None or own[1] not in ("", self.site)

    def wrote(self, mark: Mapping[str, object]) -> bool:
        """Whether the mark is of this run target."""
        return (mark.get("target"), mark.get("site", "")) == (self.target, self.site)

    def is_anothers(self, mark: Mapping[str, object]) -> bool:
        """Whether the mark is of another installation. One without letters may be ours, of the time before them."""
        return mark.get("site", "") not in ("", self.site)


@dataclass(frozen=True)
class Limits:
    """Budgets for one target, from TBL-098."""

    jobs: int = 2
    memory_mb: int = 8192
    lock_seconds: float = 10.0
    statement_seconds: float = 3600.0
    cut_seconds: float = 30.0


@dataclass(frozen=True)
class Thresholds:
    """From when on an object needs work (TBL-098). Shares are 0..1."""

    bloat_share: float = 0.30
    dead_share: float = 0.20
    stale_share: float = 0.10
    minimum_bytes: int = 1_000_000


@dataclass(frozen=True)
class Facts:
    """Who the target is. `identity` is equal exactly for two ways to the same database."""

    version: str
    identity: str
    data_directory: str | None
    is_replica: bool
    size_bytes: int
    refusal: Message | None = None
    """Why no maintenance may begin on it as it is, and what to do; None: nothing is against it."""


@dataclass(frozen=True)
class Finding:
    """`object` is '' for the database as a whole. `code` is snake_case and stable."""

    code: str
    severity: Severity
    object: str
    evidence: Message
    hint: Message


@dataclass(frozen=True)
class Grant:
    """One right that the console's account needs on a target, and how an administrator gives it.

    `statement` is SQL to run in database `where` ('' where that does not matter), which the product's own client
    enters by the line `enter`; it is '' for a right that no statement gives. `given` is what the server says of the
    account now. `severity` is that of the finding while it is missing.
    """

    statement: str
    purpose: Message
    given: bool
    severity: Severity = "medium"
    where: str = ""
    enter: str = ""

    @property
    def finding(self) -> Finding:
        """What the account cannot do, and what an administrator does so that it can."""
        hint = msg("No statement gives that right; register an account that has it if it is needed")
        if self.statement and self.where:
            hint = msg(
                "An administrator gives the right in database {database}: {statement}",
                database=self.where,
                statement=self.statement,
            )
        elif self.statement:
            hint = msg("An administrator gives the right: {statement}", statement=self.statement)
        return Finding("missing_privilege", self.severity, "", self.purpose, hint)


@dataclass(frozen=True)
class TableFacts:
    """One table as diagnosis saw it; None means the engine cannot tell without harm.

    `name` is the canonical name: parts quoted by the dialect where needed, joined by a dot.
    `bytes` holds table, indexes and out-of-line storage. Shares are 0..1.
    """

    name: str
    bytes: int
    rows: int | None = None
    bloat_share: float | None = None
    dead_share: float | None = None
    stale_share: float | None = None
    damaged: bool = False
    notes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """`free_bytes` is the free space where the data lies, None when the server cannot tell."""

    version: str
    size_bytes: int
    connections: int
    max_connections: int | None
    free_bytes: int | None
    tables: tuple[TableFacts, ...]
    findings: tuple[Finding, ...]

    @property
    def health(self) -> int:
        """0..100. Each finding costs by its severity; ten alike cost no more than three."""
        weight = {"critical": 40, "high": 15, "medium": 5, "low": 1}
        seen: dict[str, int] = {}
        loss = 0
        for finding in self.findings:
            seen[finding.code] = seen.get(finding.code, 0) + 1
            if seen[finding.code] <= 3:
                loss += weight[finding.severity]
        return max(0, 100 - loss)


@dataclass(frozen=True)
class Action:
    """One piece of work on one object. `kind` is the engine's own word, e.g. 'vacuum_full'.

    `bytes` weighs progress; `disk_bytes` is the extra space needed meanwhile; `lock` is in plain
    words; `stage` orders: all actions of a lower stage end before a higher one begins.
    """

    object: str
    kind: str
    reason: Message
    lock: Message
    bytes: int
    disk_bytes: int
    stage: int = 0
    needs_data_loss: bool = False


@dataclass(frozen=True)
class Loss:
    """Rows that could not be saved, for the report."""

    object: str
    rows: int | None
    pages: tuple[int, ...]
    detail: Message


@dataclass(frozen=True)
class Performed:
    """What an action did, observed by its effect. Bytes are None where the engine cannot tell."""

    sentence: Message
    bytes_before: int | None
    bytes_after: int | None
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True)
class Progress:
    """`share` is 0..1 as the server gives it, or None: 'not available from this engine'.

    `object` is '' for a statement that the server counts no progress of. `seconds`: how long it runs. `blockers` are
    the sessions it waits for, in words; () is nobody, None 'not available from this engine'.
    """

    object: str
    share: float | None
    statement: str
    detail: str = ""
    seconds: float | None = None
    blockers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Fingerprint:
    """Exact row count and order-independent checksum, or the error that reading raised.

    `recounted`: every value was read earlier; now the rows were counted, and nobody wrote to the table in between.
    """

    rows: int | None
    digest: str | None
    error: str | None = None
    recounted: bool = field(default=False, compare=False)

    @property
    def readable(self) -> bool:
        return self.error is None


STRUCTURAL = frozenset(
    {"structure", "table structure", "index structure", "index can be read", "index", "readable"},
)


@dataclass(frozen=True)
class Check:
    """One proof: structural check, constraint, sequence, or functional query.

    `of_rows`: its answer follows from the rows alone, so the same rows always give the same. `table`: canonical name
    of the table that the object belongs to, '' where the object is it.
    """

    name: str
    object: str
    passed: bool
    detail: str = ""
    of_rows: bool = False
    table: str = ""

    @property
    def structural(self) -> bool:
        """Whether it looked at pages and indexes: where it fails, data may be unreadable or wrong."""
        return self.name in STRUCTURAL


@dataclass(frozen=True)
class Backup:
    """A backup file that was written, synced and read back whole.

    `snapshot` holds the fingerprints of what is in it where the engine can bind them to the
    backup, otherwise those taken just before it began.
    """

    path: Path
    method: str
    bytes: int
    sha256: str
    verified: bool
    snapshot: Mapping[str, Fingerprint] = field(default_factory=dict)


@dataclass(frozen=True)
class Image:
    """What a rollback restores from: complete as of the cut.

    `kind` 'copy': `name` is a side database or side file, nothing else is needed.
    `kind` 'dump': the backup plus, where tables changed since, the file `path` with `tables`.
    """

    kind: Literal["copy", "dump"]
    name: str
    bytes: int
    tables: tuple[str, ...] = ()
    path: Path | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class RestoreBudget:
    """How far a backup is restored before the outage (TBL-098). `disk_share`: of the free space, at most."""

    extent: str = "full"
    seconds: float = 3600.0
    disk_share: float = 0.5


@dataclass(frozen=True)
class Restored:
    """A backup that was restored beside the target and proven against its own snapshot.

    `side`: the name of the copy where it is kept for a rollback, otherwise ''. `extent` 'full': every row and
    definition; 'definitions': every definition, and the first `rows` of each table; 'copy': nothing, as the way back is
    a copy by file under the cut.
    """

    side: str
    extent: str
    tables: int
    bytes: int
    seconds: float
    why: Message | None = None
    """Why not every row was restored."""
    rows: int = 0


@dataclass(frozen=True)
class WayBack:
    """What is known of the way back before anything begins. `bytes`: of its copy, on the disk where the data lies.

    `extent`: how far a backup is restored beside before the outage, as in `Restored`; 'none' where the product restores
    none. `leaves_open`: what is not proven by that.
    """

    extent: str
    bytes: int
    leaves_open: Message | None = None


@dataclass(frozen=True)
class Stage:
    """A copy of the target on which a maintenance is rehearsed. `seconds`: how long it took to make.

    `by_file`: it has the target's bloat and damage in it, page for page; a restored copy has lost both.
    """

    name: str
    bytes: int
    seconds: float
    by_file: bool


@dataclass(frozen=True)
class Cut:
    """How the connections were cut; `quiet_polls` consecutive polls found nobody."""

    sessions_ended: int
    quiet_polls: int
    seconds: float


@dataclass(frozen=True)
class Sample:
    """One query measured in one block. Times in ms after a warm-up; `cost` is deterministic (blocks, pages, rows).

    `control_ms` are the times of the control query beside each of them. `cut_short`: it did not end within its share of
    the budget, and the one time is how long it had.
    """

    query: str
    times_ms: tuple[float, ...]
    cost: int | None
    cost_unit: str
    rows: int | None = None
    error: str | None = None
    control_ms: tuple[float, ...] = ()
    cut_short: bool = False


@dataclass(frozen=True)
class Load:
    """Short load test: `requests` in `seconds` with `clients`; latencies in ms."""

    clients: int
    seconds: float
    requests: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None
