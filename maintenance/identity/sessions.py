"""Sessions as rows that open nothing for whoever reads or writes them: the cookie is not in them.

The row is found by a hash of the cookie, and its content is signed for that cookie alone. So a copy of the control
database holds no session, and content copied from somebody's row into another is void.
"""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib.sessions.backends import db
from django.contrib.sessions.base_session import AbstractBaseSession
from django.contrib.sessions.models import Session
from django.utils import timezone

LONGEST = 40
"""Characters of the column: 160 bits of the SHA-256."""


class SessionStore(db.SessionStore):
    """Django's, with other keys in the table than in the cookies."""

    @property
    def key_salt(self) -> str:
        return f"{super().key_salt} {self.session_key}"

    def exists(self, session_key: str) -> bool:
        return super().exists(stored(session_key))

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key is not None:
            super().delete(stored(key))

    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        made = super().create_model_instance(data)
        made.session_key = stored(made.session_key)
        return made

    def _get_session_from_db(self) -> Session | None:
        key = stored(self.session_key) if self.session_key else ""
        found = Session.objects.filter(session_key=key, expire_date__gt=timezone.now()).first()
        if found is None:
            self._session_key = None
        return found


def stored(cookie: str) -> str:
    """Return the key of the row for this cookie."""
    return hashlib.sha256(cookie.encode()).hexdigest()[:LONGEST]
