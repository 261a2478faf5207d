"""Diagnosis: read-only, cheap, and never the reason that a sick server gets worse."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance.engines.errors import EngineError
from maintenance.engines.messages import msg
from maintenance.engines.parts import Diagnostics
from maintenance.engines.values import Diagnosis, Finding, Thresholds

from ..driver_errors import lost
from ..dump_limits import for_superusers
from ..privileges import PostgresPrivileges
from ..relations import relations
from ..repair.collations import Collations, dependent, mismatch
from ..repair.lost_pages import lost_pages
from ..repair.system_catalogs import SystemCatalogs, findings_about_system
from ..sql import Row, ask, canonical, is_superuser, words_of
from ..structure import Examined, Structure
from ..target import TargetDatabase
from .bloat import measured
from .catalog_checks import QUESTIONS
from .data_at_risk import CONFIGURATION
from .disk import free_bytes, headroom
from .files import FILES, missing, orphans
from .inconclusive import cannot_tell, refused
from .obstacles import by_superuser
from .question import Question
from .sequences import sequence_findings
from .server_log import log_findings
from .sizes import INDEXES, NOT_EXAMINED, UNKNOWN, tables_sql
from .tables import findings_about, table_facts

READ_ONLY = {"statement_timeout": "30s", "lock_timeout": "2s", "default_transaction_read_only": "on"}
EXAMINE_SECONDS = 15.0
"""Time for structural checks during diagnosis; what does not fit is told, and looked at under the cut."""

OWNED_BY_OTHERS = """
SELECT 1 FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE d.datname = current_database() AND NOT r.rolsuper
"""
"""Whether the database belongs to no superuser."""

VISIBILITY_SECONDS = 5.0
EMPTY_SECONDS = 5.0


class PostgresDiagnostics(Diagnostics):
    """Collects facts about tables, and findings."""

    def __init__(
        self,
        target: TargetDatabase,
        structure: Structure,
        catalogs: SystemCatalogs,
        privileges: PostgresPrivileges,
    ) -> None:
        self.target, self.structure, self.catalogs, self.privileges = target, structure, catalogs, privileges
        self.collations = Collations(target)

    def diagnose(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        """See Diagnostics.diagnose."""
        return self._look(thresholds, tables, whole=True)

    def survey(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        """See Diagnostics.survey."""
        return self._look(thresholds, tables, whole=False)

    def _look(self, thresholds: Thresholds, tables: Sequence[str] | None, whole: bool) -> Diagnosis:
        """Not `whole`: without what is not about sizes and shares."""
        with self.target.session("diagnosing", settings=READ_ONLY) as connection:
            [(version, bytes_, connected, most)] = ask(
                connection,
                """SELECT current_setting('server_version'), pg_database_size(current_database()),
                     (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND pid <> pg_backend_pid()),
                     current_setting('max_connections')::int""",
            )
            findings = self._answers(connection, QUESTIONS) if whole else []
            findings += sequence_findings(self.target, connection) if whole else []
            findings += self._not_examined(connection) if whole else []
            findings += self._by_superuser(connection) if whole else []
            files = ask(connection, FILES) if whole else []
            free = free_bytes(connection)
            rows, packed = self._sizes(connection, findings)
            collated = self._collated(connection, findings)
            findings += headroom(connection, rows)
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
        facts = measured(self.target, facts, thresholds)
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
            self.target.raise_if_stopping("diagnosing", self.target.name)
            try:
                answers = [question.answer(row) for row in ask(connection, question.sql)]
            except DBAPIError as error:
                findings += refused(error, question.topic)
            else:
                findings += [answer for answer in answers if answer]
        return findings

    def _by_superuser(self, connection: Connection) -> list[Finding]:
        """Return what a restore makes with more rights than the owner has. Other accounts lack a right instead."""
        try:
            asked = is_superuser(connection) and bool(ask(connection, OWNED_BY_OTHERS))
            names = for_superusers(connection, self.target.capabilities) if asked else []
        except DBAPIError as error:
            return refused(error, "what a restore does as a superuser")
        return [by_superuser(names)] if names else []

    def _not_examined(self, connection: Connection) -> list[Finding]:
        rows = ask(connection, NOT_EXAMINED, examined=list(self.target.capabilities.examined_indexes))
        return [
            Finding(
                "index_not_examined",
                "low",
                "",
                msg(
                    "{count} indexes are of kinds that this server cannot examine ({kinds}), the first: {index}",
                    count=int(count),
                    kinds=", ".join(kinds),
                    index=first,
                ),
                msg("Nobody can tell whether they are whole; a repair builds the indexes of their tables anew"),
            )
            for kinds, count, first in rows
        ]

    def _collated(self, connection: Connection, findings: list[Finding]) -> dict[int, list[str]]:
        """Return table -> its indexes that are ordered by a collation that changed."""
        found: dict[int, list[str]] = {}
        try:
            changed = self.collations.changed(connection)
            findings += [mismatch(collation) for collation in changed]
            for table, index in dependent(connection, changed):
                found.setdefault(table, []).append(index)
        except DBAPIError as error:
            findings += refused(error, "collations")
        return found

    def _of_the_server(self, files: Sequence[Row]) -> list[Finding]:
        """Return findings that need rights on the server's files; those are given in the maintenance database."""
        control = self.target.control_database()
        with self.target.session("diagnosing", database=control, settings=READ_ONLY) as connection:
            findings = self._answers(connection, [CONFIGURATION])
            findings += log_findings(connection, {self.target.name, self.target.place(), control})
            for topic, look in (("files that are missing", missing), ("files that belong to nothing", orphans)):
                try:
                    findings += look(connection, files)
                except DBAPIError as error:
                    findings += refused(error, topic)
        return findings

    def _marked_wrongly(self, tables: Sequence[str] | None) -> list[Finding]:
        try:
            wrong = self.structure.invisible(tables, VISIBILITY_SECONDS)
        except EngineError as error:
            self.target.raise_if_stopping("diagnosing", self.target.name)
            return [cannot_tell("the visibility maps", error.words)]
        return [
            Finding(
                "visibility_damage",
                "high",
                table,
                msg("{count} rows are marked as visible to all, and are not", count=count),
                msg("Reading an index alone shows rows that were deleted; the map is built anew without loss"),
            )
            for table, count in wrong.items()
        ]

    def _emptied(self, tables: Sequence[str] | None, examined: dict[str, list[Examined]]) -> list[Finding]:
        """Of tables whose pages can be read."""
        faulty = {name for name, results in examined.items() if any(result.fault for result in results)}
        try:
            with self.target.session("looking for tables") as connection:
                chosen = [x for x in relations(connection, tables) if x.name not in faulty]
            found, whole = lost_pages(self.target, chosen, EMPTY_SECONDS)
        except EngineError as error:
            self.target.raise_if_stopping("diagnosing", self.target.name)
            return [cannot_tell("pages that were emptied", error.words)]
        findings = [emptied.finding for emptied in found]
        if not whole:
            findings.append(cannot_tell("pages that were emptied", "the time for looking was over"))
        return findings

    def _rights(self) -> list[Finding]:
        try:
            return self.privileges.missing_rights()
        except EngineError as error:
            self.target.raise_if_stopping("diagnosing", self.target.name)
            return [cannot_tell("the rights of the account", error.words)]

    def _sizes(
        self, connection: Connection, findings: list[Finding]
    ) -> tuple[list[Row], dict[int, tuple[float, float]]]:
        try:
            rows = ask(connection, tables_sql(self.target.capabilities.examined_indexes))
        except DBAPIError as error:
            findings += refused(error, "the share of empty space")
            rows = ask(connection, tables_sql(self.target.capabilities.examined_indexes, UNKNOWN))
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
            system = self.catalogs.examine(EXAMINE_SECONDS)
            findings += findings_about_system(system)
            begun = time.monotonic()
            results = self.structure.examine(tables, EXAMINE_SECONDS, deep=False)
            left = EXAMINE_SECONDS - (time.monotonic() - begun)
            if left > 0 and not any(result.fault or result.unknown for result in results):
                # Only comparing every entry with its row shows what an index or a long value lacks.
                results += [result for result in self.structure.examine(tables, left, deep=True) if result.fault]
        except EngineError as error:
            self.target.raise_if_stopping("diagnosing", self.target.name)
            findings.append(cannot_tell("the structure of tables and indexes", error.words))
            return {}
        for result in results:
            by_table.setdefault(result.part.table, []).append(result)
        reasons = sorted({result.unknown for result in [*system, *results] if result.unknown})
        for reason in reasons:
            findings.append(cannot_tell("the structure of tables and indexes", reason))
        return by_table
