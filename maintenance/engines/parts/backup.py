"""Backup files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from ..archive import Seal
from ..values import Backup, Fingerprint, Image


class Backups(ABC):
    """Backup files, and what a rollback restores from."""

    @property
    @abstractmethod
    def methods(self) -> tuple[str, str]:
        """The usual method and an alternate of a different kind (flowchart node R)."""

    @abstractmethod
    def back_up(self, method: str, folder: Path, stem: str, seal: Seal) -> Backup:
        """Write `folder/stem.<ext>` by way of `.part`, sync, read it back whole, rename."""

    @abstractmethod
    def image(self, backup: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: Seal) -> Image:
        """Under the cut: make what a rollback will restore from, with every row committed before the cut.

        `baseline` are the fingerprints under the cut. Damaged pages are copied, never a reason to fail
        where the engine has a way to copy by file.
        """
