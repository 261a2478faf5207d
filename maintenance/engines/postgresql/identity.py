"""Which row of pg_database the target is, and which databases beside it are provably ours.

Names and comments prove nothing: whoever owns another database may rename it and copy our comment onto it. The
target is found by the oid and the owner that the journal holds; where no journal speaks, by its own name, or by a
mark that this installation signed for exactly that oid. A database beside it is ours by such a mark and its owner.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from ..errors import Unable
from ..messages import msg
from ..values import Json, Tag
from .sql import ask

ENTRIES = """
SELECT d.oid, d.datname, pg_get_userbyid(d.datdba), pg_get_userbyid(d.datdba) = current_user,
  shobj_description(d.oid, 'pg_database')
FROM pg_database d WHERE {where} ORDER BY d.oid
"""


@dataclass(frozen=True)
class Entry:
    """A row of pg_database. `mark`: what our comment on it says, once its signature was verified for this oid."""

    oid: int
    name: str
    owner: str
    owned_by_us: bool
    comment: str | None
    mark: Json | None

    @property
    def claim(self) -> Json | None:
        """Return what a comment in the form of our marks says, signed by whomsoever: for telling people, never to act
        on."""
        return claim_in(self.comment)


@dataclass(frozen=True)
class Known:
    """What the journal holds of the target. `hidden` is the name it has while its connections are cut."""

    oid: int
    owner: str
    hidden: str


class Identity:
    """Finds the target and the databases beside it; the connection is to the control database."""

    def __init__(self, database: str, tag: Tag) -> None:
        self.database, self.tag = database, tag
        self.known: Known | None = None
        self._replaced: dict[int, int] = {}
        """Oid of a database that a rollback put aside -> the one in its place."""

    def recall(self, gate: Json) -> None:
        """Take oid, owner and hidden name from the journal."""
        oid = int(str(gate["oid"]))
        self.known = Known(self._replaced.get(oid, oid), str(gate["owner"]), str(gate["hidden"]))

    # -- names and marks ---------------------------------------------------------------------------

    def side_name(self, role: str) -> str:
        """Return the name of a side database of this run target, e.g. shop_dbm42_3f9a1c_image; at most 63 bytes.

        The digits keep others from taking the name before we do.
        """
        digits = self.tag.signer.digest(f"{self.database} {self.tag.suffix} {role}")[:6]
        ending = f"_{self.tag.suffix}_{digits}_{role}"
        base = self.database.encode()
        if len(base) + len(ending) > 63:
            digest = hashlib.sha256(base).hexdigest()[:8]
            base = base[: 63 - len(ending) - 9].decode(errors="ignore").encode() + b"_" + digest.encode()
        return base.decode() + ending

    def mark(self, oid: int, about: Mapping[str, object]) -> str:
        """Return the text of a signed mark for the database `oid`."""
        return json.dumps(self.tag.signer.signed({"dbmaint": 1, **self.tag.mark, **about}, place(oid)))

    # -- finding -----------------------------------------------------------------------------------

    def target(self, connection: Connection) -> Entry | None:
        """Return the target under whatever name it has now; None when it is nowhere."""
        if self.known is not None:
            return self._by_journal(connection, self.known)
        return self.named(connection, self.database) or self._hidden(connection)

    def named(self, connection: Connection, name: str) -> Entry | None:
        """Return the database of that name, whosesoever it is."""
        return next(iter(self._entries(connection, "d.datname = %(name)s", name=name)), None)

    def claims(self, connection: Connection) -> list[Json]:
        """Return what every comment on a database says that has the form of our marks, signed by whomsoever."""
        return [entry.claim for entry in self._entries(connection, "true") if entry.claim is not None]

    def in_place_of(self, connection: Connection, broken: Entry) -> Entry | None:
        """Return the database that a rollback put in the place of the `broken` one, by the signed mark of that."""
        replacement = (broken.mark or {}).get("replaced_by")
        return None if replacement is None else self._by_oid(connection, int(str(replacement)))

    def side(self, connection: Connection, role: str) -> Entry | None:
        """Return the side database of this run target in that role; None where there is none.

        Raises Unable where its name is taken by a database that is not provably ours.
        """
        entry = self.named(connection, self.side_name(role))
        if entry is None or self._is_ours(entry, role):
            return entry
        raise Unable(
            "looking at",
            entry.name,
            msg("it is not proven to be ours: it belongs to {owner}, and no mark of ours fits it", owner=entry.owner),
        )

    def _is_ours(self, entry: Entry, role: str) -> bool:
        if entry.comment is None:
            # Died between creating and marking it: nobody else makes a database that belongs to our account.
            return entry.owned_by_us
        if entry.mark is None or not self.tag.wrote(entry.mark) or entry.mark.get("role") != role:
            return False
        return entry.owned_by_us or entry.owner == entry.mark.get("owner")

    def _by_journal(self, connection: Connection, known: Known) -> Entry | None:
        entry = self._by_oid(connection, known.oid)
        if entry is not None and entry.mark is not None and entry.mark.get("role") == "broken":
            # A rollback put a restored copy in its place; its own signed mark says which.
            self._replaced[known.oid] = int(str(entry.mark["replaced_by"]))
            self.known = replace(known, oid=self._replaced[known.oid])
            entry = self._by_oid(connection, self.known.oid)
        return entry or self._hidden(connection)

    def _by_oid(self, connection: Connection, oid: int) -> Entry | None:
        return next(iter(self._entries(connection, "d.oid = %(oid)s", oid=oid)), None)

    def _hidden(self, connection: Connection) -> Entry | None:
        """Return the database that bears the mark of a cut by this installation, whichever run it was."""
        for entry in self._entries(connection, "true"):
            gate = entry.mark.get("gate") if entry.mark else None
            if (
                isinstance(gate, dict)
                and (gate.get("database"), gate.get("owner")) == (self.database, entry.owner)
                and entry.name in (self.database, gate.get("hidden"))
                and (self.known is None or gate.get("oid") == self.known.oid)
            ):
                return entry
        return None

    def _entries(self, connection: Connection, where: str, **binds: object) -> list[Entry]:
        return [
            Entry(int(oid), str(name), str(owner), bool(own), comment, self._verified(int(oid), comment))
            for oid, name, owner, own, comment in ask(connection, ENTRIES.format(where=where), **binds)
        ]

    def _verified(self, oid: int, comment: str | None) -> Json | None:
        claim = claim_in(comment)
        return claim if claim is not None and self.tag.signer.is_signed(claim, place(oid)) else None


def place(oid: int) -> str:
    """Return what a mark on a database is signed for."""
    return f"postgresql database {oid}"


def is_of(claim: Mapping[str, object], database: str) -> bool:
    """Return whether it says that this database was cut off."""
    gate = claim.get("gate")
    return isinstance(gate, dict) and gate.get("database") == database


def claim_in(comment: str | None) -> dict[str, Any] | None:
    """Return the JSON of a comment in the form of our marks, otherwise None. Anybody can write such a comment."""
    if not comment or not comment.startswith('{"dbmaint"'):
        return None
    try:
        claim = json.loads(comment)
    except ValueError:
        return None
    return claim if isinstance(claim, dict) else None
