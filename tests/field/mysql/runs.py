"""A whole maintenance as the procedure asks an engine for it, seen from outside."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from maintenance.engines.archive import Seal
from maintenance.engines.errors import Damaged, EngineError
from maintenance.engines.mysql import Family
from maintenance.engines.values import Fingerprint, Loss, MaintenanceType, Thresholds
from tests.engines.lab_mariadb import MariaDBLab


@dataclass
class Ran:
    """What came of it. `refused`: the first action that failed; `way_back`: the restored copy was put in place."""

    before: dict[str, Fingerprint] = field(default_factory=dict)
    after: dict[str, Fingerprint] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    refused: EngineError | None = None


def maintain(
    engine: Family, lab: MariaDBLab, kind: MaintenanceType, allow_data_loss: bool = False, roll_back: bool = False
) -> Ran:
    """Diagnose, back up, cut, work, prove, open. `roll_back`: restore and exchange although the work went well."""
    ran = Ran()
    thresholds = Thresholds(minimum_bytes=1)
    engine.sessions.facts()
    diagnosis = engine.diagnostics.diagnose(thresholds)
    actions = engine.planner.plan(kind, diagnosis, thresholds, None, allow_data_loss)
    try:
        backup = engine.backups.back_up(engine.backups.methods[0], lab.folder, "shop", Seal())
    except Damaged:
        backup = engine.backups.back_up(engine.backups.methods[1], lab.folder, "shop", Seal())
    engine.lock.fence()
    gate = engine.gate.read_state()
    engine.gate.cut(gate, engine.tag.mark)
    ran.before = engine.verifier.fingerprint(None)
    engine.verifier.check(None)
    definitions = engine.verifier.definitions()
    image = engine.backups.image(backup, ran.before, lab.folder, "shop", Seal())
    for query in engine.benchmark.queries(None):
        engine.benchmark.measure(query, 1)
    try:
        for action in sorted(actions, key=lambda action: action.stage):
            ran.losses += engine.actions.perform(action, allow_data_loss).losses
    except EngineError as error:
        ran.refused = error
    if roll_back:
        side = engine.rollback.restore_beside(image, backup, Seal())
        restored = engine.verifier.fingerprint(None, side)
        wrong = [name for name in ran.before if restored.get(name) != ran.before[name]]
        assert wrong == [], f"restored otherwise: {wrong}"
        engine.rollback.swap(side, gate, engine.tag.mark)
        assert engine.verifier.definitions() == definitions
    ran.after = engine.verifier.fingerprint(None)
    engine.verifier.check(None)
    engine.gate.open(gate, None)
    assert engine.gate.differences(gate) == []
    engine.rollback.clean()
    assert [left for left in engine.rollback.leftovers() if "old" not in left] == []
    return ran


def make(lab: MariaDBLab, statements: Sequence[str]) -> None:
    """Say the statements one after another in one session of root's."""
    connection = lab.server.connect(lab.database)
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    connection.close()  # type: ignore[no-untyped-call]


def bytes_of(lab: MariaDBLab, schema: str) -> dict[str, str]:
    """Every file of a schema, by name, as a digest."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((lab.server.data / schema).iterdir())
        if path.suffix != ".part"
    }


def crashed(lab: MariaDBLab, schema: str, table: str, engine: str = "MyISAM") -> None:
    """A table of 5,000 rows, 64 bytes of it inverted in the middle, with the mark that the server leaves."""
    lab.sql(f"CREATE TABLE {schema}.{table} (id INT PRIMARY KEY, t VARCHAR(40), KEY (t)) ENGINE={engine}")
    lab.sql(f"INSERT INTO {schema}.{table} SELECT seq, CONCAT('line ', seq) FROM {lab.numbers(5000)}")
    lab.sql(f"FLUSH TABLES {schema}.{table}")
    data, index, place = {"MyISAM": (".MYD", ".MYI", 26), "Aria": (".MAD", ".MAI", 27)}[engine]
    file = lab.server.data / schema / f"{table}{data}"
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    with open(file, "r+b") as opened:
        opened.write(content)
    with open(file.with_suffix(index), "r+b") as opened:
        opened.seek(place)
        mark = opened.read(1)[0] | 2
        opened.seek(place)
        opened.write(bytes([mark]))


__all__ = ["Ran", "bytes_of", "crashed", "maintain", "make"]
