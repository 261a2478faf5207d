"""Where a report is put: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from threading import get_ident


def put(made: bytes, path: Path) -> Path:
    """Replaces an earlier file in one move, so that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}")
    try:
        draft.write_bytes(made)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path
