"""The sentences of a run in the active language.

`outcome` speaks English. The records behind it keep template and values of each sentence; where the
catalog knows the template, the same sentence is said again in the reader's language.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.utils.translation import get_language, gettext, ngettext

from maintenance.models import MaintenanceRun, StepRecord
from maintenance.text import labels

PHRASES = ("doing", "words", "check", "why")
"""Values that may be phrases of ours; `makemessages` collects them. Never the name of a table, which may be a word."""
Said = tuple[str, Mapping[str, Any]]


class Retelling:
    """Call it with an English sentence of the run."""

    def __init__(self, run: MaintenanceRun) -> None:
        self._known = {} if _english() else {text: again(text, said) for text, said in _sentences(run) if said}

    def __call__(self, sentence: str | None) -> str:
        return self._known.get(sentence or "", sentence or "")


def again(text: str, said: Mapping[str, Any]) -> str:
    """A translation that does not fit its values never costs the report: the English text stays."""
    if not said.get("template") or _english():
        return text
    try:
        return _told(said)
    except (KeyError, IndexError, ValueError):
        return text


def each_again(texts: Sequence[str], said: Sequence[Mapping[str, Any]]) -> list[str]:
    """Older records keep the text alone."""
    return [again(text, said[number] if number < len(said) else {}) for number, text in enumerate(texts)]


def _told(said: Mapping[str, Any]) -> str:
    if not said["template"]:
        return ""  # gettext would answer with the head of the catalogue.
    values = {name: _value(name, value) for name, value in (said.get("values") or {}).items()}
    many = said.get("many")
    template = ngettext(said["template"], many, int(values["n"])) if many else gettext(said["template"])
    return template.format(**values) if values else template


def _value(name: str, value: Any) -> Any:
    """A sentence inside a sentence is told too, and so are our own phrases; all else is a name, a number, or the
    words of a server."""
    if isinstance(value, Mapping):
        return _told(value)
    if name == "step":
        return labels.label(labels.STEPS, value)
    return gettext(value) if name in PHRASES and value else value


def _english() -> bool:
    return (get_language() or "en").startswith("en")


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
