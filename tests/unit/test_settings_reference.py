"""docs/settings.md has every column of TBL-098 and every environment variable, with the default of the code."""

from __future__ import annotations

import re
from pathlib import Path

from maintenance.models import MaintenanceSetting

ROOT = Path(__file__).resolve().parents[2]
NOT_SETTINGS = {"id", "sealed_password", "proposed_rule", "created_at", "updated_at"}
FOR_TESTS = {"DBMAINT_CRASH_AT", "DBMAINT_CRASH_STRIDE"}


def rows(pattern: str) -> dict[str, str]:
    text = (ROOT / "docs/settings.md").read_text()
    return dict(re.findall(rf"^\| `({pattern})` \| ([^|]*) \|", text, re.MULTILINE))


def test_every_column_of_tbl_098_is_told_with_its_default() -> None:
    told = rows("[a-z_]+")
    fields = {f.name: f for f in MaintenanceSetting._meta.concrete_fields if f.name not in NOT_SETTINGS}
    assert set(told) == set(fields)
    for name, field in fields.items():
        if field.has_default() and not callable(field.default):
            wanted = ("yes" if field.default else "no") if isinstance(field.default, bool) else str(field.default)
            assert told[name].strip(" `").replace(",", "") == wanted, name


def test_every_environment_variable_is_told() -> None:
    used: set[str] = set()
    for folder in ("dbmaint_site", "maintenance", "reports"):
        for path in (ROOT / folder).rglob("*.py"):
            used |= set(re.findall(r"environ(?:\.get\(|\[)\s*\"(DBMAINT_[A-Z_]+)\"", path.read_text()))
    assert set(rows("DBMAINT_[A-Z_]+")) == used - FOR_TESTS
