"""Structural checks, constraints and counters."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Damaged, EngineError, Interrupted, ResourceShortage, Transient, Unreachable
from ..messages import msg
from ..parts import Verifier
from ..values import Check, Fingerprint
from . import structure
from .connection import Row, Session
from .definitions import catalog
from .encryption import encryption, tls
from .fingerprints import bits_of, fingerprint
from .names import canonical, full, quoted
from .repair.corruption import unreadable_tables
from .structure import Table
from .target import Server

EXTENDED_BYTES = 64_000_000
"""CHECK EXTENDED costs eight to ten times the plain one: only for tables up to this size."""
CHECK_ATTEMPTS = 3


class ServerVerifier(Verifier):
    """Structural checks, fingerprints, definitions, encryption."""

    def __init__(self, server: Server) -> None:
        self.server = server

    @property
    def harms_damaged_tables(self) -> bool:
        """See Verifier.harms_damaged_tables."""
        return self.server.capabilities.harms_damaged_tables

    def check(self, tables: Sequence[str] | None, thorough: bool = True) -> list[Check]:
        """See Verifier.check. Serial: two CHECK EXTENDED beside each other are slower than one after the other."""
        with self.server.session("listing tables of") as session:
            chosen = structure.chosen(structure.tables(session, self.server.schema), tables)
            size = structure.sizes(self.server, session, chosen, self.server.schema)
            keys = [
                key
                for key in structure.foreign_keys(self.server, session, self.server.schema)
                if key.schema == self.server.schema
            ]
        spared = unreadable_tables(self.server)
        results = [
            Check("structure", canonical(one.name), False, spared[one.name]) for one in chosen if one.name in spared
        ]
        for table in chosen:
            if table.name in spared:
                continue
            results.append(_structure_check(self.server, table, thorough and size[table.name].bytes <= EXTENDED_BYTES))
            if (
                thorough
                and not self.server.capabilities.check_compares_indexes
                and table.transactional
                and results[-1].passed
            ):
                results += index_checks(self.server, table)
        names = {table.name for table in chosen}
        sound = {result.object for result in results if result.passed}
        for key in keys if thorough else []:
            if key.table in names and canonical(key.table) in sound and key.to_table not in spared:
                results.append(_orphan_check(self.server, key))
        for table in chosen:
            if canonical(table.name) in sound:
                results += _counter_check(self.server, table)
        return results

    def fingerprint(self, tables: Sequence[str] | None, side: str | None = None) -> dict[str, Fingerprint]:
        """See Verifier.fingerprint."""
        return fingerprint(self.server, tables, side)

    def definitions(self, side: str | None = None) -> dict[str, str]:
        """See Verifier.definitions."""
        return catalog(self.server, side)

    def encryption(self, side: str | None = None) -> dict[str, list[str]]:
        """See Verifier.encryption."""
        return encryption(self.server, side)

    def tls(self) -> dict[str, list[str]]:
        """See Verifier.tls."""
        return tls(self.server)


def _structure_check(server: Server, table: Table, extended: bool) -> Check:
    name = canonical(table.name)
    try:
        words = check_table(server, table, extended=server.capabilities.check_compares_indexes and extended)
    except (Interrupted, Transient, Unreachable, ResourceShortage):
        raise
    except EngineError as error:
        return Check("structure", name, False, error.words)
    return Check("structure", name, True, words)


def check_table(server: Server, table: Table, extended: bool) -> str:
    """CHECK TABLE; its notes. Raises Damaged with the server's words when it found something.

    A CHECK that somebody kills answers "OK": asked again when anybody was killed meanwhile, and not
    believed when that goes on.
    """
    name = canonical(table.name)
    depth = "EXTENDED" if extended and table.transactional else "MEDIUM"
    for _ in range(CHECK_ATTEMPTS):
        with server.session("checking", name, limited=False) as session:
            before = _kill_counters(session)
            rows = server.admin(session, f"CHECK TABLE {full(server.schema, table.name)} {depth}")
            undisturbed = _kill_counters(session) == before
            if any(_unsupported(row) for row in rows):
                return "the storage engine has no check"
            notes = server.accept(rows, "checking", name)
        if any("clients are using" not in note for note in notes):
            raise Damaged("checking", name, "; ".join(notes))
        if undisturbed:
            return f"CHECK TABLE {depth}: OK"
    raise Transient("checking", name, "sessions were killed during the check, so its answer proves nothing")


def _unsupported(row: Row) -> bool:
    return row[2] == "note" and "doesn't support" in str(row[3])


def _kill_counters(session: Session) -> dict[str, str]:
    names = "'Com_kill', 'Max_statement_time_exceeded', 'Max_execution_time_exceeded'"
    rows = session.ask(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})")
    return {str(name): str(value) for name, value in rows}


def index_checks(server: Server, table: Table) -> list[Check]:
    """Index entries against rows, by the same sum over the same columns: where CHECK does not compare them."""
    name = canonical(table.name)
    results = []
    hidden = server.capabilities.see_hidden_indexes
    with server.session("comparing the indexes of", name) as session:
        types = {column.name: column for column in structure.columns(session, server.schema, table.name)}
        for index in structure.indexes(session, server.schema, table.name):
            whole = [types[column] for column in index.columns if column is not None]
            if index.name == "PRIMARY" or index.kind != "BTREE" or index.prefix or None in index.columns:
                continue
            row = f"CONCAT({', '.join(bits_of(column) for column in whole)})"
            sums = [
                session.ask(
                    f"SELECT {hidden} COUNT(*), SUM(CRC32({row})), SUM(CRC32(REVERSE({row})))"
                    f" FROM {full(server.schema, table.name)} {hint}"
                )[0]
                for hint in ("USE INDEX ()", f"FORCE INDEX ({quoted(index.name)})")
            ]
            detail = (
                "" if sums[0] == sums[1] else msg("index {index} holds other values than the rows", index=index.name)
            )
            results.append(Check("index", name, sums[0] == sums[1], detail))
    return results


def _orphan_check(server: Server, key: structure.ForeignKey) -> Check:
    """Neither CHECK nor a rebuild finds a row without its parent."""
    name = f"{canonical(key.table)}.{key.name}"
    joined = " AND ".join(
        f"c.{quoted(own)} = p.{quoted(other)}" for own, other in zip(key.columns, key.to_columns, strict=True)
    )
    given = " AND ".join(f"c.{quoted(column)} IS NOT NULL" for column in key.columns)
    try:
        with server.session("looking for orphans in", name) as session:
            orphans = session.value(
                f"SELECT COUNT(*) FROM {full(key.schema, key.table)} c LEFT JOIN {full(key.to_schema, key.to_table)} p"
                f" ON {joined} WHERE {given} AND p.{quoted(key.to_columns[0])} IS NULL"
            )
    except Damaged as error:
        return Check("foreign key", name, False, error.words, of_rows=True)
    return Check(
        "foreign key",
        name,
        orphans == 0,
        msg("{count} rows have no parent", count=orphans) if orphans else "",
        of_rows=True,
    )


def _counter_check(server: Server, table: Table) -> list[Check]:
    """AUTO_INCREMENT must be beyond the largest value; a counter behind gives duplicate keys."""
    name = canonical(table.name)
    try:
        with server.session("comparing the counter of", name) as session:
            counted = [c for c in structure.columns(session, server.schema, table.name) if "AUTO_INCREMENT" in c.extra]
            if not counted:
                return []
            following = session.value(
                "SELECT auto_increment FROM information_schema.tables"
                " WHERE table_schema = %(s)s AND table_name = %(t)s",
                s=server.schema,
                t=table.name,
            )
            largest = session.value(f"SELECT MAX({quoted(counted[0].name)}) FROM {full(server.schema, table.name)}")
    except Damaged as error:
        return [Check("counter", name, False, error.words)]
    behind = following is not None and largest is not None and int(following) <= int(largest)
    detail = msg("AUTO_INCREMENT is {following}, largest value {largest}", following=following, largest=largest)
    return [Check("counter", name, not behind, detail)]
