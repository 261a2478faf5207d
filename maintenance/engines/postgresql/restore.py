"""Restoring a dump beside the target: into a new database like it, proven against what it was made of.

A restore runs code of the target's owner: functions in CHECK constraints, domains and generated columns, while rows
are loaded. Under a superuser they run as their own owners (SECURITY DEFINER in the copy until the rows are in). Where
such a constraint calls a volatile function of the server itself nothing is restored: a copy by file runs nothing.
"""

from __future__ import annotations

import io
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path

from psycopg2.extensions import make_dsn, parse_dsn
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from .. import archive
from ..archive import ArchiveError, Seal
from ..errors import Damaged, EngineError, ResourceShortage, Unable
from ..messages import Message, listed, msg
from ..values import Backup, Image, RestoreBudget, Restored
from .connection import give_back
from .database_access import access_of, keeps_its_name
from .definitions import FIRST_OWN
from .diagnosis.disk import ROOM, free_bytes
from .dump_limits import SUBSCRIPTIONS
from .fingerprints import Fingerprints, differing
from .native_programs import NativePrograms
from .relations import relations
from .sequences import sequence_values
from .side_databases import SideDatabases
from .sql import ask, is_superuser, literal, quoted
from .target import TargetDatabase

SAMPLE = 1000
"""Rows of each table that are restored where not all are."""
LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}
"""Settings whose stored value is a list of quoted names (GUC_LIST_QUOTE; pg_dump has the same list)."""
SETTINGS = """
SELECT pg_get_userbyid(nullif(s.setrole, 0)), split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c WHERE d.datname = %(name)s
"""
LABELS = """
SELECT l.provider, l.label FROM pg_shseclabel l JOIN pg_database d ON d.oid = l.objoid
WHERE l.classoid = 'pg_database'::regclass AND d.datname = %(name)s
"""

OWNERS_CODE = f"""
SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner
WHERE p.prokind <> 'a' AND NOT p.prosecdef AND NOT r.rolsuper AND p.oid >= {FIRST_OWN}
"""
CALLING = f"""
SELECT k.conname, coalesce(nullif(k.conrelid, 0)::regclass::text, k.contypid::regtype::text), p.proname
FROM pg_constraint k LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid
JOIN pg_roles r ON r.oid = coalesce(c.relowner, t.typowner)
CROSS JOIN regexp_matches(k.conbin::text, ':(?:funcid|opfuncid) ([0-9]+)', 'g') AS called(oid)
JOIN pg_proc p ON p.oid = called.oid[1]::oid
WHERE k.contype = 'c' AND NOT r.rolsuper AND p.provolatile = 'v' AND p.oid < {FIRST_OWN} ORDER BY 1, 2, 3
"""
FIRING = """
SELECT 1 FROM pg_trigger WHERE tgrelid = ANY(%(oids)s::oid[]) AND tgenabled IN ('A', 'R') AND NOT tgisinternal
"""


class Restores:
    """Restores a dump into a side database."""

    def __init__(
        self, target: TargetDatabase, sides: SideDatabases, programs: NativePrograms, fingerprints: Fingerprints
    ) -> None:
        self.target, self.sides, self.programs, self.fingerprints = target, sides, programs, fingerprints

    def extent(self, budget: RestoreBudget) -> tuple[str, Message | None]:
        """Return how much can be restored beside within the budget, and why not all."""
        if budget.extent != "full":
            return budget.extent, msg("the setting asks for no more")
        with self.target.session("measuring") as connection:
            [(size,)] = ask(connection, "SELECT pg_database_size(current_database())")
            free = free_bytes(connection)
        if free is not None and free * budget.disk_share < int(size):
            words = msg("{free:,} bytes are free, and a copy takes about {size:,}", free=free, size=int(size))
            return "definitions", words
        return "full", None

    def tested(self, backup: Backup, seal: Seal, extent: str, why: Message | None, seconds: float | None) -> Restored:
        """Raises Damaged where the copy is not as the backup's own snapshot; nothing is left of such a copy."""
        begun = time.monotonic()
        name = self.target.identity.side_name("restore")
        try:
            with self.target.control("creating a database to restore into") as connection:
                self.sides.drop(connection, "restore")
                self.create_like(connection, name)
            self.fill(name, Image("dump", str(backup.path), 0), backup, seal, extent, seconds)
            with self.target.control("setting up the restored copy") as connection:
                self.carry_settings(connection, name)
            problems = self._unlike(backup, name, extent == "full")
            if problems:
                raise Damaged("restoring", backup.path.name, listed(problems[:5]))
            if refreshed := self._refreshed(backup):
                return self._copied_instead(name, refreshed, time.monotonic() - begun)
            bytes_ = self.settle(name) if extent == "full" else 0
        except BaseException:
            self._give_up(name)
            raise
        if extent != "full":
            self._give_up(name)
        tables = len(backup.snapshot)
        seconds_, rows = time.monotonic() - begun, SAMPLE if extent != "full" else 0
        return Restored(name if extent == "full" else "", extent, tables, bytes_, seconds_, why, rows)

    def settle(self, name: str) -> int:
        """Statistics, the mark of a whole copy; returns its size."""
        with self.target.session("taking statistics of the restored copy", database=name) as connection:
            ask(connection, "ANALYZE")
            [(size,)] = ask(connection, "SELECT pg_database_size(current_database())")
        with self.target.control("marking the restored copy") as connection:
            self.sides.mark_restored(connection, name, True)
        return int(size)

    def _give_up(self, name: str) -> None:
        """Drop the copy, also after an interrupt; what cannot be dropped now is found among the leftovers."""
        try:
            connection = self.target.open(self.target.control_database(), "dropping", name)
        except EngineError:
            return
        try:
            with self.target.translated("dropping", name), suppress(DBAPIError, EngineError):
                self.sides.drop(connection, "restore")
        finally:
            give_back(connection)

    def _unlike(self, backup: Backup, side: str, rows_too: bool) -> list[Message]:
        """Return what in the copy is not as in the snapshot that the backup was made of."""
        dumped = self.programs.dumped.get(backup.sha256)
        before = dumped.definitions if dumped else self.fingerprints.definitions()
        restored = self.fingerprints.definitions(side)
        wrong = [name for name in sorted({*before, *restored}) if before.get(name) != restored.get(name)]
        if wrong:
            # What was redefined while the dump was made may be in it or not.
            now = self.fingerprints.definitions()
            wrong = [name for name in wrong if now.get(name) == before.get(name)]
        found = [msg("{object} is not as it was", object=name) for name in wrong]
        found += self._other_attributes(side)
        if not rows_too:
            return found
        prints = self.fingerprints.read(None, side)
        others = differing(backup.snapshot, prints)
        views = self._views(others)
        if dumped and views:
            self.programs.dumped[backup.sha256] = replace(dumped, refreshed=tuple(sorted(views)))
        found += [msg("the rows of {table} are not as they were", table=name) for name in others if name not in views]
        if dumped and dumped.sequences is not None:
            then, now_ = sequence_values(self.target, side) or {}, sequence_values(self.target) or {}
            found += [
                msg("the sequence {sequence} stands elsewhere", sequence=name)
                for name, value in dumped.sequences.items()
                if now_.get(name) == value != then.get(name)
            ]
        return found

    def _views(self, names: Sequence[str]) -> set[str]:
        """Return those of the relations that are materialized views."""
        with self.target.session("looking for tables") as connection:
            return {relation.name for relation in relations(connection, names) if relation.is_view}

    def _refreshed(self, backup: Backup) -> tuple[str, ...]:
        dumped = self.programs.dumped.get(backup.sha256)
        return dumped.refreshed if dumped else ()

    def _copied_instead(self, name: str, views: Sequence[str], seconds: float) -> Restored:
        """A rollback must bring back what these views hold, which no dump does: see that a copy by file can be made."""
        self._give_up(name)
        refuse_uncopyable(self.target)
        why = msg("a restore fills {views} anew, which hold other rows now", views=", ".join(views))
        return Restored("", "copy", 0, 0, seconds, why)

    def _other_attributes(self, side: str) -> list[Message]:
        locale = (
            f"d.{self.target.capabilities.locale_column}, d.datlocprovider"
            if self.target.capabilities.locale_provider
            else "NULL, NULL"
        )
        rules = "d.daticurules" if self.target.capabilities.icu_rules else "NULL"
        with self.target.control("comparing the restored copy") as connection:
            rows = [
                ask(
                    connection,
                    f"""SELECT d.encoding, d.datcollate, d.datctype, d.dattablespace, d.datdba, {locale}, {rules}
                        FROM pg_database d WHERE d.datname = %(name)s""",
                    name=name,
                )
                for name in (access_of(self.target, connection).name, side)
            ]
        return [] if rows[0] == rows[1] else [msg("the attributes of the database are not as they were")]

    # -- catching up -------------------------------------------------------------------------------

    def bring_up_to_date(self, path: Path | None, seal: Seal, changed: Sequence[str]) -> None:
        """Put the rows and sequence values of the dump `path` into the restored copy in place of what it holds.

        Marked as incomplete meanwhile. Raises Unable where triggers would fire, or the account may not silence them.
        """
        name = self.target.identity.side_name("restore")
        with self.target.control("catching up in the restored copy") as connection:
            if not is_superuser(connection):
                raise Unable("catching up", name, "only a superuser may load rows without firing triggers")
            self.sides.mark_restored(connection, name, False)
        if path is not None:
            settings = "-c session_replication_role=replica"
            with self.target.session("catching up", database=name, options=settings) as connection:
                tables = relations(connection, changed)
                if ask(connection, FIRING, oids=[table.oid for table in tables]):
                    raise Unable("catching up", name, "its triggers fire for rows that are loaded as well")
                for table in tables:
                    ask(connection, f"DELETE FROM ONLY {table.name}")
            self._load(name, lambda: self._restore(path, seal, [*self._into(name, settings), "--section=data"]))
        with self.target.control("marking the restored copy") as connection:
            self.sides.mark_restored(connection, name, True)

    # -- how ---------------------------------------------------------------------------------------

    def _into(self, name: str, settings: str = "", seconds: float | None = None) -> list[str]:
        """Return options of pg_restore; its sessions write whatever the server's defaults say."""
        options = parse_dsn(self.programs.conninfo(name))
        further = f"{options.get('options', '')} -c default_transaction_read_only=off {settings}"
        if seconds is not None:
            further += f" -c statement_timeout={int(seconds * 1000)}"
        dsn = make_dsn(**{**options, "options": further.strip()})
        return ["--exit-on-error", "--no-password", f"--dbname={dsn}"]

    def fill(
        self, name: str, image: Image, backup: Backup, seal: Seal, extent: str = "full", seconds: float | None = None
    ) -> None:
        into = self._into(name, seconds=seconds)
        whole = image.path if image.path is not None and not image.name else backup.path
        self._load(name, lambda: self._restore(whole, seal, [*into, "--section=pre-data"]))
        if extent == "full":
            self._refuse_calling(name)
            with self._as_owners(name):
                if whole is backup.path and image.path is not None:
                    self._load(name, lambda: self._restore_data(backup.path, seal, into, set(image.tables)))
                    # It completes the backup, if only with the values of the sequences.
                    self._load(name, lambda: self._restore(image.path or whole, seal, [*into, "--section=data"]))
                else:
                    self._load(name, lambda: self._restore(whole, seal, [*into, "--section=data"]))
        else:
            self._refuse_calling(name)
            with self._as_owners(name):
                self._load(name, lambda: self._try_first_rows(name, whole, seal))
        self._load(name, lambda: self._restore(whole, seal, [*into, "--section=post-data"]))

    def _try_first_rows(self, name: str, dump: Path, seal: Seal) -> None:
        """Load the first rows of each table, then empty it again: foreign keys would miss those that are left out."""
        with (
            archive.reading(dump, seal) as stream,
            self.target.session("restoring", name, database=name) as connection,
            closing(connection.connection.cursor()) as cursor,
        ):
            for copy, rows in first_rows(self.programs.script(stream, ["--section=data"]), SAMPLE):
                cursor.copy_expert(copy, io.BytesIO(b"".join(rows)))
            tables = [table.name for table in relations(connection)]
            if tables:
                ask(connection, f"TRUNCATE {', '.join(tables)}")

    def _load(self, name: str, work: Callable[[], None]) -> None:
        try:
            with self.target.translated("restoring", name):
                work()
        except ArchiveError as error:
            raise ResourceShortage("restoring", name, str(error)) from error

    def _refuse_calling(self, name: str) -> None:
        """Raise Unable where loading rows would call volatile functions of the server with a superuser's rights."""
        with self.target.session("looking at constraints", database=name) as connection:
            if not is_superuser(connection):
                return
            found = ask(connection, CALLING)
        if found:
            constraint, object, function = found[0]
            raise Unable(
                "restoring",
                str(object),
                msg(
                    "its constraint {constraint} calls {function}, which would run with a superuser's rights",
                    constraint=constraint,
                    function=function,
                ),
            )

    @contextmanager
    def _as_owners(self, name: str) -> Iterator[None]:
        """Within the block functions of the copy that belong to no superuser run as their owners, who cannot change the
        role in there."""
        with self.target.session("looking at functions", database=name) as connection:
            found = [str(function) for (function,) in ask(connection, OWNERS_CODE)]
            found = found if is_superuser(connection) else []
            for function in found:
                ask(connection, f"ALTER ROUTINE {function} SECURITY DEFINER")
        try:
            yield
        finally:
            with self.target.session("looking at functions", database=name) as connection:
                for function in found:
                    ask(connection, f"ALTER ROUTINE {function} SECURITY INVOKER")

    def _restore(self, path: Path, seal: Seal, options: Sequence[str]) -> None:
        with archive.reading(path, seal) as stream:
            self.programs.restore_from(stream, options)

    def _restore_data(self, path: Path, seal: Seal, target: Sequence[str], without: set[str]) -> None:
        """Return the rows of all tables but those `without`, whose newer rows come from the second dump."""
        with tempfile.TemporaryDirectory() as folder:
            listing = Path(folder, "list")
            self._restore(path, seal, ["--list", f"--file={listing}"])
            kept = Path(folder, "kept")
            kept.write_text("\n".join(entries_without(listing.read_text(), self._tags(without))) + "\n")
            self._restore(path, seal, [*target, "--section=data", f"--use-list={kept}"])

    def _tags(self, without: set[str]) -> dict[str, bool]:
        """Return how the archive's list calls each table -> whether to leave it out."""
        with self.target.session("looking for tables") as connection:
            return {f"{x.schema} {x.table}": x.name in without for x in relations(connection)}

    def create_like(self, connection: Connection, name: str, role: str = "restore") -> None:
        locale = f"d.{self.target.capabilities.locale_column}" if self.target.capabilities.locale_provider else "NULL"
        rules = "quote_literal(d.daticurules)" if self.target.capabilities.icu_rules else "NULL"
        provider = "d.datlocprovider" if self.target.capabilities.locale_provider else "'c'"
        [(encoding, collate, ctype, space, provider_is, icu, icu_rules)] = ask(
            connection,
            f"""SELECT quote_literal(pg_encoding_to_char(d.encoding)), quote_literal(d.datcollate),
                    quote_literal(d.datctype),
                       nullif(t.spcname, 'pg_default'), {provider}, quote_literal({locale}),
                       {rules}
                FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = %(name)s""",
            name=access_of(self.target, connection).name,
        )
        special = ""
        if provider_is == "i":
            special = f"LOCALE_PROVIDER icu ICU_LOCALE {icu}" + (f" ICU_RULES {icu_rules}" if icu_rules else "")
        elif provider_is == "b":
            special = f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {icu}"
        # To name the usual one takes a right that only superusers have.
        place = f"TABLESPACE {quoted(space)}" if space else ""
        limit = "CONNECTION LIMIT 0" if is_superuser(connection) else ""
        ask(
            connection,
            f"""CREATE DATABASE {quoted(name)} TEMPLATE template0 ENCODING {encoding}
                LC_COLLATE {collate} LC_CTYPE {ctype}
                {special} {place} {limit}""",
        )
        if not limit:
            ask(connection, f"REVOKE CONNECT ON DATABASE {quoted(name)} FROM PUBLIC")
        # Before it has another owner: until it bears the mark, our account as its owner is all that shows it is ours.
        self.sides.mark_restored(connection, name, False, role)
        # The owner of the database owns the schema `public`, and so may own what is restored into it.
        ask(connection, f"ALTER DATABASE {quoted(name)} OWNER TO {quoted(access_of(self.target, connection).owner)}")

    def carry_settings(self, connection: Connection, to: str) -> None:
        """Return the settings of the database, those of roles in it, and its labels: neither a copy nor a dump holds
        them."""
        source = access_of(self.target, connection).name
        for role, setting, value in ask(connection, SETTINGS, name=source):
            whom = f"ROLE {quoted(role)} IN DATABASE {quoted(to)}" if role else f"DATABASE {quoted(to)}"
            name = ".".join(quoted(part) for part in str(setting).split("."))
            # Any role may store one for itself: only as quoted texts may it stand in what we run with our rights.
            parts = names_in(value) if setting.lower() in LISTS else [value]
            ask(connection, f"ALTER {whom} SET {name} = {', '.join(literal(connection, part) for part in parts)}")
        for provider, label in ask(connection, LABELS, name=source):
            ask(
                connection,
                f"SECURITY LABEL FOR {quoted(provider)} ON DATABASE {quoted(to)} IS {literal(connection, label)}",
            )


def refuse_uncopyable(target: TargetDatabase) -> None:
    """Raise what keeps the database from being copied by file."""
    with target.session("measuring") as inside:
        if ask(inside, SUBSCRIPTIONS):
            raise Unable("copying", target.name, "a copy does not hold its subscriptions; a dump does")
        [(size,)] = ask(inside, "SELECT pg_database_size(current_database())")
        free = free_bytes(inside)
    if free is not None and free < int(size) * ROOM:
        raise ResourceShortage(
            "copying",
            target.name,
            msg("{free:,} bytes are free, {needed:,} are needed", free=free, needed=int(int(size) * ROOM)),
        )
    with target.control("looking what keeps from copying") as connection:
        if keeps_its_name(connection, access_of(target, connection).name):
            raise Unable("copying", target.name, "a prepared transaction or replication is in it; a dump can be made")
        [(may,)] = ask(connection, "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user")
        if not may:
            raise Unable("copying", target.name, "the account may not create databases")


def first_rows(script: Iterable[bytes], most: int) -> Iterator[tuple[str, list[bytes]]]:
    """Return each COPY of a script of pg_restore with its first rows; a row is a line of it, whatever it holds."""
    lines = iter(script)
    for line in lines:
        if line.startswith(b"COPY ") and line.endswith(b" FROM stdin;\n"):
            block = takewhile(lambda row: row != b"\\.\n", lines)
            rows = list(islice(block, most))
            for _ in block:
                pass
            yield line.decode(), rows


def entries_without(listing: str, tags: Mapping[str, bool]) -> list[str]:
    """Return lines of `pg_restore --list` without the rows of the tables whose tag is True, and without sequence
    values.

    A name may contain spaces, so the longest known name that fits a line is the one meant. The second dump has the
    values of all sequences.
    """
    kept: list[str] = []
    for line in listing.splitlines():
        entry = re.match(r"\d+; \d+ \d+ (TABLE DATA|SEQUENCE SET) (.*)", line)
        if entry and entry.group(1) == "SEQUENCE SET":
            continue
        if entry:
            fitting = [tag for tag in tags if entry.group(2).startswith(tag + " ")]
            if fitting and tags[max(fitting, key=len)]:
                continue
        kept.append(line)
    return kept


def names_in(value: str) -> list[str]:
    """Return the names in a stored list: bare, or in double quotes with those inside doubled, between commas.

    As pg_dump reads them (SplitGUCList): nothing else in the text means anything.
    """
    found = re.findall(r'\s*(?:"((?:[^"]|"")*)"|([^\s,"]+))\s*(?:,|$)', value)
    return [bare or text.replace('""', '"') for text, bare in found]
