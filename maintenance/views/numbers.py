"""Numbers in the query of an address."""

from __future__ import annotations

from django.http import HttpRequest

DIGITS = 17
"""As many as the longest that this console writes there: microseconds since 1970."""


def number_in(request: HttpRequest, name: str) -> int | None:
    """None where the query has none of this name, or something else."""
    text = request.GET.get(name, "")
    return int(text) if text.isdecimal() and len(text) <= DIGITS else None
