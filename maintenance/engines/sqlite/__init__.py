"""SQLite: one file, no server. Other processes are kept out by the file's own lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from sqlalchemy import URL

from ..archive import Seal
from ..base import AT_WORK_ELSEWHERE, CLOSED_BY_ANOTHER, Engine
from ..messages import Sentence
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
    Sample,
    Tag,
    Thresholds,
)
from . import actions, benchmark, cleaning, rollback, verification
from .access_gate import by_hand, differences, marked, open_gate, read_gate
from .access_gate import cut as cutting
from .backup import METHODS, back_up, image
from .diagnosis import diagnose
from .file import DatabaseFile
from .grants import grants
from .identity import facts
from .maintenance_lock import Claim
from .names import resolve, tables_in
from .planning import plan


class SQLite(Engine):
    """One database file. Work under the cut shares the one connection that holds it, in turn.

    Use one object for a run target: a second one in the same process is shut out like anybody else.
    """

    name: ClassVar[str] = "sqlite"
    backup_methods: ClassVar[tuple[str, str]] = METHODS
    hold_dies_with_worker: ClassVar[bool] = True

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

    def resolve(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        self.file.require()
        with self.file.working("listing the tables of", self.file.name) as connection:
            return resolve(list(tables_in(connection)), names)

    def fence(self) -> int:
        """An older worker that still lives is killed: it would write on when it wakes."""
        self.file.require()
        ended = self._claim.take(self.limits.lock_seconds)
        self.refuse_anothers(marked(self.file))
        return ended

    def kept_by_another(self) -> Sentence | None:
        if self._claim.is_anothers():
            return AT_WORK_ELSEWHERE
        mark = marked(self.file)
        return CLOSED_BY_ANOTHER if mark is not None and self.tag.is_anothers(mark) else None

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

    def read_gate(self) -> Json:
        return read_gate(self.file)

    def cut(self, gate: Json, marker: Json) -> Cut:
        self._claim.take(self.limits.lock_seconds)
        return cutting(self.file, gate, marker)

    def open_gate(self, gate: Json, share: float | None) -> None:
        """SQLite knows no share: from the first stage on everybody may come in; None removes the marker."""
        open_gate(self.file, gate, share)

    def gate_differences(self, gate: Json) -> list[str]:
        return differences(self.file, gate)

    def is_cut(self) -> bool:
        return self.file.holding

    def by_hand(self, gate: Json) -> list[str]:
        return by_hand(self.file, gate)

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

    def catalog(self, side: str | None = None) -> dict[str, str]:
        return verification.catalog(self.file, side)

    def query(self, sql: str) -> list[tuple[object, ...]]:
        return benchmark.query(self.file, sql)

    # -- benchmark ---------------------------------------------------------------------------------

    def benchmark_queries(self, tables: Sequence[str] | None) -> list[str]:
        return benchmark.queries(self.file, tables)

    def measure(self, query: str, repeats: int) -> Sample:
        return benchmark.measure(self.file, query, repeats)

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
