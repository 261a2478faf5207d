"""The way back: the test of a backup, restoring beside, putting the copy in place, and what is left afterwards."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Connection

from ..archive import Seal
from ..errors import EngineError, Interrupted, Unable
from ..messages import msg
from ..parts import Rollback
from ..values import Backup, Diagnosis, Image, Json, RestoreBudget, Restored, WayBack
from .access_gate import Method, PostgresGate
from .database_access import access_of, foreign_sessions, set_allow, set_comment, set_grants, set_limit
from .maintenance_lock import PostgresLock
from .native_programs import NativePrograms
from .own_schemas import own_schemas
from .restore import SAMPLE, Restores, refuse_uncopyable
from .side_databases import SIDES, SideDatabases
from .sql import ask, quoted, transaction
from .target import TargetDatabase


class PostgresRollback(Rollback):
    """Restore test, restore beside, swap, leftovers."""

    def __init__(
        self,
        target: TargetDatabase,
        lock: PostgresLock,
        gate: PostgresGate,
        sides: SideDatabases,
        programs: NativePrograms,
        restores: Restores,
    ) -> None:
        self.target, self.lock, self.gate = target, lock, gate
        self.sides, self.programs, self.restores = sides, programs, restores

    def way_back(self, diagnosis: Diagnosis, budget: RestoreBudget) -> WayBack:
        """See Rollback.way_back. Without a restored copy one is made by file, of the same size."""
        size, free = diagnosis.size_bytes, diagnosis.free_bytes
        if budget.extent == "off":
            open_ = msg("that a backup can be restored is found out only when it is needed, as the setting has it")
            return WayBack("off", size, open_)
        if budget.extent == "full" and (free is None or free * budget.disk_share >= size):
            return WayBack("full", size)
        why = msg("a copy would take more of the free space than the setting allows")
        if budget.extent != "full":
            why = msg("the setting asks for no more")
        open_ = msg(
            "of each table only the first {rows:,} rows are restored before the outage: {why}", rows=SAMPLE, why=why
        )
        return WayBack("definitions", size, open_)

    def restore_test(self, backup: Backup, seal: Seal, budget: RestoreBudget) -> Restored | None:
        """See Rollback.restore_test."""
        if not seal.opens:
            return None
        self.lock.reacquire()
        begun = time.monotonic()
        if backup.method != "pg_dump":
            # Read back whole, but nothing that this server could restore beside: the way back is a copy by file.
            refuse_uncopyable(self.target)
            return Restored("", "copy", 0, 0, time.monotonic() - begun)
        extent, why = self.restores.extent(budget)
        try:
            return self.restores.tested(backup, seal, extent, why, budget.seconds if extent == "full" else None)
        except Interrupted:
            raise
        except EngineError:
            if extent != "full" or time.monotonic() - begun < budget.seconds:
                raise
            why = msg("restoring every row takes longer than {seconds:,.0f} s", seconds=budget.seconds)
            return self.restores.tested(backup, seal, "definitions", why, None)

    def restore_beside(self, image: Image, backup: Backup, seal: Seal) -> str:
        """See Rollback.restore_beside."""
        self.lock.reacquire()
        if image.kind == "copy":
            with self.target.control("looking for the image") as connection:
                if self.target.identity.side(connection, "broken") is None:
                    sides = [self.target.identity.side(connection, role) for role in ("image", "restore")]
                    if image.name not in [side.name for side in sides if side]:
                        words = msg("the image {image} is not there", image=image.name)
                        raise Unable("restoring", self.target.name, words)
                    self.restores.carry_settings(connection, image.name)
            return image.name
        if image.path is None and backup.method != "pg_dump":
            raise Unable(
                "restoring",
                self.target.name,
                msg("{path} holds a whole cluster and must be restored by hand", path=str(backup.path)),
            )
        name = self.target.identity.side_name("restore")
        with self.target.control("creating a database to restore into") as connection:
            there = self.target.identity.side(connection, "restore")
            if there is None and self.target.identity.side(connection, "broken"):
                return name  # It has taken its place already.
            if there and there.mark and there.mark.get("complete"):
                return name
            self.sides.drop(connection, "restore")
            self.restores.create_like(connection, name)
        self.restores.fill(name, image, backup, seal)
        with self.target.control("setting up the restored copy") as connection:
            self.restores.carry_settings(connection, name)
        self.restores.settle(name)
        return name

    def swap(self, side: str, gate: Json, marker: Json) -> str:
        """See Rollback.swap. One transaction of renames: nobody sees the database missing, and a crash leaves before or
        after."""
        self.target.identity.recall(gate)
        self.lock.reacquire()
        broken = self.target.identity.side_name("broken")
        with self.target.control("putting the restored copy in place") as connection:
            ours = [entry for role in ("image", "restore") if (entry := self.target.identity.side(connection, role))]
            copy = next((entry for entry in ours if entry.name == side), None)
            before = self.target.identity.side(connection, "broken")
            if copy is None:
                if before is not None:
                    return broken
                raise Unable("putting in place", side, "there is no such database")
            if before is not None:
                raise Unable("putting in place", side, msg("{broken} of an earlier swap is still there", broken=broken))
            live = access_of(self.target, connection)
            self.gate.refuse_strangers(connection, live, gate)
            method: Method = "hide" if (live.mark or {}).get("method") == "hide" else "revoke"
            for oid in (live.oid, copy.oid):
                for pid, *_ in foreign_sessions(self.target, connection, oid, ours_too=True):
                    ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
            closed = self.target.identity.mark(copy.oid, {"method": method, "gate": gate, "marker": marker})
            with transaction(connection):
                self._carry_over(connection, live.name, side, gate)
                ask(connection, f"ALTER DATABASE {quoted(live.name)} RENAME TO {quoted(broken)}")
                ask(connection, f"ALTER DATABASE {quoted(side)} RENAME TO {quoted(live.name)}")
                set_comment(connection, live.name, closed)
                about = {"role": "broken", "replaced_by": copy.oid, "owner": live.owner}
                self.sides.mark(connection, live.oid, broken, about)
                set_limit(connection, live.name, int(str(gate["limit"])))
                if method == "hide":
                    set_allow(connection, live.name, live.name != self.target.name)
                else:
                    self.gate.bar(connection, live.name, method)
                set_allow(connection, broken, False)
        return broken

    def _carry_over(self, connection: Connection, source: str, to: str, gate: Json) -> None:
        """Owner, grants, and whether it is a template."""
        ask(
            connection,
            f"ALTER DATABASE {quoted(to)} OWNER TO {quoted(access_of(self.target, connection, source).owner)}",
        )
        set_grants(connection, to, gate)
        [(template,)] = ask(connection, "SELECT datistemplate FROM pg_database WHERE datname = %(name)s", name=source)
        if template:
            ask(connection, f"ALTER DATABASE {quoted(to)} IS_TEMPLATE true")

    def leftovers(self) -> list[str]:
        """See Rollback.leftovers. Side databases by their names; everything else in words."""
        found: list[str] = []
        with self.target.control("looking for what is left") as connection:
            found += [entry.name for role in SIDES if (entry := self.sides.ours(connection, role))]
            target = self.target.identity.target(connection)
            if target is not None and target.mark is not None and self.target.tag.wrote(target.mark):
                found += [target.name] if target.name != self.target.name else []
                found.append(f"marker on {self.target.name}")
            rows = ask(
                connection,
                """SELECT pid, application_name FROM pg_stat_activity
                   WHERE starts_with(application_name, %(family)s) AND application_name <> %(mine)s
                     AND usename = session_user""",
                family=self.target.tag.family,
                mine=self.target.tag.session,
            )
            found += [f"session {pid} ({name})" for pid, name in rows]
        with self.target.session("looking for what is left") as connection:
            prefix = f"{self.target.tag.suffix}_"
            schemas = sorted(own_schemas(connection, self.target.tag).values())
            found += [f"schema {name}" for name in schemas if name.startswith(prefix)]
        return found

    def clean(self, keep: Sequence[str] = ()) -> list[str]:
        """See Rollback.clean. A marker goes only where the gate is as before; saved rows not put back stay."""
        self.lock.reacquire()
        gone: list[str] = []
        left = [item for item in self.leftovers() if item not in keep]
        if any(item.startswith("session ") for item in left):
            with self.target.control("ending sessions of an earlier attempt") as connection:
                self.lock.end_other_tokens(connection)
        for item in left:
            if item.startswith("schema "):
                removed = self._drop_schema(item.removeprefix("schema "))
            elif item.startswith("marker on "):
                removed = self._drop_marker()
            elif item.startswith("session "):
                removed = True
            else:
                removed = self._drop_named(item)
            if removed:
                gone.append(item)
        return gone

    def _drop_schema(self, name: str) -> bool:
        with self.target.session("dropping what is left", name) as connection:
            tables = ask(
                connection,
                """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = %(name)s AND c.relkind = 'r'""",
                name=name,
            )
            for (table,) in tables:
                if ask(connection, f"SELECT 1 FROM {quoted(name)}.{quoted(table)} LIMIT 1"):
                    return False
            ask(connection, f"DROP SCHEMA {quoted(name)} CASCADE")
        self.target.look_again_for_schemas()
        return True

    def _drop_marker(self) -> bool:
        """Return whether it is gone."""
        gate = self.gate.read_state()
        if any(not words.startswith("comment ") for words in self.gate.differences(gate)):
            return False
        with self.target.control("removing the marker") as connection:
            comment = gate["comment"]
            set_comment(connection, self.target.name, None if comment is None else str(comment))
        return True

    def _drop_named(self, name: str) -> bool:
        """Return whether a side database of ours had that name. The target itself, while it is hidden, is none."""
        with self.target.control("dropping what is left") as connection:
            for role in SIDES:
                entry = self.sides.ours(connection, role)
                if entry is not None and entry.name == name:
                    self.sides.drop(connection, role)
                    return True
        return False
