"""The flowchart of the specification (4.1) as one table.

`docs/procedure.md` draws the same table; a test holds the two together. `edges` are the specification's; `own` are
the ways out that it leaves unsaid. `runner.py` walks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from maintenance.models import Node, Status

Edge = Literal["finished", "failed", "stopped", "nothing", "not improved", "opened"]


class Service(Enum):
    """What a target at this node means for the people who use the database."""

    UNTOUCHED = auto()
    CLOSED = auto()
    """Applications or connections may be down, and the way out is the rollback."""
    PROVEN = auto()
    """The same, but the work is proven: the way out is the ordinary one."""
    RETURNING = auto()
    OVER = auto()


@dataclass(frozen=True)
class Row:
    """One box: how the drawing names it, where its outcomes lead, what holds while a target is there."""

    label: str | Promise
    service: Service
    edges: Mapping[Edge, Node] = field(default_factory=dict)
    own: Mapping[Edge, Node] = field(default_factory=dict)
    cancellable: bool = False
    """Whether a cancel or the time limit ends it. Ways back to service are never cut short."""
    answers_failure: bool = False
    """Whether its lines belong to the error log, as the record of the response."""
    begins: Status | None = None
    """How a target ends that comes here first of all the boxes that decide it."""
    ends_in: Status | None = None

    @property
    def outage(self) -> bool:
        """Whether applications or connections may be down."""
        return self.service in (Service.CLOSED, Service.PROVEN)

    @property
    def leads_to(self) -> Mapping[Edge, Node]:
        """Return all edges."""
        return {**self.edges, **self.own}


N, S = Node, Service
FLOWCHART: Mapping[Node, Row] = {
    N.START: Row(_("start"), S.UNTOUCHED, {"finished": N.DIAGNOSE}, {"stopped": N.END_IN_FAILURE}, cancellable=True),
    N.DIAGNOSE: Row(
        _("diagnose"),
        S.UNTOUCHED,
        {"finished": N.DECIDE, "failed": N.DIAGNOSIS_FAILED},
        {"stopped": N.END_IN_FAILURE},
        cancellable=True,
    ),
    N.DECIDE: Row(
        _("decide"),
        S.UNTOUCHED,
        {"finished": N.BACK_UP},
        {"nothing": N.COMPLETE, "failed": N.END_IN_FAILURE, "stopped": N.END_IN_FAILURE},
        cancellable=True,
    ),
    N.BACK_UP: Row(
        _("back up"),
        S.UNTOUCHED,
        {"finished": N.STOP_APPLICATIONS, "failed": N.BACKUP_FAILED},
        {"stopped": N.END_IN_FAILURE},
        cancellable=True,
    ),
    N.STOP_APPLICATIONS: Row(
        _("stop apps"),
        S.CLOSED,
        {"finished": N.CUT_CONNECTIONS},
        {"failed": N.ROLL_BACK, "stopped": N.ROLL_BACK},
        cancellable=True,
    ),
    N.CUT_CONNECTIONS: Row(
        _("cut"),
        S.CLOSED,
        {"finished": N.MAINTAIN},
        {"failed": N.ROLL_BACK, "stopped": N.ROLL_BACK},
        cancellable=True,
    ),
    N.MAINTAIN: Row(
        _("maintain"),
        S.CLOSED,
        {"finished": N.VERIFY, "failed": N.MAINTENANCE_FAILED},
        {"stopped": N.ROLL_BACK, "opened": N.CUT_CONNECTIONS},
        cancellable=True,
    ),
    N.VERIFY: Row(
        _("verify"),
        S.CLOSED,
        {"finished": N.BENCHMARK, "failed": N.INTEGRITY_ERROR},
        {"stopped": N.ROLL_BACK},
        cancellable=True,
    ),
    N.BENCHMARK: Row(
        _("benchmark"),
        S.PROVEN,
        {"finished": N.RESUME, "not improved": N.NOT_IMPROVED},
        {"failed": N.RESUME, "stopped": N.RESUME},
        cancellable=True,
    ),
    N.RESUME: Row(_("resume"), S.RETURNING, {"finished": N.COMPLETE}, {"failed": N.CALL_AN_OPERATOR}),
    N.COMPLETE: Row(_("complete"), S.OVER, ends_in=Status.SUCCEEDED),
    N.DIAGNOSIS_FAILED: Row(
        _("diagnosis failed"),
        S.UNTOUCHED,
        {"finished": N.ASK_FOR_MANUAL_DIAGNOSIS},
        answers_failure=True,
        begins=Status.FAILED,
    ),
    N.BACKUP_FAILED: Row(
        _("backup failed"), S.UNTOUCHED, {"finished": N.ALTERNATE_BACKUP}, cancellable=True, answers_failure=True
    ),
    N.MAINTENANCE_FAILED: Row(
        _("work failed"), S.CLOSED, {"finished": N.ROLL_BACK}, answers_failure=True, begins=Status.ROLLED_BACK
    ),
    N.INTEGRITY_ERROR: Row(
        _("integrity error"), S.CLOSED, {"finished": N.ROLL_BACK}, answers_failure=True, begins=Status.ROLLED_BACK
    ),
    N.NOT_IMPROVED: Row(
        _("not improved"), S.PROVEN, {"finished": N.ADDITIONAL_MAINTENANCE}, cancellable=True, answers_failure=True
    ),
    N.ASK_FOR_MANUAL_DIAGNOSIS: Row(_("manual diagnosis"), S.OVER, answers_failure=True, ends_in=Status.FAILED),
    N.ALTERNATE_BACKUP: Row(
        _("alternate backup"),
        S.UNTOUCHED,
        {"finished": N.STOP_APPLICATIONS},
        {"failed": N.END_IN_FAILURE, "stopped": N.END_IN_FAILURE},
        cancellable=True,
        answers_failure=True,
    ),
    N.ROLL_BACK: Row(
        _("roll back"),
        S.RETURNING,
        {"finished": N.END_IN_FAILURE},
        {"failed": N.CALL_AN_OPERATOR},
        answers_failure=True,
        begins=Status.FAILED,
    ),
    N.ADDITIONAL_MAINTENANCE: Row(
        _("one more round"),
        S.PROVEN,
        {"finished": N.MAINTAIN},
        {"failed": N.RESUME, "stopped": N.RESUME},
        cancellable=True,
        answers_failure=True,
    ),
    N.END_IN_FAILURE: Row(
        _("ended in failure"), S.OVER, answers_failure=True, begins=Status.FAILED, ends_in=Status.FAILED
    ),
    N.CALL_AN_OPERATOR: Row(
        _("operator called"),
        S.OVER,
        answers_failure=True,
        begins=Status.NEEDS_OPERATOR,
        ends_in=Status.NEEDS_OPERATOR,
    ),
}


def row(node: str) -> Row:
    """Return the row of a stored node."""
    return FLOWCHART[Node(node)]


def leading_to(node: Node) -> frozenset[Node]:
    """Return the boxes from which a target may still come to this one, itself included."""
    boxes = {node}
    while more := {n for n, r in FLOWCHART.items() if boxes.intersection(r.leads_to.values())} - boxes:
        boxes |= more
    return frozenset(boxes)
