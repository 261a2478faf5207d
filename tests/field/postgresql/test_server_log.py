"""The server's log is read in any language and any format, and only of what concerns the target."""

from __future__ import annotations

import json

import pytest

from maintenance.engines.postgresql.diagnosis.server_log import parsed
from maintenance.engines.values import Thresholds
from tests.engines.lab_postgresql import PostgreSQLLab
from tests.engines.postgresql.world import engine

GERMAN = "FEHLER:  ungültige Seite in Block 3 von Relation base/16384/16390"
MISSING = "FEHLER:  konnte Datei „/tmp/none“ nicht zum Lesen öffnen: Datei oder Verzeichnis nicht gefunden"
CSV = (
    '2026-01-01 00:00:00 UTC,"u","{database}",1,"[local]",x.1,1,"SELECT",t,1/1,0,FEHLER,{code},"{words}",,,,,,,,,"",""'
)


def of_damage(text: str, format: str, prefix: str = "%m [%p] ") -> int:
    return sum(line.tells_of_damage({"shop", "postgres"}) for line in parsed(text, format, prefix))


@pytest.mark.parametrize(
    ("format", "prefix", "line", "counts"),
    [
        ("stderr", "%m [%p] ", f"2026-01-01 00:00:00 UTC [12] {GERMAN}", 1),
        ("stderr", "%m [%p] %q%u@%d ", f"2026-01-01 00:00:00 UTC [12] u@other {GERMAN}", 0),
        ("stderr", "%m [%p] %q%u@%d ", f"2026-01-01 00:00:00 UTC [12] u@shop {GERMAN}", 1),
        ("stderr", "%e %d: ", f"XX001 shop: {GERMAN}", 1),
        ("stderr", "%e %d: ", "XX002 shop: FEHLER:  Index »i« enthält unerwartete Nullseite bei Block 3", 1),
        ("stderr", "%e %d: ", f"58P01 shop: {MISSING}", 0),
        ("stderr", "%m [%p] ", f"2026-01-01 00:00:00 UTC [12] {MISSING}", 0),
        ("csvlog", "", "cut off\n" + CSV.format(database="shop", code="XX001", words="defekt"), 1),
        ("csvlog", "", "cut off\n" + CSV.format(database="other", code="XX001", words="defekt"), 0),
        ("csvlog", "", "cut off\n" + CSV.format(database="shop", code="42P01", words="fehlt"), 0),
        ("jsonlog", "", json.dumps({"dbname": "shop", "state_code": "XX001", "message": "defekt"}), 1),
        ("jsonlog", "", json.dumps({"state_code": "XX000", "message": "defekt"}) + "\nhalf a li", 1),
        ("jsonlog", "", json.dumps({"dbname": "shop", "state_code": "58P01", "message": MISSING}), 0),
    ],
)
def test_a_line_counts_by_its_code_or_the_file_that_it_names(format: str, prefix: str, line: str, counts: int) -> None:
    assert of_damage(line, format, prefix) == counts


def test_a_file_that_somebody_named_wrongly_is_no_damage(lab: PostgreSQLLab) -> None:
    lab.fill()

    def errors() -> list[str]:
        """Of the whole server: tests before this one may have left some."""
        with engine(lab) as made:
            found = made.diagnostics.diagnose(Thresholds()).findings
            return [str(finding.evidence) for finding in found if finding.code == "server_log_errors"]

    before = errors()
    with lab.application("postgres") as client, pytest.raises(Exception, match="No such file"):
        client.execute("COPY orders FROM '/nowhere/file'")
    assert errors() == before
