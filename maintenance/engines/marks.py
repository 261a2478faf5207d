"""Marks that a maintenance leaves on a server, signed with a key that no server knows.

Whoever may write where a mark stands can forge one or copy a genuine one. The signature covers the place it was
made for, so a copy elsewhere is void - and a genuine mark is still only one witness: what is opened, renamed or
dropped is compared with the journal's identity of it or with its owner as well.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Signer:
    """Signs and verifies marks. `key` is one that only those have who work on targets."""

    key: bytes = field(default=b"", repr=False)

    def digest(self, purpose: str) -> str:
        """Return 64 hexadecimal digits that nobody without the key can foretell."""
        return hmac.new(self.key, purpose.encode(), hashlib.sha256).hexdigest()

    def signed(self, mark: Mapping[str, object], place: str) -> dict[str, object]:
        """Return the mark with its signature. `place` names the object by what cannot be chosen, e.g. its oid."""
        bare = {name: value for name, value in mark.items() if name != "signature"}
        return {**bare, "signature": self._signature(bare, place)}

    def is_signed(self, mark: Mapping[str, object], place: str) -> bool:
        """Return whether this installation made exactly this mark for this place."""
        bare = {name: value for name, value in mark.items() if name != "signature"}
        return hmac.compare_digest(str(mark.get("signature", "")).encode(), self._signature(bare, place).encode())

    def _signature(self, bare: Mapping[str, object], place: str) -> str:
        # Sorted and in ASCII: the same text whatever a server's encoding did to the order of keys.
        return self.digest(json.dumps([place, bare], sort_keys=True))
