"""The operator's own queries: the first value of the first row must be true."""

from __future__ import annotations

from collections.abc import Sequence

from maintenance.engines.errors import EngineError, Interrupted
from maintenance.engines.messages import msg
from maintenance.engines.values import Check
from maintenance.models import Node

from .context import Context


def functional_checks(ctx: Context) -> list[Check]:
    checks = []
    for query in ctx.setting.functional_checks:
        try:
            rows = ctx.engine.benchmark.query(query)
            passed = bool(rows and rows[0] and rows[0][0])
            detail = _answer(rows) if not passed else ""
        except Interrupted:
            raise
        except EngineError as error:
            passed, detail = False, error.sentence
        checks.append(Check("functional", query, passed, detail))
    return checks


def _answer(rows: Sequence[tuple[object, ...]]) -> str:
    return msg("returned {value}", value=repr(rows[0][0])) if rows and rows[0] else msg("returned no row")


def newly_failed(ctx: Context) -> list[Check]:
    """Those that passed under the cut before the work, and fail now."""
    before = ctx.recorded(Node.CUT_CONNECTIONS, "check") or {"checks": []}
    listed = before["checks"]
    assert isinstance(listed, list)
    failed = {c["object"] for c in listed if c["name"] == "functional" and not c["passed"]}
    return [c for c in functional_checks(ctx) if not c.passed and c.object not in failed]
