"""The audit chain against somebody who can write the control database, or the file of checkpoints, but has no key."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from maintenance import tasks
from maintenance.auditing import alarm as alarming
from maintenance.auditing import chain, entries, keys, notary
from maintenance.models import AuditEntry, AuditHead, AuditSignature, Notification

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
        entry.previous_hash, before = previous, entry.hash
        entry.hash = previous = entries.digest(entry)
        if entry.hash != before:
            values = (entry.previous_hash, previous, entry.pk)
            sql("UPDATE audit_entry SET previous_hash = %s, hash = %s WHERE id = %s", *values)
    sql("UPDATE audit_head SET hash = %s, entries = (SELECT count(*) FROM audit_entry)", previous)


def edited(pk: int) -> None:
    sql("UPDATE audit_entry SET actor = 'nobody' WHERE id = %s", pk)
    rehash()


def inserted(pk: int) -> None:
    sql("UPDATE audit_entry SET id = -(id + 1000) WHERE id >= %s", pk)
    sql("UPDATE audit_entry SET id = -id WHERE id < 0")
    columns = "operation, object, before, after, after_break, previous_hash"
    sql(
        f"INSERT INTO audit_entry (id, at, actor, hash, {columns}) "
        f"SELECT %s, at, 'nobody', 'x', {columns} FROM audit_entry WHERE id = %s",
        pk,
        pk + 1000,
    )
    rehash()


def deleted(pk: int) -> None:
    sql("DELETE FROM audit_entry WHERE id = %s", pk)
    rehash()


def cut_off(pk: int) -> None:
    sql("DELETE FROM audit_entry WHERE id >= %s", pk)
    rehash()


FORGERIES: dict[str, Callable[[int], None]] = {
    "edited": edited,
    "inserted": inserted,
    "deleted": deleted,
    "cut off": cut_off,
}


@pytest.mark.parametrize("place", [0, 3, 5])
@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("later", [1, 4])
def test_the_next_entries_do_not_bless_a_forgery(forgery: str, place: int, later: int) -> None:
    pk = written(6)[place]
    FORGERIES[forgery](pk)
    written(later)
    verdict = chain.verify()
    assert not verdict.whole
    gone = forgery in ("deleted", "cut off")
    first_bad = AuditEntry.objects.filter(pk__gte=pk).order_by("id")[0].pk if gone else pk
    assert verdict.broken_at == first_bad
    assert f"entry {first_bad} " in verdict.problem


def test_the_first_bad_entry_is_named_and_the_exit_code_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    pks = written(6)
    edited(pks[2])
    written(2)
    with pytest.raises(SystemExit) as ended:
        call_command("verify_audit")
    assert ended.value.code == 1
    assert f"entry {pks[2]} " in capsys.readouterr().err


def test_a_break_is_said_in_the_chain_and_what_follows_is_marked(caplog: pytest.LogCaptureFixture) -> None:
    pks = written(4)
    edited(pks[1])
    written(1)
    assert AuditEntry.objects.filter(operation="audit.broken").count() == 1
    assert "The audit chain is broken" in caplog.text
    after = written(3)
    assert AuditEntry.objects.filter(pk__in=after, after_break=True).count() == 3
    assert AuditEntry.objects.filter(operation="audit.broken").count() == 1


def test_putting_everything_back_does_not_heal_it_silently() -> None:
    pks = written(4)
    before = list(AuditEntry.objects.order_by("id").values())
    edited(pks[1])
    written(1)
    for row in before:
        AuditEntry.objects.filter(pk=row["id"]).update(**{k: v for k, v in row.items() if k != "id"})
    assert not chain.verify().whole
    AuditSignature.objects.all().delete()
    assert not chain.verify().whole
    written(1)
    assert not chain.verify().whole


def test_what_follows_a_break_is_guarded_too() -> None:
    pks = written(3)
    edited(pks[0])
    later = written(4)
    sql("UPDATE audit_entry SET actor = 'nobody' WHERE id = %s", later[1])
    rehash()
    written(1)
    assert AuditEntry.objects.filter(operation="audit.broken").count() == 2


def test_an_older_signature_put_back_with_its_entries_is_found() -> None:
    written(3)
    head = AuditHead.objects.values("hash", "entries").get()
    signed = AuditSignature.objects.values("hash", "entries", "signature").get()
    sql("DELETE FROM audit_entry WHERE id >= %s", written(3)[0])
    AuditHead.objects.update(**head)
    AuditSignature.objects.update(**signed)
    written(5)
    assert not chain.verify().whole


def without(lines: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        kept = [line for line in path.read_text().splitlines() if line]
        path.write_text("\n".join(lines(kept)) + "\n")

    return change


FILES: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_text(""),
    "moved away": lambda path: path.rename(path.with_suffix(".old")),
    "without its last line": without(lambda lines: lines[:-1]),
    "without its last three lines": without(lambda lines: lines[:-3]),
    "without a line in between": without(lambda lines: lines[:2] + lines[3:]),
    "put back to an earlier state": lambda path: shutil.copy(path.with_suffix(".earlier"), path),
    "with its last line spoilt": without(lambda lines: [*lines[:-1], lines[-1].replace('"signature": "', '"s": "')]),
}


@pytest.mark.parametrize("change", FILES)
@pytest.mark.parametrize("later", [0, 2])
def test_a_file_of_checkpoints_that_is_gone_or_shortened_is_a_failure(
    change: str, later: int, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(settings.AUDIT_FILE)
    written(3)
    shutil.copy(path, path.with_suffix(".earlier"))
    written(3)
    FILES[change](path)
    written(later)
    with pytest.raises(SystemExit) as ended:
        call_command("verify_audit")
    assert ended.value.code == 1
    assert "broken" in capsys.readouterr().err


@pytest.fixture
def the_web(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From here on as a process whose account may not read the key. Call it to be the worker again."""
    keys.publish()

    def refuse(path: Path) -> Any:
        raise PermissionError(path)

    readable = keys._private
    monkeypatch.setattr(keys, "_private", refuse)
    return lambda: monkeypatch.setattr(keys, "_private", readable)


def test_the_web_appends_without_the_key_and_the_worker_signs(the_web: Callable[[], None]) -> None:
    written(3)
    assert not AuditSignature.objects.exists()
    verdict = chain.verify()
    assert (verdict.whole, verdict.unsigned) == (True, 3)
    the_web()
    notary.sign()
    verdict = chain.verify()
    assert (verdict.whole, verdict.unsigned, verdict.outside) == (True, 0, 3)


def test_the_worker_signs_no_forgery_of_what_was_signed(the_web: Callable[[], None]) -> None:
    worker = the_web
    worker()
    pks = written(3)
    edited(pks[0])
    notary.sign()
    assert f"entry {pks[0]} " in chain.verify().problem


def test_entries_that_nobody_signs_are_a_failure(the_web: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    written(2)
    later = timezone.now() + timedelta(minutes=11)
    monkeypatch.setattr(timezone, "now", lambda: later)
    assert "nobody has signed" in chain.verify().problem


def test_a_break_ends_by_a_persons_word_which_stays(capsys: pytest.CaptureFixture[str], settings: Any) -> None:
    edited(written(4)[1])
    written(1)
    call_command("accept_audit", reason="restored from the backup of Monday, ticket 4711")
    verdict = chain.verify()
    assert verdict.whole, verdict.problem
    accepted = AuditEntry.objects.get(operation="audit.accepted").after
    assert accepted is not None
    assert accepted["reason"].endswith("4711")
    fresh = written(2)
    assert not AuditEntry.objects.filter(pk__in=fresh, after_break=True).exists()
    call_command("verify_audit")
    assert "ticket 4711" in capsys.readouterr().out
    edited(fresh[0])
    assert not chain.verify().whole
    assert len(list(Path(settings.AUDIT_FILE).parent.glob("checkpoints.jsonl.*"))) == 1


def test_a_whole_chain_has_nothing_to_accept(capsys: pytest.CaptureFixture[str]) -> None:
    written(2)
    call_command("accept_audit", reason="because")
    assert "nothing to accept" in capsys.readouterr().out
    assert not AuditEntry.objects.filter(operation="audit.accepted").exists()


class TestTheAlarm:
    """Nobody has to ask whether the chain is whole."""

    def told(self, people: dict[str, User]) -> list[str]:
        """What dashboard, metrics and mail say: the sentence, the number, the messages."""
        client = Client()
        client.force_login(people["manager"])
        page = client.get("/").content.decode()
        [alarm] = [line for line in client.get("/metrics").content.decode().splitlines() if "audit_alarm " in line][-1:]
        sentence = alarming.alarm()
        assert (sentence is None) is (alarm.split()[-1] == "0.0")
        assert sentence is None or str(sentence) in html.unescape(page)
        return [str(sentence or ""), *Notification.objects.filter(event="audit_broken").values_list("body", flat=True)]

    @pytest.fixture(autouse=True)
    def _addresses(self, settings: Any) -> None:
        settings.CONFIG_FILE.write_text(json.dumps({"notifications": {"stakeholders": ["json://localhost/x"]}}))

    def test_is_silent_while_it_is_whole(self, people: dict[str, User]) -> None:
        written(3)
        assert self.told(people) == [""]

    @pytest.mark.parametrize("forgery", FORGERIES)
    def test_tells_a_break_that_the_next_entry_shows(self, forgery: str, people: dict[str, User]) -> None:
        pk = written(6)[5]
        FORGERIES[forgery](pk)
        written(1)
        sentence, message = self.told(people)
        assert "found broken" in sentence
        assert "/audit/" in message

    def test_tells_a_break_that_the_daily_look_finds_and_again_the_next_day(self, people: dict[str, User]) -> None:
        pk = written(6)[1]
        sql("UPDATE audit_entry SET actor = 'nobody' WHERE id = %s", pk)
        for _ in range(2):
            tasks.check_audit()
        sentence, message = self.told(people)
        assert "found broken" in sentence
        assert f"entry {pk} was changed after it was written" in message
        Notification.objects.update(created_at=timezone.now() - timedelta(days=1))
        tasks.check_audit()
        assert len(self.told(people)) == 3

    def test_tells_that_the_checkpoints_are_gone(self, people: dict[str, User], settings: Any) -> None:
        written(2)
        settings.AUDIT_FILE.unlink()
        written(2)
        sentence, message = self.told(people)
        assert "checkpoints of the audit chain are gone" in sentence
        assert "gone" in message

    def test_tells_that_nobody_signs(self, people: dict[str, User], monkeypatch: pytest.MonkeyPatch) -> None:
        written(2)
        monkeypatch.setattr(notary, "signing_key", lambda: None)
        written(2)
        assert self.told(people) == [""]
        later = timezone.now() + timedelta(minutes=11)
        monkeypatch.setattr(timezone, "now", lambda: later)
        assert "Nobody has signed" in str(alarming.alarm())

    def test_ends_by_a_persons_word(self, people: dict[str, User]) -> None:
        edited(written(4)[2])
        written(1)
        assert self.told(people)[0]
        chain.accept("root (command line)", "a restore of the control database on purpose")
        assert not self.told(people)[0]
