"""Salvage of a damaged table, in place: its name, rights, views and foreign keys stay.

1. Find pages that cannot be read and items that contradict themselves, bisecting with verify_heapam, and save
   what can be read of such pages into a side table, which also keeps the list of what to do next: one transaction.
2. Free items with a wrong transaction number, remove those that cannot be read and those that were saved
   (pg_surgery). This is not undone by a rollback, so it only follows the list that is committed.
3. Rewrite the table, unreadable pages as empty.
4. Put the saved rows back and drop the side table, in one transaction.

The side table knows in which file the table lay, so a second run begins where the first was broken off.
Needs version 14, a superuser, and the contrib modules amcheck and pg_surgery.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance.engines.errors import Damaged, Unable
from maintenance.engines.messages import msg
from maintenance.engines.values import Action, Loss, Performed

from ..driver_errors import lost
from ..fingerprints import PINNED
from ..identity import claim_in
from ..least_account import OWNER, ask_as, insert_as, lend, names_unknown, run_as, usual_path
from ..own_schemas import mark_schema, own_schemas
from ..relations import Relation, relations
from ..sql import Row, ask, configure, literal, quoted, transaction, words_of
from ..structure import Structure, drop_extension, extension
from ..target import TargetDatabase
from .lost_pages import lost_pages

MOST_ITEMS = 291
"""No page of 8 kB holds more rows."""
FREEZABLE = re.compile(r"^(xmin|xmax|multitransaction)")
"""How amcheck begins what it says of transaction numbers; it gives no code, and contrib modules are not translated."""


@dataclass
class Faults:
    """What is wrong in one table. `pages`: unreadable page -> the server's words; `items`: (page, item, words)."""

    pages: dict[int, str] = field(default_factory=dict)
    items: list[tuple[int, int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Saved:
    """What the side table says about itself. Items are (page, item)."""

    node: int
    pages: list[int]
    freeze: list[list[int]]
    kill: list[list[int]]
    rows_lost: int | None
    words: str
    cut_off: int = 0
    """Pages that the catalog knows and the file has no more."""


class Salvage:
    """Gets out of a damaged table what can be read."""

    def __init__(self, target: TargetDatabase, structure: Structure) -> None:
        self.target, self.structure = target, structure

    def perform(self, action: Action) -> Performed:
        """Save what can be read, remove what cannot, put the saved rows back. Raises Unable, Damaged."""
        if not self.target.capabilities.heap_check:
            raise Unable("salvaging", action.object, "that needs PostgreSQL 14 or later")
        with self.target.session("salvaging", action.object) as connection:
            found = relations(connection, [action.object])
            if not found:
                raise Unable("salvaging", action.object, "there is no such table any more")
            relation = found[0]
            if relation.is_view:
                return self._fill_anew(connection, action, relation)
            node = int(ask(connection, "SELECT pg_relation_filenode(%(oid)s::regclass)", oid=relation.oid)[0][0])
            saved = self._read_saved(connection, relation)
        if saved is None:
            saved = self._save(relation, node)
        if saved.node == node:
            self._operate(relation, saved)
            self._rewrite(relation)
        self._put_back(relation)
        rows, after = self._verify(relation)
        losses: tuple[Loss, ...] = ()
        if saved.pages or saved.cut_off:
            losses = (Loss(action.object, saved.rows_lost, tuple(saved.pages), msg("{words}", words=saved.words)),)
        return Performed(
            msg(
                "Salvaged {table}: {rows:,} rows are there, {pages} pages were damaged",
                table=action.object,
                rows=rows,
                pages=len(saved.pages) + saved.cut_off,
            ),
            relation.bytes,
            after,
            losses,
        )

    def _fill_anew(self, connection: Connection, action: Action, view: Relation) -> Performed:
        """Run the query of a materialized view again, which the server does in its owner's name."""
        statement = f"REFRESH MATERIALIZED VIEW {view.name}"
        try:
            ask(connection, statement)
        except DBAPIError as error:
            if not names_unknown(error):
                raise
            configure(connection, {"search_path": f"pg_catalog, {usual_path(connection)}, pg_temp"})
            ask(connection, statement)
        _, after = self._verify(view)
        loss = Loss(action.object, None, (), msg("filled anew from its query; what it held before is lost"))
        return Performed(msg("Filled {view} anew from its query", view=action.object), view.bytes, after, (loss,))

    # -- 1 find and save ------------------------------------------------------------------------------------

    def _find(self, connection: Connection, schema: str, relation: Relation) -> Faults:
        faults = Faults()
        [(pages,)] = ask(
            connection,
            "SELECT pg_relation_size(%(oid)s::regclass) / current_setting('block_size')::int",
            oid=relation.oid,
        )
        if pages:
            self._bisect(connection, schema, relation, 0, int(pages) - 1, faults)
        return faults

    def _bisect(
        self, connection: Connection, schema: str, relation: Relation, first: int, last: int, faults: Faults
    ) -> None:
        self.target.raise_if_stopping("salvaging", relation.name)
        try:
            rows = self._verified(connection, schema, relation, first, last)
        except DBAPIError as error:
            ask(connection, "ROLLBACK TO piece")
            if getattr(error.orig, "pgcode", None) == "57014":
                raise
            if first == last:
                faults.pages[first] = words_of(error)
                return
            middle = (first + last) // 2
            self._bisect(connection, schema, relation, first, middle, faults)
            self._bisect(connection, schema, relation, middle + 1, last, faults)
            return
        faults.items += [(int(page), int(item), str(words)) for page, item, words in rows if item is not None]

    def _verified(
        self, connection: Connection, schema: str, relation: Relation, first: int, last: int, toast: bool = True
    ) -> list[Row]:
        ask(connection, "SAVEPOINT piece")
        rows = ask(
            connection,
            f"""SELECT blkno, offnum, msg FROM {schema}.verify_heapam(%(oid)s::regclass, false, %(toast)s, 'none'::text,
                  %(first)s::bigint, %(last)s::bigint)""",
            oid=relation.oid,
            toast=toast,
            first=first,
            last=last,
        )
        ask(connection, "RELEASE piece")
        return rows

    def _side(self, relation: Relation) -> tuple[str, str]:
        schema = quoted(f"{self.target.tag.suffix}_salvage")
        return schema, f"{schema}.rows_of_{relation.oid}"

    @contextmanager
    def _lent(self, connection: Connection, relation: Relation) -> Iterator[None]:
        """A transaction in which the table is read in its reader's name."""
        if relation.reader is not None:
            lend(connection, relation.reader)
        with transaction(connection):
            yield

    def _must_be_ours(self, connection: Connection, relation: Relation) -> None:
        """Raise Unable where the schema of the side table is not provably ours: whoever made it could write into it
        what he wants done to the table."""
        name = f"{self.target.tag.suffix}_salvage"
        rows = ask(
            connection, "SELECT oid, pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %(name)s", name=name
        )
        if rows and int(rows[0][0]) not in own_schemas(connection, self.target.tag):
            raise Unable(
                "salvaging",
                relation.name,
                msg("schema {schema} belongs to {owner}", schema=self._side(relation)[0], owner=rows[0][1]),
            )

    def _read_saved(self, connection: Connection, relation: Relation) -> Saved | None:
        """Return what an earlier attempt wrote. Raises Unable where it is not signed for this very side table."""
        self._must_be_ours(connection, relation)
        _, side = self._side(relation)
        rows = ask(
            connection,
            """SELECT c.oid, obj_description(c.oid, 'pg_class') FROM pg_class c
               WHERE c.oid = to_regclass(%(side)s)""",
            side=side,
        )
        if not rows:
            return None
        note = claim_in(rows[0][1])
        if note is None or not self.target.tag.signer.is_signed(note, f"postgresql table {rows[0][0]}"):
            raise Unable("salvaging", relation.name, msg("{table} bears no mark of ours", table=side))
        return Saved(**note["saved"])

    def _note(self, connection: Connection, side: str, saved: Saved) -> None:
        """Write what to do into the comment of the side table, signed for it."""
        [(oid,)] = ask(connection, "SELECT to_regclass(%(side)s)::oid", side=side)
        note = self.target.tag.signer.signed({"dbmaint": 1, "saved": asdict(saved)}, f"postgresql table {oid}")
        ask(connection, f"COMMENT ON TABLE {side} IS {literal(connection, json.dumps(note))}")

    def _save(self, relation: Relation, node: int) -> Saved:
        """One transaction: after a crash there is a whole side table or none."""
        schema, side = self._side(relation)
        emptied, _ = lost_pages(self.target, [relation], 3600)
        settings = {**PINNED, "ignore_checksum_failure": "off", "client_min_messages": "error"}
        with (
            self.target.session("saving rows of", relation.name, settings=settings) as connection,
            self._lent(connection, relation),
        ):
            amcheck = extension(connection, "amcheck", self.target.tag.suffix)
            faults = self._find(connection, amcheck, relation)
            self._must_be_ours(connection, relation)
            if not ask(connection, "SELECT 1 WHERE to_regnamespace(%(schema)s) IS NOT NULL", schema=schema):
                ask(connection, f"CREATE SCHEMA {schema}")
                mark_schema(connection, self.target.tag, f"{self.target.tag.suffix}_salvage")
            ask(connection, f"DROP TABLE IF EXISTS {side}")
            ask(connection, f"CREATE TABLE {side} (LIKE {relation.name})")
            rescued, unreadable = self._save_pages(connection, amcheck, relation, side, faults)
            drop_extension(connection, "amcheck", self.target.tag.suffix)
            freeze = {(page, item) for page, item, words in faults.items if FREEZABLE.match(words)}
            kill = {(page, item) for page, item, words in faults.items} - freeze
            cut_off, counted = self._cut_off(connection, relation)
            words = self._tell(connection, relation, faults, len(rescued))
            if cut_off:
                gone = f"the last {cut_off} pages are missing with their file; the catalog counted about {counted} rows"
                words = "; ".join(part for part in (words, gone) if part)
            words = "; ".join([*filter(None, [words]), *(str(found.words) for found in emptied)])
            saved = Saved(
                node=node,
                pages=sorted(
                    {
                        *faults.pages,
                        *(page for page, _, _ in faults.items),
                        *(page for found in emptied for page in found.entries),
                    }
                ),
                freeze=sorted(list(item) for item in freeze),
                kill=sorted(list(item) for item in kill | set(rescued)),
                rows_lost=None if unreadable or cut_off or emptied else len(kill),
                words=words,
                cut_off=cut_off,
            )
            self._note(connection, side, saved)
        self.target.look_again_for_schemas()
        return saved

    def _cut_off(self, connection: Connection, relation: Relation) -> tuple[int, int]:
        """Return pages that the file has no more (a missing segment hides all that follow it), and rows counted
        before."""
        [(missing, rows)] = ask(
            connection,
            """SELECT CASE relpersistence WHEN 'p'
                   THEN greatest(0, relpages - pg_relation_size(oid) / current_setting('block_size')::int) ELSE 0 END,
                 greatest(0, reltuples)::bigint FROM pg_class WHERE oid = %(oid)s""",
            oid=relation.oid,
        )
        return int(missing), int(rows)

    def _save_pages(
        self, connection: Connection, amcheck: str, relation: Relation, side: str, faults: Faults
    ) -> tuple[list[tuple[int, int]], bool]:
        """Return items saved from pages whose checksum alone is wrong; and whether anything of them stayed
        unreadable."""
        rescued: list[tuple[int, int]] = []
        unreadable = False
        if not faults.pages:
            return rescued, unreadable
        columns = self._columns(connection, relation)
        # From here on wrong checksums are looked over, in this transaction only and under the cut.
        ask(connection, "SET LOCAL ignore_checksum_failure = on")
        for page in faults.pages:
            try:
                flagged = {
                    int(item) for _, item, _ in self._verified(connection, amcheck, relation, page, page) if item
                }
            except DBAPIError as error:
                if lost(error.orig):
                    raise
                ask(connection, "ROLLBACK TO piece")
                if self._is_sound(connection, amcheck, relation, page):
                    rescued += self._save_without_long(connection, relation, side, columns, page, faults)
                else:
                    unreadable = True
                continue
            unreadable = unreadable or bool(flagged)
            # Once looked over, the page counts as good in the server's memory: what is faulty must go as well.
            faults.items += [(page, item, "on a page whose checksum is wrong") for item in flagged]
            for item in range(1, MOST_ITEMS + 1):
                if item not in flagged:
                    count = self._save_row(connection, relation, side, columns, page, item)
                    unreadable = unreadable or count is None
                    if count:
                        rescued.append((page, item))
        ask(connection, "SET LOCAL ignore_checksum_failure = off")
        return rescued, unreadable

    def _is_sound(self, connection: Connection, amcheck: str, relation: Relation, page: int) -> bool:
        """Return whether only the long values of its rows, which lie elsewhere, are in the way."""
        try:
            return not self._verified(connection, amcheck, relation, page, page, toast=False)
        except DBAPIError as error:
            if lost(error.orig):
                raise
            ask(connection, "ROLLBACK TO piece")
            return False

    def _save_without_long(
        self, connection: Connection, relation: Relation, side: str, columns: str, page: int, faults: Faults
    ) -> list[tuple[int, int]]:
        """Return items saved from a sound page; those whose long values cannot be read are faults."""
        saved: list[tuple[int, int]] = []
        for item in range(1, MOST_ITEMS + 1):
            count = self._save_row(connection, relation, side, columns, page, item)
            if count:
                saved.append((page, item))
            elif count is None:
                faults.items.append((page, item, "its long values cannot be read"))
        return saved

    def _save_row(
        self, connection: Connection, relation: Relation, side: str, columns: str, page: int, item: int
    ) -> int | None:
        """Return 1 or 0 rows; None when the row cannot be read."""
        ask(connection, "SAVEPOINT row_read")
        try:
            rows = insert_as(
                connection,
                relation.reader,
                f"{side} ({columns})",
                self._columns(connection, relation, typed=True),
                f"SELECT {columns} FROM ONLY {relation.name} WHERE ctid = '({int(page)},{int(item)})'::tid",
            )
        except DBAPIError as error:
            if lost(error.orig):
                raise
            ask(connection, "ROLLBACK TO row_read")
            return None
        ask(connection, "RELEASE row_read")
        return len(rows)

    # -- 2 operate ---------------------------------------------------------------------------------

    def _operate(self, relation: Relation, saved: Saved) -> None:
        """Only what the committed list says, so that a second run loses nothing. Done twice it does nothing."""
        if not saved.freeze and not saved.kill:
            return
        settings = {"ignore_checksum_failure": "on", "client_min_messages": "error"}
        with (
            self.target.session("removing unreadable rows of", relation.name, settings=settings) as connection,
            transaction(connection),
        ):
            surgery = extension(connection, "pg_surgery", self.target.tag.suffix)
            for function, items in (("heap_force_freeze", saved.freeze), ("heap_force_kill", saved.kill)):
                tids = [f"({page},{item})" for page, item in items]
                if tids:
                    ask(
                        connection,
                        f"SELECT {surgery}.{function}(%(oid)s::regclass, %(tids)s::tid[])",
                        oid=relation.oid,
                        tids=tids,
                    )
            drop_extension(connection, "pg_surgery", self.target.tag.suffix)

    def _tell(self, connection: Connection, relation: Relation, faults: Faults, readable: int) -> str:
        parts = [f"page {page}: {words}" for page, words in sorted(faults.pages.items())[:5]]
        parts += [f"page {page}, item {item}: {words}" for page, item, words in faults.items[:5]]
        if faults.pages:
            parts.append(f"{readable} rows of these pages could still be read; take them as suspect")
            rows = ask(connection, "SELECT n_live_tup FROM pg_stat_all_tables WHERE relid = %(oid)s", oid=relation.oid)
            if rows and rows[0][0]:
                parts.append(f"the statistics counted about {rows[0][0]} rows in the table before")
        return "; ".join(parts)

    def _columns(self, connection: Connection, relation: Relation, typed: bool = False) -> str:
        rows = ask(
            connection,
            """SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
               WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum""",
            oid=relation.oid,
        )
        return ", ".join(f"{quoted(name)} {kind}" if typed else quoted(name) for name, kind in rows)

    # -- 3 rewrite, 4 put back ---------------------------------------------------------------------

    def _rewrite(self, relation: Relation) -> None:
        settings: dict[str, object] = {"zero_damaged_pages": "on", "client_min_messages": "error"}
        with self.target.session("rewriting", relation.name, settings=settings) as connection:
            ask(connection, f"VACUUM (FULL) {relation.name}")

    def _put_back(self, relation: Relation) -> None:
        schema, side = self._side(relation)
        with self.target.session("putting rows back into", relation.name) as connection:
            if not ask(connection, "SELECT 1 WHERE to_regclass(%(side)s) IS NOT NULL", side=side):
                return
            columns = self._columns(connection, relation)
            # Constraints, generated columns and triggers that always fire are the owner's code.
            [(owner,)] = ask(connection, f"SELECT {OWNER} FROM pg_class c WHERE c.oid = %(oid)s", oid=relation.oid)
            if owner is not None:
                lend(connection, owner)
            with transaction(connection):
                if owner is not None:
                    ask(connection, f"GRANT USAGE ON SCHEMA {schema} TO {quoted(owner)}")
                    ask(connection, f"GRANT SELECT ON {side} TO {quoted(owner)}")
                # Triggers would do a second time what they did when the rows were written.
                ask(connection, "SET LOCAL session_replication_role = replica")
                if columns:
                    run_as(
                        connection,
                        owner,
                        f"INSERT INTO {relation.name} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {side}",
                    )
                ask(connection, f"DROP TABLE {side}")
            with suppress(DBAPIError):
                # Another table's rows may still be in it.
                ask(connection, f"DROP SCHEMA {schema}")
                self.target.look_again_for_schemas()

    def _verify(self, relation: Relation) -> tuple[int, int]:
        faults = [x.fault for x in self.structure.examine([relation.name], 3600, deep=True) if x.fault]
        if faults:
            raise Damaged("salvaging", relation.name, "; ".join(str(fault) for fault in faults))
        with self.target.session("counting", relation.name, settings=PINNED) as connection:
            [(rows,)] = ask_as(connection, relation.reader, "rows bigint", f"SELECT count(*) FROM ONLY {relation.name}")
            [(size,)] = ask(connection, "SELECT pg_total_relation_size(%(oid)s::regclass)", oid=relation.oid)
        return int(rows), int(size)
