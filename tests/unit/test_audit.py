"""The audit chain: what somebody does to it by plain SQL, with all the hashes recomputed, is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from maintenance.auditing import chain, entries, keys
from maintenance.models import AuditEntry, AuditHead, AuditSeal, AuditSignature

pytestmark = pytest.mark.django_db(transaction=True)


def sql(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def written(count: int = 6) -> list[int]:
    return [chain.record("dba1", "run.launched", f"run {n}", after={"n": n}).pk for n in range(count)]


def rehash() -> None:
    """What a forger does who has read our source, but not our key."""
    previous = chain.GENESIS
    for entry in AuditEntry.objects.order_by("id"):
        entry.previous_hash = previous
        entry.hash = previous = entries.digest(entry)
        sql(
            "UPDATE audit_entry SET previous_hash = %s, hash = %s WHERE id = %s",
            entry.previous_hash,
            previous,
            entry.pk,
        )
    sql("UPDATE audit_head SET hash = %s, entries = (SELECT count(*) FROM audit_entry)", previous)


def insert(pk: int) -> None:
    sql("UPDATE audit_entry SET id = -(id + 1000) WHERE id >= %s", pk)
    sql("UPDATE audit_entry SET id = -id WHERE id < 0")
    sql(
        "INSERT INTO audit_entry (id, at, actor, operation, object, before, after, after_break, previous_hash, hash) "
        "SELECT %s, at, 'nobody', operation, object, before, after, after_break, previous_hash, hex(randomblob(32)) "
        "FROM audit_entry WHERE id = %s",
        pk,
        pk + 1000,
    )


def swap(pk: int) -> None:
    sql("UPDATE audit_entry SET id = -1 WHERE id = %s", pk)
    sql("UPDATE audit_entry SET id = %s WHERE id = %s", pk, pk + 1)
    sql("UPDATE audit_entry SET id = %s WHERE id = -1", pk + 1)


def edit(pk: int) -> None:
    sql("UPDATE audit_entry SET actor = 'nobody' WHERE id = %s", pk)


def delete(pk: int) -> None:
    sql("DELETE FROM audit_entry WHERE id = %s", pk)


def truncate(pk: int) -> None:
    sql("DELETE FROM audit_entry WHERE id >= %s", pk)


FORGERIES: dict[str, Callable[[int], None]] = {
    "edit": edit,
    "delete": delete,
    "insert": insert,
    "reorder": swap,
    "truncate": truncate,
}


def test_an_untouched_chain_is_whole_and_its_checkpoints_outside_agree() -> None:
    written(6)
    verdict = chain.verify()
    assert (verdict.whole, verdict.entries, verdict.outside) == (True, 6, 6)


@pytest.mark.parametrize("kind", FORGERIES)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_row_that_somebody_touched_is_named(kind: str, place: int) -> None:
    pk = written(6)[place]
    FORGERIES[kind](pk)
    verdict = chain.verify()
    assert not verdict.whole
    if kind == "truncate":
        assert verdict.problem.startswith(f"the chain ends after {place} entries, line ")
    else:
        assert verdict.broken_at == (pk + 1 if kind == "delete" else pk)
        assert f"entry {verdict.broken_at} " in verdict.problem


@pytest.mark.parametrize("kind", FORGERIES)
@pytest.mark.parametrize("place", [1, 2, 4])
@pytest.mark.parametrize("outside", [True, False], ids=["with the file", "without the file"])
def test_recomputed_hashes_help_nobody_without_the_key(kind: str, place: int, outside: bool, settings: Any) -> None:
    pk = written(6)[place]
    if not outside:
        Path(settings.AUDIT_FILE).unlink()
    FORGERIES[kind](pk)
    rehash()
    assert not chain.verify().whole


def test_the_last_row_cut_off_is_found() -> None:
    pks = written(6)
    delete(pks[-1])
    rehash()
    assert "tells of 6" in chain.verify().problem


def test_going_back_to_an_earlier_state_of_the_database_is_found_by_the_file_outside() -> None:
    written(3)
    head = AuditHead.objects.values("hash", "entries").get(pk=1)
    signed = AuditSignature.objects.values("hash", "entries", "signature").get()
    last = written(3)
    sql("DELETE FROM audit_entry WHERE id >= %s", last[0])
    AuditHead.objects.filter(pk=1).update(**head)
    AuditSignature.objects.update(**signed)
    assert "tells of 6" in chain.verify().problem
    written(4)
    assert "is not the one that line" in chain.verify().problem


def test_a_chain_deleted_as_a_whole_is_found() -> None:
    written(3)
    sql("DELETE FROM audit_entry")
    sql("DELETE FROM audit_head")
    assert "after 0 entries" in chain.verify().problem


def test_a_line_that_a_crash_tore_or_a_stranger_wrote_says_nothing(settings: Any) -> None:
    written(2)
    path = Path(settings.AUDIT_FILE)
    forged = json.dumps({"at": "now", "entries": 99, "hash": "0" * 64, "signature": "00" * 64})
    path.write_text(path.read_text() + '\n{"at": "2026\n' + forged + "\n")
    written(1)
    verdict = chain.verify()
    assert (verdict.problem, verdict.outside) == ("", 3)


def test_an_entry_that_is_rolled_back_leaves_no_checkpoint() -> None:
    written(1)
    with transaction.atomic():
        written(1)
        transaction.set_rollback(True)
    assert chain.verify().whole


def test_a_full_disk_outside_never_stops_an_operation(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.AUDIT_FILE = "/dev/full/checkpoints.jsonl"
    written(1)
    assert AuditEntry.objects.count() == 1
    assert "could not be signed" in caplog.text
    assert chain.verify().unsigned == 1


def test_another_key_does_not_verify(settings: Any, tmp_path: Path) -> None:
    written(2)
    settings.AUDIT_KEY = tmp_path / "other.key"
    assert not chain.verify().whole


def test_an_unreadable_key_is_said(settings: Any, tmp_path: Path) -> None:
    written(1)
    settings.AUDIT_KEY = tmp_path / "broken.key"
    settings.AUDIT_KEY.write_text("no key")
    assert "broken.key" in chain.verify().problem


def test_the_key_is_readable_by_its_owner_only(settings: Any) -> None:
    written(1)
    assert Path(settings.AUDIT_KEY).stat().st_mode & 0o777 == 0o600
    assert len(keys.fingerprint()) == 16


def test_what_is_too_long_for_the_table_is_cut_and_verifies() -> None:
    chain.record("a" * 300, "x", "o" * 300)
    assert chain.verify().whole


def test_the_daily_checkpoint_is_an_entry_and_a_broken_chain_gets_none() -> None:
    pks = written(2)
    assert chain.checkpoint("console").whole
    assert AuditEntry.objects.filter(operation="audit.verified").count() == 1
    edit(pks[0])
    assert not chain.checkpoint("console").whole
    assert AuditEntry.objects.filter(operation="audit.verified").count() == 1


class TestSeal:
    def old(self, count: int) -> list[int]:
        """Entries of two years ago, written then."""
        now = timezone.now
        long_ago = now() - timedelta(days=730)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(timezone, "now", lambda: long_ago)
            return written(count)

    def year_ago(self) -> Any:
        return timezone.now() - timedelta(days=365)

    def test_retention_removes_the_oldest_part_and_the_rest_verifies(self) -> None:
        self.old(4)
        kept = written(3)
        assert chain.seal(self.year_ago(), "retention") == 4
        verdict = chain.verify()
        assert (verdict.problem, verdict.sealed, verdict.entries, verdict.outside) == ("", 4, 4, 5)
        assert AuditEntry.objects.order_by("id").first() == AuditEntry.objects.get(pk=kept[0])
        assert AuditEntry.objects.filter(operation="audit.sealed", actor="retention").exists()

    def test_nothing_old_is_nothing_to_do(self) -> None:
        written(2)
        assert chain.seal(self.year_ago(), "retention") == 0
        assert not AuditSeal.objects.exists()

    def test_the_newest_entry_always_stays(self) -> None:
        self.old(3)
        assert chain.seal(self.year_ago(), "retention") == 2
        assert chain.verify().whole

    def test_it_can_be_done_again_and_again(self) -> None:
        self.old(3)
        written(1)
        assert chain.seal(self.year_ago(), "retention") == 3
        assert chain.seal(timezone.now() + timedelta(1), "retention") == 1
        assert chain.verify().whole
        assert chain.verify().sealed == 4

    def test_a_broken_chain_is_not_made_good_by_removing_the_proof(self) -> None:
        edit(self.old(3)[1])
        written(1)
        with pytest.raises(chain.ChainBroken):
            chain.seal(self.year_ago(), "retention")
        assert AuditEntry.objects.count() == 4

    @pytest.mark.parametrize("kind", FORGERIES)
    def test_forgeries_after_it_are_found(self, kind: str) -> None:
        self.old(3)
        pks = written(4)
        chain.seal(self.year_ago(), "retention")
        FORGERIES[kind](pks[1])
        assert not chain.verify().whole

    def test_a_beginning_cut_off_without_our_key_is_found(self) -> None:
        pks = written(4)
        entry = AuditEntry.objects.get(pk=pks[1])
        sql("DELETE FROM audit_entry WHERE id <= %s", entry.pk)
        assert not chain.verify().whole
        AuditSeal.objects.create(entries=2, hash=entry.hash, signature="00" * 64, until=entry.at, by="nobody")
        assert "the seal over the first 2 entries is not signed" in chain.verify().problem

    def test_the_signature_of_a_head_is_none_for_a_seal(self) -> None:
        written(2)
        head = AuditSignature.objects.get()
        entry = AuditEntry.objects.order_by("-id")[0]
        written(2)
        sql("DELETE FROM audit_entry WHERE id <= %s", entry.pk)
        AuditSeal.objects.create(entries=2, hash=head.hash, signature=head.signature, until=entry.at, by="nobody")
        assert "is not signed" in chain.verify().problem

    def test_a_seal_that_is_deleted_is_found(self) -> None:
        self.old(3)
        written(1)
        chain.seal(self.year_ago(), "retention")
        sql("DELETE FROM audit_seal")
        assert not chain.verify().whole


def test_verify_audit_tells_what_agreed(capsys: pytest.CaptureFixture[str]) -> None:
    written(2)
    call_command("verify_audit")
    said = capsys.readouterr().out
    assert "The audit chain is whole: 2 entries." in said
    assert "2 checkpoints in " in said


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(forgeries=st.lists(st.tuples(st.sampled_from(sorted(FORGERIES)), st.integers(0, 6)), min_size=1, max_size=3))
@pytest.mark.long
def test_no_combination_of_forgeries_stays_hidden(forgeries: list[tuple[str, int]], settings: Any) -> None:
    for table in ("audit_entry", "audit_head", "audit_signature"):
        sql(f"DELETE FROM {table}")
    Path(settings.AUDIT_FILE).unlink(missing_ok=True)
    pks = written(8)
    true = list(AuditEntry.objects.order_by("id").values_list("actor", "object"))
    for kind, place in forgeries:
        FORGERIES[kind](pks[place])
    rehash()
    unchanged = list(AuditEntry.objects.order_by("id").values_list("actor", "object")) == true
    assert chain.verify().whole == unchanged
