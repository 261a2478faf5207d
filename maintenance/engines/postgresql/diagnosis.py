"""Diagnosis: read-only, cheap, and never the reason that a sick server gets worse."""

# ruff: noqa: S608 -- only names that `quoted` or the catalog itself quoted stand in statements

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import EngineError
from ..values import Diagnosis, Finding, TableFacts, Thresholds
from ..words import Sentence, say, size
from .collations import Collations, dependent, mismatch
from .disk import Disk
from .failures import lost
from .files import FILES, missing, orphans
from .lost_pages import Emptied
from .measuring import Measuring
from .privileges import Privileges
from .questions import (
    CONFIGURATION,
    OWNED_SEQUENCES,
    QUESTIONS,
    SEQUENCE_BEHIND,
    Question,
)
from .server import Server
from .sizes import INDEXES, NOT_EXAMINED, UNKNOWN, tables_sql
from .sql import Row, ask, canonical, quoted, words_of
from .structure import Examined
from .system import System, findings_about_system

READ_ONLY = {"statement_timeout": "30s", "lock_timeout": "2s", "default_transaction_read_only": "on"}
EXAMINE_SECONDS = 15.0
"""Time for structural checks during diagnosis; what does not fit is told, and looked at under the cut."""

AT_ONCE = 200
"""Sequences in one statement: with 10,000 tables one each would take longer than all the rest."""

VISIBILITY_SECONDS = 5.0
EMPTY_SECONDS = 5.0

LOSING = ("file_missing", "file_shorter_than_catalog", "lost_pages")
"""Findings that mean rows are absent."""

LOG_TAIL = 256 * 1024
LOG_SIGNS = re.compile(
    r"XX00[012]|PANIC|invalid page in block|page verification failed|could not read block|missing chunk"
    r"|unexpected chunk|could not access status of transaction|could not open file|invalid memory alloc"
    r"|terminated by signal|No space left"
)


class Diagnosing(Privileges, Disk, System, Emptied, Measuring, Collations, Server):
    """Collects facts about tables, and findings."""

    def diagnose(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        return self._look(thresholds, tables, whole=True)

    def survey(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        return self._look(thresholds, tables, whole=False)

    def _look(self, thresholds: Thresholds, tables: Sequence[str] | None, whole: bool) -> Diagnosis:
        """Not `whole`: without what is not about sizes and shares."""
        with self.session("diagnosing", settings=READ_ONLY) as connection:
            [(version, bytes_, connected, most)] = ask(
                connection,
                """SELECT current_setting('server_version'), pg_database_size(current_database()),
                     (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND pid <> pg_backend_pid()),
                     current_setting('max_connections')::int""",
            )
            findings = self._answers(connection, QUESTIONS) if whole else []
            findings += self._sequences_behind(connection) if whole else []
            findings += self._not_examined(connection) if whole else []
            files = ask(connection, FILES) if whole else []
            free = self._free_bytes(connection)
            rows, packed = self._sizes(connection, findings)
            collated = self._collated(connection, findings)
            findings += self.headroom(connection, rows)
        examined: dict[str, list[Examined]] = {}
        if whole:
            findings += self._of_the_server(files)
            findings += self._rights()
            examined = self._examined(tables, findings)
            findings += self._marked_wrongly(tables)
            findings += self._emptied(tables, examined)
        about: dict[str, list[Finding]] = {}
        for finding in findings:
            about.setdefault(finding.object, []).append(finding)
        wanted = None if tables is None else set(tables)
        facts = [
            table_facts(row, packed.get(row[0]), examined, about.get(name, []), collated.get(row[0], []))
            for row in rows
            for name in [canonical(row[1], row[2])]
            if wanted is None or name in wanted
        ]
        facts = self.measured(facts, thresholds)
        facts.sort(key=lambda fact: (-fact.bytes, fact.name))
        for fact in facts:
            findings += findings_about(fact, thresholds)
        return Diagnosis(
            version=f"PostgreSQL {str(version).split()[0]}",
            size_bytes=int(bytes_),
            connections=int(connected),
            max_connections=int(most),
            free_bytes=free,
            tables=tuple(facts),
            findings=tuple(findings),
        )

    def _answers(self, connection: Connection, questions: Iterable[Question]) -> list[Finding]:
        findings: list[Finding] = []
        for question in questions:
            self.raise_if_stopping("diagnosing", self.database)
            if not question.asked(self.ways):
                continue
            try:
                answers = [question.answer(row) for row in ask(connection, question.sql)]
            except DBAPIError as error:
                findings += refused(error, question.topic)
            else:
                findings += [answer for answer in answers if answer]
        return findings

    def _not_examined(self, connection: Connection) -> list[Finding]:
        rows = ask(connection, NOT_EXAMINED, examined=list(self.ways.examined_indexes))
        return [
            Finding(
                "index_not_examined",
                "low",
                "",
                say(
                    "{count} indexes are of kinds that this server cannot examine ({kinds}), the first: {index}",
                    count=int(count),
                    kinds=", ".join(kinds),
                    index=first,
                ),
                say("Nobody can tell whether they are whole; a repair builds the indexes of their tables anew"),
            )
            for kinds, count, first in rows
        ]

    def _collated(self, connection: Connection, findings: list[Finding]) -> dict[int, list[str]]:
        """Table -> its indexes that are ordered by a collation that changed."""
        found: dict[int, list[str]] = {}
        try:
            changed = self.changed_collations(connection)
            findings += [mismatch(collation) for collation in changed]
            for table, index, _ in dependent(connection, changed):
                found.setdefault(table, []).append(index)
        except DBAPIError as error:
            findings += refused(error, "collations")
        return found

    def _of_the_server(self, files: Sequence[Row]) -> list[Finding]:
        """What needs rights on the server's files; those are given in the maintenance database."""
        with self.session("diagnosing", database=self.control_database(), settings=READ_ONLY) as connection:
            findings = self._answers(connection, [CONFIGURATION])
            findings += self._log(connection)
            for topic, look in (("files that are missing", missing), ("files that belong to nothing", orphans)):
                try:
                    findings += look(connection, files)
                except DBAPIError as error:
                    findings += refused(error, topic)
        return findings

    def _marked_wrongly(self, tables: Sequence[str] | None) -> list[Finding]:
        try:
            wrong = self.invisible(tables, VISIBILITY_SECONDS)
        except EngineError as error:
            self.raise_if_stopping("diagnosing", self.database)
            return [cannot_tell("the visibility maps", error.words)]
        return [
            Finding(
                "visibility_damage",
                "high",
                table,
                say("{count} rows are marked as visible to all, and are not", count=count),
                say("Reading an index alone shows rows that were deleted; the map is built anew without loss"),
            )
            for table, count in wrong.items()
        ]

    def _emptied(self, tables: Sequence[str] | None, examined: dict[str, list[Examined]]) -> list[Finding]:
        """Of tables whose pages can be read."""
        faulty = {name for name, results in examined.items() if any(result.fault for result in results)}
        try:
            with self.session("looking for tables") as connection:
                relations = [x for x in self.relations(connection, tables) if x.name not in faulty]
            found, whole = self.lost_pages(relations, EMPTY_SECONDS)
        except EngineError as error:
            self.raise_if_stopping("diagnosing", self.database)
            return [cannot_tell("pages that were emptied", error.words)]
        findings = [emptied.finding for emptied in found]
        if not whole:
            findings.append(cannot_tell("pages that were emptied", "the time for looking was over"))
        return findings

    def _rights(self) -> list[Finding]:
        try:
            return self.missing_rights()
        except EngineError as error:
            self.raise_if_stopping("diagnosing", self.database)
            return [cannot_tell("the rights of the account", error.words)]

    def _sequences_behind(self, connection: Connection) -> list[Finding]:
        """Where the column's highest value is known cheaply: a valid b-tree begins with the column."""
        try:
            rows = [row for row in ask(connection, OWNED_SEQUENCES) if row[7]]
        except DBAPIError as error:
            return refused(error, "sequences")
        return [finding for group in grouped(rows, AT_ONCE) for finding in self._group_behind(connection, group)]

    def _group_behind(self, connection: Connection, group: Sequence[Row]) -> list[Finding]:
        """One statement for many sequences; where one of them cannot be read, for each half."""
        self.raise_if_stopping("diagnosing", self.database)
        try:
            return [SEQUENCE_BEHIND(row) for row in sequences_behind(connection, group)]
        except DBAPIError as error:
            if len(group) == 1 or lost(error.orig):
                return refused(error, "sequences")
        middle = len(group) // 2
        return self._group_behind(connection, group[:middle]) + self._group_behind(connection, group[middle:])

    def _sizes(
        self, connection: Connection, findings: list[Finding]
    ) -> tuple[list[Row], dict[int, tuple[float, float]]]:
        try:
            rows = ask(connection, tables_sql(self.ways.examined_indexes))
        except DBAPIError as error:
            findings += refused(error, "the share of empty space")
            rows = ask(connection, tables_sql(self.ways.examined_indexes, UNKNOWN))
        try:
            packed = {int(oid): (float(now), float(ideal)) for oid, now, ideal in ask(connection, INDEXES)}
        except DBAPIError as error:
            if lost(error.orig):
                raise
            findings.append(cannot_tell("sizes of indexes", words_of(error)))
            packed = {}
        return rows, packed

    def _examined(self, tables: Sequence[str] | None, findings: list[Finding]) -> dict[str, list[Examined]]:
        by_table: dict[str, list[Examined]] = {}
        try:
            system = self.examine_system(EXAMINE_SECONDS)
            findings += findings_about_system(system)
            results = self.examine(tables, EXAMINE_SECONDS, deep=False)
        except EngineError as error:
            self.raise_if_stopping("diagnosing", self.database)
            findings.append(cannot_tell("the structure of tables and indexes", error.words))
            return {}
        for result in results:
            by_table.setdefault(result.part.table, []).append(result)
        reasons = sorted({result.unknown for result in [*system, *results] if result.unknown})
        for reason in reasons:
            findings.append(cannot_tell("the structure of tables and indexes", reason))
        return by_table

    def _log(self, connection: Connection) -> list[Finding]:
        """Signs of damage in the last part of the server's log, where the server lets us read it."""
        try:
            rows = ask(
                connection,
                """SELECT pg_read_binary_file(f, greatest(s - %(tail)s, 0), %(tail)s, true)
                   FROM (SELECT f, (pg_stat_file(f, true)).size AS s FROM pg_current_logfile() f) x
                     WHERE s IS NOT NULL""",
                tail=LOG_TAIL,
            )
        except DBAPIError as error:
            return refused(error, "the server's log")
        text = bytes(rows[0][0]).decode(errors="replace") if rows and rows[0][0] else ""
        lines = [line for line in text.splitlines() if LOG_SIGNS.search(line) and "STATEMENT:" not in line]
        if not lines:
            return []
        return [
            Finding(
                "server_log_errors",
                "high",
                "",
                say(
                    "{count} lines of the server's log tell of damage, the last: {line}",
                    count=len(lines),
                    line=lines[-1][:300],
                ),
                say("Look into the log around that time; the cause is often storage, memory or a full disk"),
            )
        ]


def grouped(items: Sequence[Row], most: int) -> Iterator[Sequence[Row]]:
    for first in range(0, len(items), most):
        yield items[first : first + most]


def sequences_behind(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """(schema, table, column, sequence schema, sequence, last value, highest) of those that stand behind."""
    parts = [
        f"""SELECT {number}, (SELECT max({quoted(column)})::numeric FROM {canonical(schema, table)}),
              (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END
               FROM {canonical(sequence_schema, sequence)})"""
        for number, (schema, table, column, sequence_schema, sequence, *_) in enumerate(rows)
    ]
    found = ask(connection, " UNION ALL ".join(parts)) if parts else []
    return [
        (*rows[number][:5], int(last), int(highest))
        for number, highest, last in found
        if highest is not None and highest > last
    ]


def sequence_behind(connection: Connection, row: Row) -> Row | None:
    """As `sequences_behind`, of one."""
    return next(iter(sequences_behind(connection, [row])), None)


def refused(error: DBAPIError, topic: str) -> list[Finding]:
    """A right that lacks has a finding of its own; a session that is lost ends the diagnosis."""
    if lost(error.orig):
        raise error
    if getattr(error.orig, "pgcode", None) == "42501":
        return []
    return [cannot_tell(topic, words_of(error))]


def cannot_tell(topic: str, words: str) -> Finding:
    return Finding(
        "cannot_tell",
        "low",
        "",
        say("Cannot tell about {topic}: {words}", topic=topic, words=words),
        say("Give the console's account more rights, or look by hand"),
    )


def table_facts(
    row: Row,
    packed: tuple[float, float] | None,
    examined: dict[str, list[Examined]],
    own: list[Finding],
    collated: list[str],
) -> TableFacts:
    """`bloat_share` is the larger of the estimate and the share of dead rows: a rewrite gives both back."""
    _, schema, table, estimated_rows, heap, indexes, total, ideal, live, dead, changed, analyzed, other = row
    name = canonical(schema, table)
    live, dead, changed = int(live or 0), int(dead or 0), int(changed or 0)
    dead_share = dead / (live + dead) if live + dead else 0.0
    stale_share = min(1.0, changed / max(live, 1)) if analyzed or estimated_rows >= 0 else (1.0 if live else 0.0)
    if heap == 0:
        bloat: float | None = 0.0
    elif ideal is None or stale_share > 0.1:
        # Estimated from old statistics it says anything; dead rows are counted as they happen.
        bloat = dead_share if live + dead else None
    else:
        bloat = max(0.0, 1 - float(ideal) / float(heap), dead_share)
    index_bloat = max(0.0, 1 - packed[1] / packed[0]) if packed and packed[0] and stale_share <= 0.1 else None
    results = examined.get(name, [])
    faulty_heap = [result for result in results if result.fault and not result.part.index]
    faulty_indexes = [result for result in results if result.fault and result.part.index]
    return TableFacts(
        name=name,
        bytes=int(total),
        rows=int(estimated_rows) if estimated_rows >= 0 else (live or None),
        bloat_share=bloat,
        dead_share=dead_share,
        stale_share=stale_share,
        damaged=bool(faulty_heap or faulty_indexes) or any(finding.code in LOSING for finding in own),
        notes={
            "heap_bytes": int(heap),
            "index_bytes": int(indexes),
            "index_bloat_share": index_bloat,
            "live_rows": live,
            "dead_rows": dead,
            "changed_rows": changed,
            "heap_fault": "; ".join(str(result.fault) for result in faulty_heap)[:1000] or None,
            "faulty_indexes": [str(result.part.index) for result in faulty_indexes],
            "index_fault": "; ".join(str(result.fault) for result in faulty_indexes)[:1000] or None,
            "invalid_indexes": [
                str(finding.evidence.values["index"]) for finding in own if finding.code == "invalid_index"
            ],
            "sequence_behind": [str(finding.evidence) for finding in own if finding.code == "sequence_behind"],
            "examined": bool(results) and not any(result.unknown for result in results) and not other,
            "missing": any(finding.code == "file_missing" for finding in own),
            "emptied": next((str(finding.evidence) for finding in own if finding.code == "lost_pages"), None),
            "short": any(finding.code == "file_shorter_than_catalog" for finding in own),
            "collated_indexes": collated,
            "visibility": any(finding.code == "visibility_damage" for finding in own),
        },
    )


def bloat_words(share: float, count: int, measured: bool) -> Sentence:
    if measured:
        return say("Measured: {share:.0%} of {size} holds no living row", share=share, size=size(count))
    return say("About {share:.0%} of {size} holds no living row", share=share, size=size(count))


def index_bloat_words(share: float, fragmentation: object) -> Sentence:
    if isinstance(fragmentation, float):
        return say(
            "Measured: {share:.0%} of its indexes is empty, {fragmentation:.0%} of their leaf pages lie out of order",
            share=share,
            fragmentation=fragmentation,
        )
    return say("About {share:.0%} of its indexes is empty", share=share)


def findings_about(fact: TableFacts, thresholds: Thresholds) -> list[Finding]:
    """What the figures of one table mean."""
    found: list[Finding] = []
    notes = fact.notes
    if notes["heap_fault"]:
        found.append(
            Finding(
                "damaged_table",
                "critical",
                fact.name,
                say("{fault}", fault=notes["heap_fault"]),
                say("Rows on these pages may be lost; the cause is often storage or memory"),
            )
        )
    if notes["index_fault"]:
        found.append(
            Finding(
                "damaged_index",
                "high",
                fact.name,
                say("{fault}", fault=notes["index_fault"]),
                say("Queries by this index fail or miss rows; building it anew loses nothing"),
            )
        )
    if fact.bytes < thresholds.minimum_bytes:
        return found
    if fact.bloat_share is not None and fact.bloat_share >= thresholds.bloat_share:
        found.append(
            Finding(
                "table_bloat",
                "medium",
                fact.name,
                bloat_words(fact.bloat_share, fact.bytes, bool(notes.get("measured"))),
                say("Many updates or deletes without enough cleaning; reading it costs more than needed"),
            )
        )
    elif fact.dead_share is not None and fact.dead_share >= thresholds.dead_share:
        found.append(
            Finding(
                "dead_rows",
                "medium",
                fact.name,
                say("{share:.0%} of the rows are dead", share=fact.dead_share),
                say("Cleaning does not keep up, or something holds old rows back"),
            )
        )
    elif fact.stale_share is not None and fact.stale_share >= thresholds.stale_share:
        found.append(
            Finding(
                "stale_statistics",
                "low",
                fact.name,
                say("{share:.0%} of the rows changed since the last analysis", share=fact.stale_share),
                say("The planner counts on figures that are no longer true; ANALYZE takes new ones"),
            )
        )
    index_bloat = notes["index_bloat_share"]
    if isinstance(index_bloat, float) and index_bloat >= thresholds.bloat_share:
        found.append(
            Finding(
                "index_bloat",
                "medium",
                fact.name,
                index_bloat_words(index_bloat, notes.get("index_fragmentation")),
                say("Building the indexes anew gives the space back"),
            )
        )
    if fact.stale_share is not None and fact.stale_share >= thresholds.stale_share:
        found.append(
            Finding(
                "stale_statistics",
                "medium",
                fact.name,
                say("{share:.0%} of the rows changed since the statistics were taken", share=fact.stale_share),
                say("The planner chooses by old figures"),
            )
        )
    return found
