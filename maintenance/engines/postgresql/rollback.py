"""What a rollback restores from, and how the restored copy takes the place of the broken database."""

# ruff: noqa: S608 -- only names that `quoted` or the catalog itself quoted stand in statements

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection

from .. import archive
from ..archive import ArchiveError, Seal
from ..errors import EngineError, Interrupted, ResourceShortage, Transient, Unable
from ..messages import msg
from ..values import Backup, Fingerprint, Image, Json
from .access_gate import Method, literal
from .backup import SEQUENCES, BackingUp
from .diagnosis import Diagnosing
from .dump_limits import SUBSCRIPTIONS
from .fingerprints import LARGE_OBJECTS, differing
from .leftovers import Leftovers
from .server import Server
from .sql import ask, quoted, transaction

log = logging.getLogger("maintenance")
LITTLE = 10
"""A copy by file takes about this fraction of the time that dumping and reading back takes, byte for byte."""
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


class Rollback(Leftovers, BackingUp, Diagnosing, Server):
    """Image, restore beside, swap."""

    # -- image -------------------------------------------------------------------------------------

    def image(self, backup: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: Seal) -> Image:
        """The backup itself where little changed since it was made, which is dumped again; otherwise a copy by file
        on the same server where there is room and right, or a second dump.

        An image of an earlier attempt is made anew: nobody can say what happened in between.
        """
        self.keep_turn()
        changed = self._changed_since(backup, baseline)
        if changed is not None and self._little(changed):
            try:
                return self._catch_up(backup, changed, folder, stem, seal)
            except Interrupted:
                raise
            except EngineError as error:
                log.warning("What changed since the backup could not be dumped, so all is copied: %s", error)
        try:
            return self._copy()
        except Interrupted:
            raise
        except EngineError as refusal:
            try:
                return self._catch_up(backup, changed, folder, stem, seal)
            except Interrupted:
                raise
            except EngineError as error:
                words = msg("a copy: {copy}; a dump: {dump}", copy=refusal.words, dump=error.words)
                raise type(error)("keeping the state before the maintenance of", self.database, words) from error

    def _copy(self) -> Image:
        name = self.identity.side_name("image")
        with self.session("measuring") as inside:
            if ask(inside, SUBSCRIPTIONS):
                raise Unable("copying", self.database, "a copy does not hold its subscriptions; a dump does")
            [(size,)] = ask(inside, "SELECT pg_database_size(current_database())")
            free = self._free_bytes(inside)
        if free is not None and free < int(size) * 1.2:
            raise ResourceShortage(
                "copying",
                self.database,
                msg("{free:,} bytes are free, {needed:,} are needed", free=free, needed=int(int(size) * 1.2)),
            )
        with self.control("copying the database") as connection:
            self.drop_side(connection, "image")
            method = "STRATEGY FILE_COPY" if self.ways.copy_strategy else ""
            limit = "CONNECTION LIMIT 0" if self.is_superuser(connection) else ""
            source = self.door(connection).name
            if self.keeps_its_name(connection, source):
                raise Unable(
                    "copying", self.database, "a prepared transaction or replication is in it; a dump can be made"
                )
            version = self._collation_version(connection, source)
            statement = f"CREATE DATABASE {quoted(name)} TEMPLATE {quoted(source)} {method} {version} {limit}"
            self._alone(connection, statement)
            self.mark_side(connection, self.door(connection, name).oid, name, {"role": "image"})
            if not limit:
                ask(connection, f"REVOKE CONNECT ON DATABASE {quoted(name)} FROM PUBLIC")
            [(copied,)] = ask(connection, "SELECT pg_database_size(%(name)s)", name=name)
        return Image(kind="copy", name=name, bytes=int(copied))

    def _collation_version(self, connection: Connection, source: str) -> str:
        """The server refuses to copy a database whose collation changed, unless it is told the version as recorded."""
        if not self.ways.database_collation_version:
            return ""
        [(version,)] = ask(
            connection, "SELECT quote_literal(datcollversion) FROM pg_database WHERE datname = %(name)s", name=source
        )
        return f"COLLATION_VERSION {version}" if version else ""

    def _alone(self, connection: Connection, statement: str) -> None:
        """Runs what needs a database without any session; our own short ones are ended."""
        for attempt in range(3):
            for pid, *_ in self._foreign(connection, self.door(connection).oid, ours_too=True):
                ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
            try:
                with self.translated("copying", self.database):
                    ask(connection, statement)
                return
            except Transient as error:
                if attempt == 2 or "being accessed" not in error.words:
                    raise

    def _changed_since(self, backup: Backup, baseline: Mapping[str, Fingerprint]) -> list[str] | None:
        """Tables that are not proved to be as in the backup. None when that cannot be told table by table."""
        changed = differing(baseline, backup.snapshot)
        known = self.dumped.get(backup.sha256)
        told = (
            backup.method == "pg_dump"
            and set(baseline) == set(backup.snapshot)
            and LARGE_OBJECTS not in changed
            and len(changed) * 2 <= len(baseline)
            and known is not None
            and known.definitions == self.definitions()
        )
        return changed if told else None

    def _little(self, changed: Sequence[str]) -> bool:
        """Whether a dump of these tables, read back, is sooner made than a copy of the whole database."""
        with self.session("measuring") as connection:
            [(whole,)] = ask(connection, "SELECT pg_database_size(current_database())")
            return sum(x.bytes for x in self.relations(connection, changed)) * LITTLE <= int(whole)

    def _catch_up(self, backup: Backup, changed: list[str] | None, folder: Path, stem: str, seal: Seal) -> Image:
        """Dumps the tables that changed since the backup; everything with None."""
        partial = changed is not None
        options = [f"--table={pattern}" for pattern in self._patterns(backup, changed)] if changed is not None else []
        if partial and not options:
            return Image(kind="dump", name=str(backup.path), bytes=0)
        part, written = self.dump(folder, stem, seal, options)
        final = folder / f"{stem}.dump{seal.extension}"
        try:
            archive.publish(part, final)
        except OSError as error:
            raise ResourceShortage("naming", str(final), str(error)) from error
        return Image(
            kind="dump",
            name=str(backup.path) if partial else "",
            bytes=written.bytes,
            tables=tuple(changed or ()),
            path=final,
            sha256=written.sha256,
        )

    def _patterns(self, backup: Backup, tables: Sequence[str]) -> list[str]:
        """Exact patterns for pg_dump, with the sequences unless all stand as before: they move without any row."""
        known, now = self.dumped[backup.sha256].sequences, self.sequence_values()
        with self.session("looking for tables") as connection:
            names = [(x.schema, x.table) for x in self.relations(connection, tables)]
            if known is None or known != now:
                names += [(str(schema), str(name)) for schema, name in ask(connection, SEQUENCES)]
        return [".".join('"' + part.replace('"', '""') + '"' for part in pair) for pair in names]

    # -- restore -----------------------------------------------------------------------------------

    def restore_beside(self, image: Image, backup: Backup, seal: Seal) -> str:
        self.keep_turn()
        if image.kind == "copy":
            with self.control("looking for the image") as connection:
                if self.identity.side(connection, "broken") is None:
                    entry = self.identity.side(connection, "image")
                    if entry is None or entry.name != image.name:
                        words = msg("the image {image} is not there", image=image.name)
                        raise Unable("restoring", self.database, words)
                    self._carry_settings(connection, image.name)
            return image.name
        if image.path is None and backup.method != "pg_dump":
            raise Unable(
                "restoring",
                self.database,
                msg("{path} holds a whole cluster and must be restored by hand", path=str(backup.path)),
            )
        name = self.identity.side_name("restore")
        with self.control("creating a database to restore into") as connection:
            there = self.identity.side(connection, "restore")
            if there is None and self.identity.side(connection, "broken"):
                return name  # It has taken its place already.
            if there and there.mark and there.mark.get("complete"):
                return name
            self.drop_side(connection, "restore")
            self._create_like(connection, name)
        self._fill(name, image, backup, seal)
        with self.session("taking statistics of the restored copy", database=name) as connection:
            ask(connection, "ANALYZE")
        with self.control("marking the restored copy") as connection:
            self._carry_settings(connection, name)
            self.mark_side(connection, self.door(connection, name).oid, name, {"role": "restore", "complete": True})
        return name

    def _fill(self, name: str, image: Image, backup: Backup, seal: Seal) -> None:
        target = ["--exit-on-error", "--no-password", f"--dbname={self.conninfo(name)}"]
        try:
            with self.translated("restoring", name):
                if image.path is not None and not image.name:
                    # Whole. One that names the backup completes it, if only with the values of the sequences.
                    self._restore(image.path, seal, target)
                elif image.path is None:
                    self._restore(backup.path, seal, target)
                else:
                    self._restore(backup.path, seal, [*target, "--section=pre-data"])
                    self._restore_data(backup.path, seal, target, set(image.tables))
                    self._restore(image.path, seal, [*target, "--section=data"])
                    self._restore(backup.path, seal, [*target, "--section=post-data"])
        except ArchiveError as error:
            raise ResourceShortage("restoring", name, str(error)) from error

    def _restore(self, path: Path, seal: Seal, options: Sequence[str]) -> None:
        with archive.reading(path, seal) as stream:
            self.restore_from(stream, options)

    def _restore_data(self, path: Path, seal: Seal, target: Sequence[str], without: set[str]) -> None:
        """The rows of all tables but those `without`, whose newer rows come from the second dump."""
        with tempfile.TemporaryDirectory() as folder:
            listing = Path(folder, "list")
            self._restore(path, seal, ["--list", f"--file={listing}"])
            kept = Path(folder, "kept")
            kept.write_text("\n".join(entries_without(listing.read_text(), self._tags(without))) + "\n")
            self._restore(path, seal, [*target, "--section=data", f"--use-list={kept}"])

    def _tags(self, without: set[str]) -> dict[str, bool]:
        """How the archive's list calls each table -> whether to leave it out."""
        with self.session("looking for tables") as connection:
            return {f"{x.schema} {x.table}": x.name in without for x in self.relations(connection)}

    def _create_like(self, connection: Connection, name: str) -> None:
        locale = f"d.{self.ways.locale_column}" if self.ways.locale_provider else "NULL"
        provider = "d.datlocprovider" if self.ways.locale_provider else "'c'"
        [(encoding, collate, ctype, space, provider_is, icu)] = ask(
            connection,
            f"""SELECT quote_literal(pg_encoding_to_char(d.encoding)), quote_literal(d.datcollate),
                    quote_literal(d.datctype),
                       nullif(t.spcname, 'pg_default'), {provider}, quote_literal({locale})
                FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = %(name)s""",
            name=self.door(connection).name,
        )
        special = ""
        if provider_is == "i":
            special = f"LOCALE_PROVIDER icu ICU_LOCALE {icu}"
        elif provider_is == "b":
            special = f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {icu}"
        # To name the usual one takes a right that only superusers have.
        place = f"TABLESPACE {quoted(space)}" if space else ""
        limit = "CONNECTION LIMIT 0" if self.is_superuser(connection) else ""
        ask(
            connection,
            f"""CREATE DATABASE {quoted(name)} TEMPLATE template0 ENCODING {encoding}
                LC_COLLATE {collate} LC_CTYPE {ctype}
                {special} {place} {limit}""",
        )
        if not limit:
            ask(connection, f"REVOKE CONNECT ON DATABASE {quoted(name)} FROM PUBLIC")
        # Before it has another owner: until it bears the mark, our account as its owner is all that shows it is ours.
        self.mark_side(connection, self.door(connection, name).oid, name, {"role": "restore", "complete": False})
        # The owner of the database owns the schema `public`, and so may own what is restored into it.
        ask(connection, f"ALTER DATABASE {quoted(name)} OWNER TO {quoted(self.door(connection).owner)}")

    # -- swap --------------------------------------------------------------------------------------

    def swap(self, side: str, gate: Json, marker: Json) -> str:
        """One transaction of renames; nobody ever sees the database missing, and a crash leaves before or after."""
        self.recall(gate)
        self.keep_turn()
        broken = self.identity.side_name("broken")
        with self.control("putting the restored copy in place") as connection:
            ours = [entry for role in ("image", "restore") if (entry := self.identity.side(connection, role))]
            copy = next((entry for entry in ours if entry.name == side), None)
            before = self.identity.side(connection, "broken")
            if copy is None:
                if before is not None:
                    return broken
                raise Unable("putting in place", side, "there is no such database")
            if before is not None:
                raise Unable("putting in place", side, msg("{broken} of an earlier swap is still there", broken=broken))
            live = self.door(connection)
            self._refuse_strangers(connection, live, gate)
            method: Method = "hide" if (live.mark or {}).get("method") == "hide" else "revoke"
            for oid in (live.oid, copy.oid):
                for pid, *_ in self._foreign(connection, oid, ours_too=True):
                    ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
            closed = self.identity.mark(copy.oid, {"method": method, "gate": gate, "marker": marker})
            with transaction(connection):
                self._carry_over(connection, live.name, side, gate)
                ask(connection, f"ALTER DATABASE {quoted(live.name)} RENAME TO {quoted(broken)}")
                ask(connection, f"ALTER DATABASE {quoted(side)} RENAME TO {quoted(live.name)}")
                self.set_comment(connection, live.name, closed)
                self.mark_side(connection, live.oid, broken, {"role": "broken", "replaced_by": copy.oid})
                self._set_limit(connection, live.name, int(str(gate["limit"])))
                if method == "hide":
                    self._set_allow(connection, live.name, live.name != self.database)
                else:
                    self.bar(connection, live.name, method)
                self._set_allow(connection, broken, False)
        return broken

    def _carry_settings(self, connection: Connection, to: str) -> None:
        """The settings of the database, those of roles in it, and its labels: neither a copy nor a dump holds them."""
        source = self.door(connection).name
        for role, setting, value in ask(connection, SETTINGS, name=source):
            whom = f"ROLE {quoted(role)} IN DATABASE {quoted(to)}" if role else f"DATABASE {quoted(to)}"
            name = ".".join(quoted(part) for part in str(setting).split("."))
            # Any role may store one for itself: only as quoted texts may it stand in what we run with our rights.
            parts = listed(value) if setting.lower() in LISTS else [value]
            ask(connection, f"ALTER {whom} SET {name} = {', '.join(literal(connection, part) for part in parts)}")
        for provider, label in ask(connection, LABELS, name=source):
            ask(
                connection,
                f"SECURITY LABEL FOR {quoted(provider)} ON DATABASE {quoted(to)} IS {literal(connection, label)}",
            )

    def _carry_over(self, connection: Connection, source: str, to: str, gate: Json) -> None:
        """Owner, grants, and whether it is a template."""
        ask(connection, f"ALTER DATABASE {quoted(to)} OWNER TO {quoted(self.door(connection, source).owner)}")
        self.set_grants(connection, to, gate)
        [(template,)] = ask(connection, "SELECT datistemplate FROM pg_database WHERE datname = %(name)s", name=source)
        if template:
            ask(connection, f"ALTER DATABASE {quoted(to)} IS_TEMPLATE true")


def entries_without(listing: str, tags: Mapping[str, bool]) -> list[str]:
    """Lines of `pg_restore --list` without the rows of the tables whose tag is True, and without sequence values.

    A name may contain spaces, so the longest known name that fits a line is the one meant. The second dump has
    the values of all sequences.
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


def listed(value: str) -> list[str]:
    """The names in a stored list: bare, or in double quotes with those inside doubled, between commas.

    As pg_dump reads them (SplitGUCList): nothing else in the text means anything.
    """
    found = re.findall(r'\s*(?:"((?:[^"]|"")*)"|([^\s,"]+))\s*(?:,|$)', value)
    return [bare or text.replace('""', '"') for text, bare in found]
