"""The operator's own queries: the first value of the first row must be true.

Who registers and reads them may have no rights on the data: what is kept and shown of an answer is true, false, a
number, or the class of an error.
"""

from __future__ import annotations

from decimal import Decimal

from maintenance.engines.errors import EngineError, Interrupted
from maintenance.engines.messages import Message, msg
from maintenance.engines.values import Check

from .context import Context


def functional_checks(ctx: Context) -> list[Check]:
    """Return a check for each of the operator's queries. Raises Interrupted."""
    checks = []
    for query in ctx.setting.functional_checks:
        try:
            rows = ctx.engine.benchmark.query(query)
        except Interrupted:
            raise
        except EngineError as error:
            checks.append(Check("functional", query, False, error.guarded))
            continue
        refusal = refused(rows[0][0]) if rows and rows[0] else msg("returned no row")
        checks.append(Check("functional", query, refusal is None, refusal or ""))
    return checks


def refused(value: object) -> Message | None:
    """Return why this answer does not pass; None where it is true."""
    match value:
        case None:
            return msg("returned NULL")
        case bool() | int() | float() | Decimal():
            return None if value else msg("returned {value}", value="false" if value is False else f"{value:.15g}")
        case _:
            return msg("it answers neither true or false nor a number")


def newly_failed(ctx: Context) -> list[Check]:
    """Return those that passed under the cut before the work, and fail now."""
    failed = {c.object for c in ctx.checks_before.checks if c.name == "functional" and not c.passed}
    return [c for c in functional_checks(ctx) if not c.passed and c.object not in failed]
