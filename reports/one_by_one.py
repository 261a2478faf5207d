"""The runs of a period one by one: what was wrong and done, who decided, what it cost, and whether it helped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from maintenance.models import MaintenanceRun, RunTarget, Status, StepState
from maintenance.results.comparison import of_target
from maintenance.results.statistics import rows_lost
from maintenance.text import labels
from maintenance.text.render import render

from .sheets import Column, Sheet

MOST_FINDINGS = 3
"""Of a run; the rest is a number."""
RANK = {"critical": 0, "high": 1, "medium": 2}
KEPT = (Status.SUCCEEDED, Status.NEEDS_OPERATOR)
"""What was lost there is lost; everything else was brought back."""


@dataclass(frozen=True)
class Line:
    """One run in words."""

    run: MaintenanceRun
    wrong: str
    done: str
    decided: str
    lost: str
    outage: str
    helped: str

    @property
    def bad(self) -> bool:
        """Return whether it did not end as wanted."""
        return self.run.status not in (Status.SUCCEEDED, Status.CANCELLED)


def line(run: MaintenanceRun) -> Line:
    """Return the run in words, from what `statistics.listed` brought."""
    targets = list(run.targets.all())
    return Line(
        run,
        _wrong(targets),
        _done(targets),
        _decided(run),
        _lost(targets),
        "—" if run.outage_seconds is None else labels.duration(run.outage_seconds),
        _helped(targets),
    )


def _wrong(targets: Sequence[RunTarget]) -> str:
    """The worst findings of the diagnosis before the work."""
    looks = [(target, list(target.states.all())) for target in targets]
    found = [(target, finding) for target, states in looks if states for finding in states[-1].findings]
    if not found:
        return _("no finding") if any(states for _target, states in looks) else _("not diagnosed")
    found.sort(key=lambda pair: RANK.get(str(pair[1]["severity"]), len(RANK)))
    told = [_finding(f["object"], render(f["evidence"])) for _target, f in found[:MOST_FINDINGS]]
    rest = len(found) - len(told)
    if rest:
        told.append(ngettext("{count} more finding", "{count} more findings", rest).format(count=labels.count(rest)))
    return "; ".join(told)


def _finding(object: str, evidence: str) -> str:
    return f"{object}: {evidence}".rstrip(".") if object else evidence.rstrip(".")


def _done(targets: Iterable[RunTarget]) -> str:
    """What was finished, by kind; what failed beside it."""
    actions = [action for target in targets for action in target.actions.all()]
    kinds = Counter(a.action for a in actions if a.state == StepState.FINISHED)
    failed = sum(a.state == StepState.FAILED for a in actions)
    told = [f"{labels.label(labels.ACTIONS, kind)} × {count:,}" for kind, count in kinds.most_common()]
    if failed:
        told.append(
            ngettext("{count} piece of work failed", "{count} pieces of work failed", failed).format(count=failed)
        )
    return ", ".join(told) or _("nothing was changed")


def _decided(run: MaintenanceRun) -> str:
    asked = _("{person} asked").format(person=run.requested_by_name)
    approval = getattr(run, "approval", None)
    if approval is None:
        return asked
    waited = labels.duration(max((approval.at - run.created_at).total_seconds(), 0.0))
    if approval.broken_glass:
        word = _("{person} began without approval: {reason}").format(
            person=approval.by_name, reason=approval.broken_glass
        )
    else:
        word = _("{person} approved after {time}").format(person=approval.by_name, time=waited)
    return f"{asked}, {word}"


def _lost(targets: Iterable[RunTarget]) -> str:
    kept = [a for t in targets if t.status in KEPT for a in t.actions.all() if a.state != StepState.STARTED]
    return lost(*rows_lost(loss for action in kept for loss in action.losses))


def lost(rows: int, unknown: int) -> str:
    """'0', '12', or '≥ 12' where of some object nobody knows."""
    return f"≥ {labels.count(rows)}" if unknown else labels.count(rows)


def _helped(targets: Sequence[RunTarget]) -> str:
    measured = [t for t in targets if t.change and t.status == Status.SUCCEEDED]
    told = [f"{t.database}: {change(t)}" if len(targets) > 1 else change(t) for t in measured]
    return "; ".join(told) or _("not measured")


def change(target: RunTarget) -> str:
    """Return what became of the times of all queries together, with the interval that says how sure it is."""
    return render(of_target(target))


def sheet(lines: Sequence[Line]) -> Sheet:
    """The same as a table of the PDF."""
    columns = [
        Column(_("Run"), "name", 17),
        Column(_("Databases"), "name"),
        Column(_("Outcome"), width=17),
        Column(_("Outage"), "number", 15),
        Column(_("Rows lost"), "number", 12),
        Column(_("What was wrong"), "below"),
        Column(_("What was done"), "below"),
        Column(_("Who decided"), "below"),
        Column(_("Did it help"), "below"),
    ]
    rows = [
        [
            each.run.number,
            ", ".join(each.run.target_databases),
            str(each.run.get_status_display()),
            each.outage,
            each.lost,
            *(
                _("{name}: {words}").format(name=column.heading, words=words)
                for column, words in zip(columns[5:], (each.wrong, each.done, each.decided, each.helped), strict=True)
            ),
        ]
        for each in lines
    ]
    return Sheet(columns, rows, ["bad" if each.bad else "" for each in lines])
