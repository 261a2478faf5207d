"""Reads the whole audit chain, and tells whether somebody touched it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from maintenance.engines.messages import msg
from maintenance.models import AuditEntry, AuditHead, AuditSeal, AuditSignature

from . import checkpoints
from .checkpoints import Checkpoint
from .entries import GENESIS, digest
from .keys import KeyUnreadable
from .notary import checkpoint_of, disagreement

QUIET_TRIES = 3
"""How often the chain is read without holding up those who write to it."""
SIGNED_WITHIN = timedelta(minutes=10)
"""A worker signs within seconds; what waits longer is not guarded by anything."""


@dataclass(frozen=True)
class Verdict:
    """`broken_at` is the id of the first bad entry; None with `problem` set: something else than an entry is wrong.

    `entries` are there now, `sealed` are not vouched for before them (removed by retention, or accepted as broken for
    the reason `accepted`), `outside` checkpoints in the file agree, `unsigned` entries wait for their signature.
    """

    entries: int
    problem: str = ""
    broken_at: int | None = None
    sealed: int = 0
    outside: int = 0
    unsigned: int = 0
    accepted: str = ""

    @property
    def whole(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class _Ends:
    """What the database says of the chain's ends, as it was read."""

    head: tuple[int, str] | None
    seal: AuditSeal | None
    signatures: tuple[AuditSignature, ...]

    @classmethod
    def read(cls) -> _Ends:
        head = AuditHead.objects.filter(pk=1).values_list("entries", "hash").first()
        return cls(head, AuditSeal.objects.order_by("-entries").first(), tuple(AuditSignature.objects.order_by("pk")))


def verify(unsigned: bool = False) -> Verdict:
    """Read the chain from its beginning: edited, deleted, inserted, reordered and cut off entries show.

    So does a return to an earlier state of the whole database, because the file outside remembers more, and a file
    that is gone or went back to an earlier state, because the database remembers how far it went. Entries that wait
    long for a signature are a failure, unless the caller is about to sign them (`unsigned`).
    """
    for _ in range(QUIET_TRIES):
        before = _Ends.read()
        verdict = _verdict(before, unsigned)
        # Entries that were written while it read would look as if the head were wrong.
        if _Ends.read().head == before.head:
            return verdict
    with transaction.atomic():
        AuditHead.objects.select_for_update().filter(pk=1).first()
        return _verdict(_Ends.read(), unsigned)


def _verdict(ends: _Ends, unsigned: bool) -> Verdict:
    try:
        return _Reading(ends, unsigned).verdict()
    except KeyUnreadable as error:
        return Verdict(0, str(error))
    except OSError as error:
        return Verdict(0, msg("the checkpoints outside the database cannot be read: {error}", error=str(error)))


class _Reading:
    """One pass over the chain, the file outside, and what the database keeps of both."""

    def __init__(self, ends: _Ends, unsigned: bool) -> None:
        self.ends, self.unsigned = ends, unsigned
        kept = list(checkpoints.kept_outside())
        self.last = kept[-1] if kept else None
        self.kept = [line for line in kept if line.checkpoint.file == kept[-1].checkpoint.file]
        self.whole = [line for line in self.kept if line.checkpoint.kind == "head"]
        self.sealed, self.previous = (ends.seal.entries, ends.seal.hash) if ends.seal else (0, GENESIS)
        self.count = 0
        self.told = self._told()

    def verdict(self) -> Verdict:
        seal = self.ends.seal
        if seal is not None and not _checkpoint_of(seal).is_signed_by_us(seal.signature):
            unsigned = msg(
                "the seal over the first {entries} entries is not signed with this installation's key",
                entries=self.sealed,
            )
            return Verdict(0, unsigned)
        if (wrong := self._differing(self.sealed, self.previous)) is not None:
            other = msg(
                "the seal over the first {entries} entries is not the one that {who} tells of",
                entries=self.sealed,
                who=wrong,
            )
            return Verdict(0, other)
        problem, at = self._first_bad_entry()
        problem = problem or self._wrong_end()
        return Verdict(
            self.count,
            problem,
            at,
            self.sealed,
            0 if problem else sum(line.checkpoint.entries >= self.sealed for line in self.whole),
            self._unsigned,
            seal.accepted_because if seal is not None else "",
        )

    def _first_bad_entry(self) -> tuple[str, int | None]:
        for entry in self._vouched_for():
            self.count += 1
            if entry.previous_hash != self.previous:
                return msg("entry {entry} does not follow the one before it", entry=entry.pk), entry.pk
            if digest(entry) != entry.hash:
                return msg("entry {entry} was changed after it was written", entry=entry.pk), entry.pk
            if (wrong := self._differing(self.sealed + self.count, entry.hash)) is not None:
                return msg("entry {entry} is not the one that {who} tells of", entry=entry.pk, who=wrong), entry.pk
            self.previous = entry.hash
        return "", None

    def _vouched_for(self) -> Iterator[AuditEntry]:
        """Entries after the seal. Those before one that a person accepted are still there, and prove nothing."""
        found = AuditEntry.objects.order_by("id")
        accepted = AuditEntry.objects.filter(hash=self.previous).first() if self.ends.seal else None
        return (found.filter(pk__gt=accepted.pk) if accepted is not None else found).iterator()

    def _differing(self, entries: int, hash: str) -> str | None:
        """Who tells of another entry at this place of the chain."""
        return next((who for told, who in self.told.get(entries, ()) if told != hash), None)

    def _told(self) -> dict[int, list[tuple[str, str]]]:
        """By number of entries: the hash of the last, and who tells of it."""
        found: dict[int, list[tuple[str, str]]] = {}
        for line in self.whole:
            told = (line.checkpoint.hash, msg("line {line} of the checkpoints outside the database", line=line.line))
            found.setdefault(line.checkpoint.entries, []).append(told)
        for row in self.ends.signatures:
            if row.kind != "broken" and checkpoint_of(row).is_signed_by_us(row.signature):
                found.setdefault(row.entries, []).append((row.hash, msg("a signature in the database")))
        return found

    def _wrong_end(self) -> str:
        """What is wrong with a chain whose entries hold together; empty: nothing."""
        return next(filter(None, (look() for look in self._looks)), "")

    @property
    def _looks(self) -> tuple[Callable[[], str], ...]:
        return (self._cut_off, self._wrong_file, self._wrong_head, self._found_broken, self._unguarded)

    def _cut_off(self) -> str:
        last = max(self.whole, key=lambda line: line.checkpoint.entries, default=None)
        end = self.sealed + self.count
        if last is None or last.checkpoint.entries <= end:
            return ""
        return msg(
            "the chain ends after {end} entries, line {line} of the checkpoints outside the database tells of "
            "{entries}",
            end=end,
            line=last.line,
            entries=last.checkpoint.entries,
        )

    def _wrong_file(self) -> str:
        """Whether the file is there, goes as far as it did, and has all its lines."""
        rows = self.ends.signatures
        if self.last is None:
            gone = msg("the checkpoints outside the database are gone: {file}", file=settings.AUDIT_FILE)
            return gone if rows else ""
        ours = next((row for row in rows if row.file == self.last.checkpoint.file), None)
        if problem := disagreement(self.last, ours):
            return problem
        strange = [row for row in rows if not checkpoint_of(row).is_signed_by_us(row.signature)]
        if strange:
            return msg(
                "what the database says of the checkpoints of another host is not signed with the key of this one"
            )
        numbers = sorted({line.checkpoint.entries for line in self.whole})
        missing = next((n for n, after in pairwise(numbers) if after != n + 1), None)
        if not missing:
            return ""
        return msg("lines after entry {entry} are missing in the checkpoints outside the database", entry=missing)

    def _wrong_head(self) -> str:
        end, head = self.sealed + self.count, self.ends.head
        if head is None:
            return msg("the head of the chain is gone, {end} entries are there", end=end) if end else ""
        if head != (end, self.previous):
            return msg("the chain ends after {end} entries, {written} were written", end=end, written=head[0])
        return ""

    def _found_broken(self) -> str:
        broken = next((line for line in self.kept if line.checkpoint.kind == "broken"), None)
        if broken is not None:
            return msg("it was found broken on {at}Z: {problem}", at=broken.at[:19], problem=broken.problem)
        return msg("another host found it broken") if any(r.kind == "broken" for r in self.ends.signatures) else ""

    def _unguarded(self) -> str:
        if self.unsigned or not self._unsigned:
            return ""
        oldest = AuditEntry.objects.order_by("-id")[self._unsigned - 1]
        if timezone.now() - oldest.at < SIGNED_WITHIN:
            return ""
        return msg(
            "nobody has signed entry {entry} and later ones; does a worker run that may read the key?", entry=oldest.pk
        )

    @property
    def _unsigned(self) -> int:
        ends = [line.checkpoint.entries for line in self.kept] + [row.entries for row in self.ends.signatures]
        return max(0, self.count - (max([self.sealed, *ends]) - self.sealed))


def _checkpoint_of(seal: AuditSeal) -> Checkpoint:
    return Checkpoint("accepted" if seal.accepted_because else "seal", seal.entries, seal.hash)
