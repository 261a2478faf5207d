"""The sentences of a run in the active language.

`outcome` speaks English. The records behind it keep template and values of each sentence; where the
catalog knows the template, the same sentence is said again in the reader's language.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from maintenance.models import MaintenanceRun, StepRecord
from maintenance.text.render import again, in_english

Said = tuple[str, Mapping[str, Any]]


class Retelling:
    """Call it with an English sentence of the run."""

    def __init__(self, run: MaintenanceRun) -> None:
        self._known = {} if in_english() else {text: again(text, said) for text, said in _sentences(run) if said}

    def __call__(self, sentence: str | None) -> str:
        return self._known.get(sentence or "", sentence or "")


def _proved(line: StepRecord) -> Iterator[Said]:
    """What checks and the proof objected to."""
    found = line.result or {}
    for check in found.get("checks") or ():
        yield check["detail"], check.get("said") or {}
    yield from zip(found.get("problems") or (), found.get("problems_said") or (), strict=False)


def _sentences(run: MaintenanceRun) -> Iterator[Said]:
    for target in run.targets.prefetch_related("steps", "actions", "states", "backup_files"):
        yield target.ended_because, target.ended_said
        for line in target.steps.all():
            yield line.sentence, line.said
            yield from _proved(line)
        for action in target.actions.all():
            yield action.reason, action.reason_said
            yield action.sentence, action.said
            for loss in action.losses:
                yield loss["detail"], loss.get("said") or {}
        for backup in target.backup_files.all():
            yield backup.error, backup.error_said
        for state in target.states.all():
            for finding in state.findings:
                said = finding.get("said") or {}
                for part in ("evidence", "hint"):
                    yield finding[part], said.get(part) or {}
