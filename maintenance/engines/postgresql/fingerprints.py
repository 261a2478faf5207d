"""What proves that nothing was lost: a fingerprint of the rows of each table, and a digest of each definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from ..errors import EngineError, Interrupted
from ..values import Fingerprint
from .definitions import DEFINITIONS
from .driver_errors import session_lost
from .least_account import ask_as, lend
from .relations import relations
from .sql import ask
from .target import TargetDatabase

PINNED: dict[str, object] = {
    "DateStyle": "ISO, YMD",
    "TimeZone": "UTC",
    "extra_float_digits": 1,
    "bytea_output": "hex",
    "IntervalStyle": "postgres",
    "lc_monetary": "C",
    "enable_indexscan": "off",  # Rows are read from the table, whatever its indexes say.
    "enable_indexonlyscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
}
"""Everything that the text of a row depends on."""

LARGE_OBJECTS = "large objects"
OLDEST_RUNNING = "SELECT (txid_snapshot_xmin(txid_current_snapshot()) % 4294967296)::text"
"""Every transaction before it had ended when the snapshot was taken; as `xid`, without the epoch."""


@dataclass(frozen=True)
class Seen:
    """What a reading found, the oldest transaction that it may not have seen, and how everything was defined."""

    print: Fingerprint
    oldest: str = ""
    definitions: Mapping[str, str] | None = None

    def holds_for(self, definitions: Mapping[str, str]) -> bool:
        return self.print.readable and bool(self.oldest) and self.definitions == definitions


class Fingerprints:
    """Of the target, or of a side copy."""

    def __init__(self, target: TargetDatabase) -> None:
        self.target = target
        self._seen: dict[str, Seen] = {}

    def read(
        self,
        tables: Sequence[str] | None,
        side: str | None = None,
        snapshot: str | None = None,
        definitions: Mapping[str, str] | None = None,
    ) -> dict[str, Fingerprint]:
        """Return the fingerprints of these tables (None: all), of the rows that an exported `snapshot` sees if given.

        A table whose reading ends the server (that happens with damaged values) is told with the server's words. The
        tables that were being read beside it are read again, one at a time. With the `definitions` that were in force
        before, what was read is remembered for `recount`.
        """
        side = self.target.standing(side)
        with self.target.session("looking for tables", database=side) as connection:
            readers = {relation.name: relation.reader for relation in relations(connection)}
            blobs = has_large_objects(connection)
        wanted = list(readers) if tables is None else [name for name in tables if name != LARGE_OBJECTS]
        found = {name: Fingerprint(None, None, "there is no such table") for name in wanted if name not in readers}
        names = [name for name in wanted if name in readers]
        if blobs and (tables is None or LARGE_OBJECTS in tables):
            names.append(LARGE_OBJECTS)
        alone = len(names) == 1
        with ThreadPoolExecutor(max(1, self.target.limits.jobs)) as pool:
            results = dict(
                zip(
                    names,
                    pool.map(lambda name: self._one(name, readers.get(name), side, snapshot, alone), names),
                    strict=True,
                )
            )
        for name in [name for name, result in results.items() if result is None]:
            self.target.await_server()
            again = None if snapshot else self._one(name, readers.get(name), side, snapshot, True)
            if again is None and not snapshot:
                self.target.await_server()
            results[name] = again or Seen(
                Fingerprint(None, None, "the server ended the session while the table was read")
            )
        if definitions is not None:
            self._seen.update({name: replace(seen, definitions=definitions) for name, seen in results.items() if seen})
        return {**found, **{name: seen.print for name, seen in results.items() if seen}}

    def recount(self, tables: Sequence[str] | None) -> dict[str, Fingerprint]:
        """Return fingerprints; a table keeps the one that was read before where no row came, went or changed since.

        That is so when the rows are as many and none has a version of a transaction that the earlier reading may
        not have seen, as long as everything is defined as before it; anything else is read again.
        """
        now = self.definitions()
        with self.target.session("looking for tables") as connection:
            readers = {relation.name: relation.reader for relation in relations(connection)}
        wanted = list(readers) if tables is None else list(tables)
        held = [
            (name, readers[name])
            for name in wanted
            if name in readers and name in self._seen and self._seen[name].holds_for(now)
        ]
        same = dict(self.target.shared(held, self._unchanged, max(1, self.target.limits.jobs)))
        rest = [name for name in wanted if not same.get(name)]
        read = self.read([*rest, LARGE_OBJECTS] if tables is None else rest, definitions=now)
        recounted = {name: replace(self._seen[name].print, recounted=True) for name in wanted if same.get(name)}
        return {**{name: recounted[name] for name in wanted if name in recounted}, **read}

    def _unchanged(self, tables: Sequence[tuple[str, str | None]]) -> list[tuple[str, bool]]:
        found: list[tuple[str, bool]] = []
        try:
            settings = {**PINNED, "max_parallel_workers_per_gather": 0}
            with self.target.session("counting", settings=settings) as connection:
                for name, reader in tables:
                    self.target.raise_if_stopping("counting", name)
                    seen = self._seen[name]
                    [(rows, new)] = ask_as(
                        connection,
                        reader,
                        "rows bigint, new bigint",
                        f"""SELECT count(*), count(*) FILTER (WHERE age(dbmaint_row.xmin) <= horizon)
                            FROM (SELECT age('{int(seen.oldest)}'::xid) AS horizon OFFSET 0) h,
                              ONLY {name} AS dbmaint_row""",
                    )
                    found.append((name, new == 0 and rows == seen.print.rows))
        except EngineError:
            # Whatever it is, the reading of every row meets it too, and knows what it means.
            self.target.raise_if_stopping("counting", tables[len(found)][0])
        return found

    def _one(self, name: str, reader: str | None, side: str | None, snapshot: str | None, alone: bool) -> Seen | None:
        """Return None when the session was lost."""
        settings = {**PINNED, "max_parallel_workers_per_gather": self.target.limits.jobs if alone else 0}
        try:
            with self.target.session("reading", name, database=side, settings=settings) as connection:
                if reader is not None:
                    lend(connection, reader)
                ask(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                if snapshot:
                    [(literal,)] = ask(connection, "SELECT quote_literal(%(snapshot)s)", snapshot=snapshot)
                    ask(connection, "ROLLBACK")
                    ask(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    ask(connection, f"SET TRANSACTION SNAPSHOT {literal}")
                if name == LARGE_OBJECTS:
                    found = large_objects_of(connection)
                else:
                    found = fingerprint_of(connection, name, reader)
                [(oldest,)] = ask(connection, OLDEST_RUNNING)
                ask(connection, "ROLLBACK")
                return Seen(found, str(oldest))
        except Interrupted:
            raise
        except EngineError as error:
            return None if session_lost(error) else Seen(Fingerprint(None, None, error.words))

    def definitions(self, side: str | None = None) -> dict[str, str]:
        """Return object -> digest of its definition; of the side copy when given."""
        side = self.target.standing(side)
        with self.target.session("reading definitions", database=side) as connection:
            return {str(object): str(digest) for object, digest in ask(connection, DEFINITIONS)}


def has_large_objects(connection: Connection) -> bool:
    return bool(ask(connection, "SELECT EXISTS (SELECT 1 FROM pg_largeobject_metadata)")[0][0])


def fingerprint_of(connection: Connection, name: str, reader: str | None) -> Fingerprint:
    """`sum`, not `bit_xor`: that one does not see pairs of equal rows. The text form holds for every type; made by
    `record_out`, because a cast to text may be the owner's own."""
    [(rows, digest)] = ask_as(
        connection,
        reader,
        "rows bigint, digest text",
        f"""SELECT count(*), coalesce(sum(hashtextextended(record_out(dbmaint_row.*)::text, 0)::numeric), 0)::text
            FROM ONLY {name} AS dbmaint_row""",
    )
    return Fingerprint(int(rows), str(digest))


def large_objects_of(connection: Connection) -> Fingerprint:
    """Rows are the objects. To be asked in a transaction: an object is open no longer than that."""
    [(objects, superuser)] = ask(
        connection,
        """SELECT (SELECT count(*) FROM pg_largeobject_metadata),
             has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')""",
    )
    pages = "pg_largeobject" if superuser else PAGES_OF_OWN_OBJECTS
    [(digest,)] = ask(
        connection,
        f"""SELECT coalesce(sum(hashtextextended(loid::text || ':' || pageno::text || ':' || data::text,
               0)::numeric), 0)::text
           FROM {pages}""",
    )
    return Fingerprint(int(objects), str(digest))


def differing(baseline: Mapping[str, Fingerprint], other: Mapping[str, Fingerprint]) -> list[str]:
    """Tables of the baseline that are not proved equal in `other`."""
    return [name for name, mark in baseline.items() if name not in other or not mark.readable or other[name] != mark]


PAGES_OF_OWN_OBJECTS = """
(SELECT oid AS loid, pageno, lo_get(oid, pageno * 2048, 2048) AS data FROM (
   SELECT oid, lo_lseek64(fd, 0, 2) AS bytes, lo_close(fd) FROM (
     SELECT oid, lo_open(oid, 262144) AS fd FROM pg_largeobject_metadata) opened) measured,
   generate_series(0, (bytes + 2047) / 2048 - 1) pageno) pages
"""
"""What a superuser reads from pg_largeobject, for an owner of the objects: 262144 means reading, 2 from the end."""
