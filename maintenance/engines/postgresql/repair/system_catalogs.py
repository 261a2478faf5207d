"""The system catalogs: what is damaged in the server's own tables, and what of it can be made anew.

An index is built anew from its table, and statistics are taken anew; any other row of a catalog is nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from maintenance.engines.errors import Damaged
from maintenance.engines.messages import msg
from maintenance.engines.values import Action, Diagnosis, Finding, Performed

from ..relations import Relation
from ..sql import ask, canonical, configure, quoted
from ..structure import Examined, Part, Structure
from ..target import TargetDatabase

STATISTICS = ("pg_catalog.pg_statistic", "pg_catalog.pg_statistic_ext_data")
CATALOGS = """
SELECT c.oid, n.nspname, c.relname, 0 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname = 'pg_catalog'
"""
LYING_IN = """
SELECT c.oid, n.nspname, coalesce(t.relname, c.relname), CASE WHEN t.oid IS NOT NULL THEN c.relname END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index x ON x.indexrelid = c.oid
LEFT JOIN pg_class t ON t.oid = x.indrelid
WHERE n.nspname IN ('pg_catalog', 'pg_toast') AND pg_relation_filepath(c.oid) = %(path)s
"""
FILE = re.compile(r"\b(?:base/\d+|global|pg_tblspc/\d+/PG_[^/\s]+/\d+)/\d+\b")
WITHOUT_INDEXES = "-c ignore_system_indexes=on"


class SystemCatalogs:
    """Examines and mends catalogs."""

    def __init__(self, target: TargetDatabase, structure: Structure) -> None:
        self.target, self.structure = target, structure

    def examine(self, seconds: float) -> list[Examined]:
        """As `Structure.examine`, of the catalogs: some megabytes even where there are 10,000 tables.

        Where a damaged index is in the way of looking, its use is forbidden, which takes longer; where the damage is
        still in the way the server's words name its file.
        """
        with self.target.session("looking for system catalogs") as connection:
            catalogs = [Relation(*row) for row in ask(connection, CATALOGS)]
        results = self.structure.examine_these(catalogs, seconds)
        if any(path_in(result.unknown) for result in results):
            results = self.structure.examine_these(catalogs, seconds, options=WITHOUT_INDEXES)
        named = self._named(sorted({str(result.unknown) for result in results if path_in(result.unknown)}))
        words = {result.fault for result in named}
        return [result for result in results if not result.unknown or result.unknown not in words] + named

    def _named(self, faults: Sequence[str]) -> list[Examined]:
        """Return the parts whose files these words name."""
        if not faults:
            return []
        with self.target.session("looking for system catalogs", options=WITHOUT_INDEXES) as connection:
            rows = [(words, *row) for words in faults for row in ask(connection, LYING_IN, path=path_in(words))]
        return [
            Examined(Part(canonical(schema, table), canonical(schema, index) if index else None, oid, 0), fault=words)
            for words, oid, schema, table, index in rows
        ]

    def rebuild_indexes(self, action: Action) -> Performed:
        """The session that does it uses none of them."""
        with self.target.session("building the indexes anew of", action.object, options=WITHOUT_INDEXES) as connection:
            configure(connection, {"maintenance_work_mem": "64MB"})
            ask(connection, f"REINDEX SYSTEM {quoted(self.target.place())}")
        self._must_be_whole(action)
        return Performed(msg("Built the indexes of the system catalogs anew"), None, None)

    def renew_statistics(self, action: Action) -> Performed:
        """Nothing but the planner's figures is in these tables, so they are emptied, and taken anew of every table."""
        with self.target.session("taking new statistics of", action.object) as connection:
            configure(connection, {"allow_system_table_mods": "on"})
            ask(connection, f"TRUNCATE {', '.join(STATISTICS)}")
            configure(connection, {"allow_system_table_mods": "off"})
            ask(connection, "ANALYZE")
        self._must_be_whole(action)
        return Performed(msg("Emptied the damaged statistics, and took new ones of every table"), None, None)

    def _must_be_whole(self, action: Action) -> None:
        mended = {"rebuild_system_indexes": "damaged_system_index", "renew_statistics": "damaged_statistics"}
        for finding in findings_about_system(self.examine(600)):
            if finding.code == mended[action.kind]:
                raise Damaged("examining", finding.object, finding.evidence)


def path_in(words: str | None) -> str | None:
    """Return the file of a relation that the server's words name, in whatever language; the catalog says whose."""
    found = FILE.search(words or "")
    return found.group() if found else None


def findings_about_system(examined: Sequence[Examined]) -> list[Finding]:
    found: list[Finding] = []
    for result in examined:
        if not result.fault:
            continue
        name, evidence = result.part.index or result.part.table, msg("{fault}", fault=result.fault)
        if result.part.index:
            hint = msg("Queries of the server itself fail or miss rows; building its indexes anew loses nothing")
            found.append(Finding("damaged_system_index", "critical", name, evidence, hint))
        elif name in STATISTICS:
            hint = msg("Planning of queries fails; the statistics are not data, and can be taken anew")
            found.append(Finding("damaged_statistics", "high", name, evidence, hint))
        else:
            hint = msg(
                "No statement can mend it: dump table by table what can be dumped, keep a copy of the stopped server's "
                "folder, and restore the newest good backup"
            )
            found.append(Finding("damaged_system_table", "critical", name, evidence, hint))
    return found


def mends_of_system(diagnosis: Diagnosis) -> list[Action]:
    """Alone, and before anything else: all other work needs the catalogs."""
    reasons = {
        "damaged_system_index": ("rebuild_system_indexes", msg("Indexes of the system catalogs are damaged")),
        "damaged_statistics": ("renew_statistics", msg("The planner's statistics are damaged")),
    }
    codes = {finding.code for finding in diagnosis.findings}
    return [
        Action(
            object="pg_catalog",
            kind=kind,
            reason=reason,
            lock=msg("queries may wait meanwhile"),
            bytes=0,
            disk_bytes=0,
            stage=stage,
        )
        for stage, (code, (kind, reason)) in enumerate(reasons.items(), start=-len(reasons))
        if code in codes
    ]
