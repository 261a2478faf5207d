"""Pages of tables that were overwritten with zeros: the server takes them for new ones and says nothing.

Neither a count nor a dump nor amcheck nor checksums tell. A page of zeros alone may be what a crash left of a table
that was growing; but where an index still points into it there were rows. Needs a superuser, and pageinspect.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance.engines.messages import Message, msg
from maintenance.engines.values import Finding

from ..driver_errors import lost
from ..relations import Relation
from ..sql import ask, canonical, configure
from ..structure import Part, extension, together
from ..target import TargetDatabase

AT_ONCE = 5000, 256_000_000
"""Tables in one statement, and their bytes: half a second of looking."""


HEAPS = """
SELECT t.oid, c.oid, pg_relation_size(c.oid) FROM pg_class t JOIN pg_class c ON c.oid IN (t.oid, t.reltoastrelid)
WHERE t.oid = ANY(%(oids)s::oid[]) ORDER BY 3
"""
"""Tables, and where their long values lie (TOAST): small ones first."""

PAGE_NUMBER = """
SELECT format_type(p.proargtypes[1], NULL) FROM pg_proc p
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'pageinspect' AND p.proname = 'bt_page_items' AND p.pronargs = 2
"""
"""How pageinspect numbers pages: it was int before its version 1.9. Called with any other type, a function of somebody
else in the same schema might fit better."""


@dataclass(frozen=True)
class LostPages:
    """Empty pages of one table, and how many entries of the index point into each."""

    table: str
    index: str
    entries: dict[int, int]

    @property
    def words(self) -> Message:
        return msg(
            "{count} entries of index {index} point into empty pages ({pages}): their rows are silently absent",
            count=sum(self.entries.values()),
            index=self.index,
            pages=", ".join(str(page) for page in list(self.entries)[:10]),
        )

    @property
    def finding(self) -> Finding:
        hint = msg(
            "Storage lost what was written; the rows must come from an older backup, and until the index is built anew "
            "it still holds their keys (bt_page_items of pageinspect)"
        )
        return Finding("lost_pages", "critical", self.table, self.words, hint)


def lost_pages(target: TargetDatabase, relations: Sequence[Relation], seconds: float) -> tuple[list[LostPages], bool]:
    """Return what was found, small tables first, and whether there was time for all.

    Nothing more where pageinspect is not to be had, or at a page that cannot be read: other checks tell of that.
    """
    found: list[LostPages] = []
    until = time.monotonic() + seconds
    names = {relation.oid: relation.name for relation in relations}
    with target.session("looking for empty pages of", settings={"client_min_messages": "error"}) as connection:
        heaps = ask(connection, HEAPS, oids=list(names))
        parts = [Part(names[table], None, oid, int(size or 0)) for table, oid, size in heaps]
        ask(connection, "BEGIN")
        try:
            schema = extension(connection, "pageinspect", target.tag.suffix)
            number = ask(connection, PAGE_NUMBER)[0][0]
            for group in together(parts, *AT_ONCE):
                found += _lost_of(target, connection, schema, number, group, until)
        except DBAPIError as error:
            if lost(error.orig):
                raise
            return found, getattr(error.orig, "pgcode", None) != "57014"
        finally:
            with suppress(DBAPIError):
                ask(connection, "ROLLBACK")
    return found, True


def _lost_of(
    target: TargetDatabase, connection: Connection, schema: str, number: str, group: Sequence[Part], until: float
) -> Iterator[LostPages]:
    """An entry is made after the page it points into, so what is empty still afterwards was so all the time."""
    names = {part.oid: part.table for part in group}
    for oid, index_schema, index, pages in _empty(target, connection, schema, number, list(names), until):
        name = canonical(index_schema, index)
        entries = "unnest(coalesce(i.tids, ARRAY[i.htid]))" if target.capabilities.index_tids else "i.ctid"
        rows = ask(
            connection,
            f"""WITH entries AS (SELECT ({entries})::text::point AS tid
                  FROM generate_series(1, pg_relation_size(%(index)s) / current_setting('block_size')::int - 1) b,
                    LATERAL {schema}.bt_page_stats(%(index)s::text, b::{number}) s,
                    LATERAL {schema}.bt_page_items(%(index)s::text, b::{number}) i
                  WHERE s.type = 'l' AND NOT (s.btpo_next <> 0 AND i.itemoffset = 1))
                SELECT tid[0]::int, count(*) FROM entries WHERE tid[0]::int = ANY(%(pages)s)
                GROUP BY 1 ORDER BY 1""",
            index=name,
            pages=pages,
        )
        still = {page for *_, empty in _empty(target, connection, schema, number, [oid], until) for page in empty}
        if known := {int(page): int(count) for page, count in rows if page in still}:
            yield LostPages(names[oid], name, known)


def _empty(
    target: TargetDatabase, connection: Connection, schema: str, number: str, oids: list[int], until: float
) -> list[tuple[int, str, str, list[int]]]:
    """Return (table, schema and name of its smallest b-tree over all rows, empty pages): only tables that have both."""
    target.raise_if_stopping("looking for empty pages of", target.name)
    left = max(1, int((until - time.monotonic()) * 1000))
    configure(connection, {"statement_timeout": left}, local=True)
    rows = ask(
        connection,
        f"""SELECT o, n.nspname, x.relname, array_agg(b::int) FROM unnest(%(oids)s::oid[]) o,
              LATERAL (SELECT i.relname, i.relnamespace FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
                WHERE x.indrelid = o AND x.indisvalid AND x.indpred IS NULL
                  AND i.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
                ORDER BY i.relpages, i.oid LIMIT 1) x JOIN pg_namespace n ON n.oid = x.relnamespace,
              LATERAL generate_series(0, pg_relation_size(o) / current_setting('block_size')::int - 1) b
            WHERE ({schema}.page_header({schema}.get_raw_page(o::regclass::text, b::{number}))).upper = 0
            GROUP BY 1, 2, 3""",
        oids=oids,
    )
    return [(int(oid), str(space), str(index), list(pages)) for oid, space, index, pages in rows]
