"""Errors (RFC 9457), and which of them any call may answer with."""

from __future__ import annotations

from pydantic import BaseModel

from .fields import Answered


class FieldProblem(BaseModel):
    field: str
    message: str


class HeldBy(BaseModel):
    id: str
    number: str
    url: str


class Problem(Answered):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []
    held_by: HeldBy | None = None


WRONG: dict[int, type[BaseModel]] = {401: Problem, 403: Problem, 422: Problem, 429: Problem}
"""What every call may answer."""
NO_BODY: dict[int, type[BaseModel]] = {400: Problem, 413: Problem}
"""What a call that is sent something may answer besides: no JSON, or too much of it."""
