"""Kinds of values; and what every shape has in common."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from django.utils import timezone
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

CLOCKS_DIFFER = timedelta(minutes=5)


def storable(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("It must not contain the character NUL or half a surrogate pair")
    return text


def not_ahead(at: datetime) -> datetime:
    if at > timezone.now() + CLOCKS_DIFFER:
        raise ValueError("It lies in the future")
    return at


Text = Annotated[str, AfterValidator(storable)]
Name = Annotated[Text, Field(min_length=1, max_length=500)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Size = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Severity = Literal["critical", "high", "medium", "low"]


class Sent(BaseModel):
    """A word too many is a mistake that must not pass unseen."""

    model_config = ConfigDict(extra="forbid")


class Answered(BaseModel):
    """More keys may come in later versions."""

    model_config = ConfigDict(extra="allow")
