"""Columns that hold messages: JSON in the database, `Message` in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Expression

from maintenance.engines.messages import Message, dump, load

if TYPE_CHECKING:
    MessageColumn = models.JSONField[str, Message]
    JsonColumn = models.JSONField[Any, Any]
else:
    MessageColumn = JsonColumn = models.JSONField


class MessagesField(JsonColumn):
    """JSON in which texts may be messages, at any depth."""

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        """Store messages as template and values."""
        return super().get_db_prep_value(dump(value), connection, prepared)

    def from_db_value(self, value: str | None, expression: Expression, connection: BaseDatabaseWrapper) -> Any:
        """Return the JSON with its messages."""
        return load(super().from_db_value(value, expression, connection))

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        """In the database it is plain JSON, and so migrations need nothing of ours."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs


class MessageField(MessageColumn):
    """One message; plain text is taken as a message without values, and no message is the empty one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"default": str, "blank": True, **kwargs})

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        """Store template and values."""
        return super().get_db_prep_value(dump(value), connection, prepared)

    def from_db_value(self, value: str | None, expression: Expression, connection: BaseDatabaseWrapper) -> Message:
        """Return the message."""
        loaded = load(super().from_db_value(value, expression, connection))
        return loaded if isinstance(loaded, Message) else Message(loaded or "")

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        """In the database it is plain JSON, and so migrations need nothing of ours."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs
