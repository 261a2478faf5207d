"""SQLite: one file, no server. Other processes are kept out by the file's own lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

from sqlalchemy import URL

from ..archive import Seal
from ..base import UndividedEngine
from ..errors import Unable
from ..messages import say
from ..parts import Measure, Rows
from ..values import (
    Action,
    Backup,
    Check,
    Cut,
    Diagnosis,
    Facts,
    Fingerprint,
    Grant,
    Image,
    Json,
    Limits,
    MaintenanceType,
    Performed,
    Progress,
    Tag,
    Thresholds,
)
from . import actions, benchmark, cleaning, rollback, verification
from .access_gate import cut as cutting
from .access_gate import differences, manual_commands, marked, open_gate, read_state
from .backup import METHODS, back_up, image
from .diagnosis import diagnose
from .file import DatabaseFile
from .grants import grants
from .identity import facts
from .maintenance_lock import Claim
from .names import folded, spellings, tables_in
from .planning import plan


class SQLite(UndividedEngine):
    """One database file. Work under the cut shares the one connection that holds it, in turn.

    Use one object for a run target: a second one in the same process is shut out like anybody else.
    """

    name: ClassVar[str] = "sqlite"
    methods: ClassVar[tuple[str, str]] = METHODS
    dies_with_worker: ClassVar[bool] = True

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        super().__init__(url, tag, limits)
        path = Path(url.database or "")
        # Sides and locks belong to the file, whatever link leads to it.
        self.file = DatabaseFile(path.resolve() if path.is_absolute() else path, tag, limits, self.stopping)
        self._claim = Claim(self.file.sides, tag, self)

    # -- who is it ---------------------------------------------------------------------------------

    def facts(self) -> Facts:
        return facts(self.file)

    def grants(self, role: str | None = None) -> list[Grant]:
        return grants(self.file, role)

    def spellings(self) -> dict[str, list[str]]:
        self.file.require()
        with self.file.working("listing the tables of", self.file.name) as connection:
            return spellings(tables_in(connection))

    def folded(self, name: str) -> str:
        return folded(name)

    def acquire(self) -> int:
        """An older worker that still lives is killed: it would write on when it wakes."""
        self.file.require()
        return self._claim.take(self.limits.lock_seconds)

    def is_held_elsewhere(self) -> bool:
        return self._claim.is_anothers()

    def mark(self) -> Mapping[str, object] | None:
        return marked(self.file)

    def end_statements(self) -> None:
        self.file.interrupt()

    def close(self) -> None:
        self.file.give_back()
        self._claim.release()

    # -- B diagnose, C decide ----------------------------------------------------------------------

    def diagnose(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        return diagnose(self.file, thresholds, tables)

    def plan(
        self,
        kind: MaintenanceType,
        diagnosis: Diagnosis,
        thresholds: Thresholds,
        tables: Sequence[str] | None,
        allow_data_loss: bool,
    ) -> list[Action]:
        return plan(self.file.name, kind, diagnosis, thresholds, tables, allow_data_loss)

    # -- D back up, R alternate --------------------------------------------------------------------

    def back_up(self, method: str, folder: Path, stem: str, seal: Seal) -> Backup:
        return back_up(self.file, method, folder, stem, seal)

    # -- F cut -------------------------------------------------------------------------------------

    def read_state(self) -> Json:
        return read_state(self.file)

    def cut(self, gate: Json, marker: Json) -> Cut:
        self._claim.take(self.limits.lock_seconds)
        return cutting(self.file, gate, marker)

    def open(self, gate: Json, share: float | None) -> None:
        """SQLite knows no share: from the first stage on everybody may come in; None removes the marker."""
        open_gate(self.file, gate, share)

    def differences(self, gate: Json) -> list[str]:
        return differences(self.file, gate)

    def arm(self, gate: Json, seconds: float) -> None:
        raise Unable("arming the switch of", self.file.name, say("a lock on a file ends with its process anyway"))

    def disarm(self) -> None:
        """Never armed."""

    def keepalive(self) -> None:
        """Never armed."""

    def is_cut(self) -> bool:
        return self.file.holding

    def manual_commands(self, gate: Json) -> list[str]:
        return manual_commands(self.file, gate)

    def image(self, backup: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: Seal) -> Image:
        return image(self.file, folder, stem)

    # -- G maintain --------------------------------------------------------------------------------

    def perform(self, action: Action, allow_data_loss: bool) -> Performed:
        with self.file.alone(action.kind, action.object):
            return actions.perform(self.file, action, allow_data_loss)

    def progress(self) -> list[Progress]:
        """What is in hand; SQLite does not say how far it is."""
        return [Progress(self.file.name, None, doing) for doing in self.file.in_hand()]

    # -- H verify ----------------------------------------------------------------------------------

    def fingerprint(self, tables: Sequence[str] | None, side: str | None = None) -> dict[str, Fingerprint]:
        return verification.fingerprints(self.file, tables, side)

    def check(self, tables: Sequence[str] | None, thorough: bool = True) -> list[Check]:
        return verification.checks(self.file, tables, thorough)

    def definitions(self, side: str | None = None) -> dict[str, str]:
        return verification.catalog(self.file, side)

    def query(self, sql: str) -> Rows:
        return benchmark.query(self.file, sql)

    # -- benchmark ---------------------------------------------------------------------------------

    def queries(self, tables: Sequence[str] | None) -> list[str]:
        return benchmark.queries(self.file, tables)

    @property
    def cost_unit(self) -> str:
        return benchmark.COST_UNIT

    def measuring(self, query: str) -> AbstractContextManager[Measure]:
        return benchmark.measuring(self.file, query)

    # -- S roll back -------------------------------------------------------------------------------

    def restore_beside(self, image: Image, backup: Backup, seal: Seal) -> str:
        self.raise_if_stopping("restoring", self.file.name)
        return rollback.restore_beside(self.file, image)

    def swap(self, side: str, gate: Json, marker: Json) -> str:
        self.raise_if_stopping("putting back", self.file.name)
        self.cut(gate, marker)
        return rollback.swap(self.file, Path(side))

    # -- afterwards --------------------------------------------------------------------------------

    def leftovers(self) -> list[str]:
        return cleaning.leftovers(self.file)

    def clean(self, keep: Sequence[str] = ()) -> list[str]:
        return cleaning.clean(self.file, keep)
