"""Sizes of what was worked on, each object counted once however many pieces of work it took."""

from __future__ import annotations

from collections.abc import Iterable

from maintenance.models import ActionRecord, RunTarget, StepState

Sized = tuple[str, int, int]
"""Object, bytes before and after one piece of work."""


def of_objects(work: Iterable[Sized]) -> tuple[int, int] | None:
    """Return the bytes of all objects before their first piece of work and after their last; None without any."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for object, before, after in work:
        first.setdefault(object, before)
        last[object] = after
    return (sum(first.values()), sum(last.values())) if first else None


def of_target(target: RunTarget) -> tuple[int, int] | None:
    """Return the same of the finished work of a target whose sizes are known, in the order it was done."""
    records = ActionRecord.objects.filter(
        target=target, state=StepState.FINISHED, bytes_before__isnull=False, bytes_after__isnull=False
    ).order_by("id")
    return of_objects((r.object, r.bytes_before or 0, r.bytes_after or 0) for r in records)
