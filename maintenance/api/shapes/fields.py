"""Kinds of values; and what every shape has in common."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from django.utils import timezone
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

CLOCKS_DIFFER = timedelta(minutes=5)


def storable(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("It must not contain the character NUL or half a surrogate pair")
    return text


def not_ahead(at: datetime) -> datetime:
    if at > timezone.now() + CLOCKS_DIFFER:
        raise ValueError("It lies in the future")
    return at


def whole(number: object) -> object:
    """28.0 is an integer in JSON."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


PLAIN = r"^[^\u0000]*$"


class Described:
    """What `storable` refuses, for the description of the API; half a surrogate pair no pattern can say."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), "pattern": PLAIN}


Text = Annotated[str, AfterValidator(storable), Described()]
Name = Annotated[Text, Field(min_length=1, max_length=500)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**31), BeforeValidator(whole)]
Size = Annotated[int, Field(strict=True, ge=0, lt=2**63), BeforeValidator(whole)]
Health = Annotated[int, Field(strict=True, ge=0, le=100), BeforeValidator(whole)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Severity = Literal["critical", "high", "medium", "low"]


class Sent(BaseModel):
    """A word too many is a mistake that must not pass unseen."""

    model_config = ConfigDict(extra="forbid")


class Answered(BaseModel):
    """More keys may come in later versions."""

    model_config = ConfigDict(extra="allow")
