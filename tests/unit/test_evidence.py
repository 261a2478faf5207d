"""What steps leave as evidence comes back from the database as it was written, sentences included."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from maintenance.engines.messages import msg
from maintenance.engines.values import Check, Cut, Fingerprint, Image, Load, Restored, Stage
from maintenance.models import Node, StepRecord
from maintenance.models.evidence import (
    BackupEvidence,
    Baseline,
    ChecksBefore,
    CleanUp,
    CutEvidence,
    DataBack,
    EarlyChecks,
    ImageEvidence,
    LoadEvidence,
    Proof,
    RestoreEvidence,
    SideCopy,
    StageEvidence,
    StepEvidence,
    StillClosed,
)
from tests import records

WHY = msg("{n} rows are odd", n=3)
FAILED = Check("foreign key", "orders", False, WHY, of_rows=True, table="public.orders")
TORN = Fingerprint(None, None, "page 3")
KINDS = [
    StepEvidence(),
    BackupEvidence("/backups/shop.dump", 84),
    RestoreEvidence(None),
    RestoreEvidence(Restored("shop_dbm1", "definitions", 3, 100, 0.5, WHY)),
    EarlyChecks(None),
    EarlyChecks((FAILED,)),
    CutEvidence(Cut(3, 5, 0.1), ("open it", "start shop-web")),
    StillClosed(True),
    ChecksBefore((FAILED,), {"table orders": "d1"}, {"orders": ["key 1"]}, {"app@%": ["REQUIRE SSL"]}),
    Baseline({"orders": Fingerprint(4, "d1", recounted=True), "torn": TORN}),
    ImageEvidence(Image("copy", "shop_dbm1", 100)),
    ImageEvidence(Image("dump", "shop", 100, ("orders",), Path("/backups/shop-catch-up.dump"), "d1")),
    Proof("full", {"orders": Fingerprint(4, "d1"), "torn": TORN}, (FAILED,), 1, 4, (WHY, "plain"), ("customers",)),
    LoadEvidence(Load(2, 5.0, 100, 1, None, 3.5)),
    SideCopy("shop_dbm1"),
    StageEvidence(Stage("shop_dbm1_rehearsal", 100, 0.5, by_file=True)),
    DataBack(3, kept="shop_broken", image="shop_copy", foreign=("orders",)),
    CleanUp(("shop_dbm1",), ("mark",), ("shop_broken",)),
]


@pytest.mark.django_db
@pytest.mark.parametrize("evidence", KINDS, ids=lambda evidence: type(evidence).__name__)
def test_evidence_comes_back_from_the_database_as_it_was_written(evidence: StepEvidence) -> None:
    target = records.finished_run(tables=1).targets.get()
    line = StepRecord(target=target, node=Node.VERIFY, step="verify", part="anything", token=1)
    line.keep(evidence)
    line.save()
    found = StepRecord.objects.get(pk=line.pk).evidence(type(evidence))
    assert found == evidence
    if isinstance(found, Proof):
        assert found.problems[0].values == {"n": 3}  # type: ignore[attr-defined]


def test_every_kind_of_evidence_is_tried() -> None:
    def kinds(base: type[StepEvidence]) -> set[type[StepEvidence]]:
        return {base}.union(*(kinds(below) for below in base.__subclasses__()))

    assert {type(evidence) for evidence in KINDS} == kinds(StepEvidence)


def test_nobody_else_reads_or_writes_what_a_step_left() -> None:
    project = Path(__file__).resolve().parents[2]
    homes = {project / "maintenance" / "models" / name for name in ("record.py", "evidence.py")}
    for room in ("maintenance", "reports"):
        for file in (project / room).rglob("*.py"):
            if file not in homes and "migrations" not in file.parts:
                assert not re.search(r"\.result\b(?!\()", file.read_text()), file
