"""How pages say a state, a time, a size and a sentence."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from maintenance.models import (
    MaintenanceRun,
    MaintenanceType,
    Node,
    RunTarget,
    SeverityLevel,
    Status,
    StepRecord,
    StepState,
)
from maintenance.results import remedies
from maintenance.text import labels, operations
from maintenance.text.dates import passed
from maintenance.text.render import person, render

register = template.Library()

STATES = {
    "awaiting_approval": ("warn", "◇"),
    "queued": ("idle", "…"),
    "running": ("run", "▶"),
    "cancelling": ("warn", "■"),
    "succeeded": ("good", "✓"),
    "rolled_back": ("warn", "↺"),
    "failed": ("bad", "✕"),
    "cancelled": ("idle", "■"),
    "timed_out": ("bad", "◷"),
    "needs_operator": ("bad", "!"),
    "started": ("run", "▶"),
    "finished": ("good", "✓"),
    "interrupted": ("warn", "■"),
    "undone": ("warn", "↺"),
    "well": ("good", "✓"),
    "watch": ("warn", "!"),
    "degraded": ("bad", "✕"),
    "critical": ("bad", "✕"),
    "unreachable": ("bad", "✕"),
    "unknown": ("idle", "?"),
    "maintenance": ("out", "◉"),
    "waiting": ("idle", "·"),
    "faster": ("good", "✓"),
    "works_again": ("good", "✓"),
    "no_change": ("idle", "="),
    "slower": ("bad", "✕"),
    "unmeasured": ("idle", "?"),
}
"""State -> class of its colour, mark. The word comes from the labels below."""
LABELS: dict[str, Any] = {
    **dict(Status.choices),
    **dict(StepState.choices),
    "well": gettext_lazy("well"),
    "watch": gettext_lazy("watch"),
    "degraded": gettext_lazy("degraded"),
    "critical": gettext_lazy("critical"),
    "unreachable": gettext_lazy("unreachable"),
    "unknown": gettext_lazy("not checked yet"),
    "maintenance": gettext_lazy("in maintenance"),
    "waiting": gettext_lazy("waiting"),
    **labels.CHANGES,
}
SEVERITY_CLASS = {"critical": "bad", "high": "warn"}
TITLES = {
    "repair": gettext_lazy("Repair of {databases}"),
    "optimize": gettext_lazy("Optimization of {databases}"),
    "rebuild": gettext_lazy("Rebuild of {databases}"),
}

register.filter("size", labels.size)
register.filter("duration", labels.duration)
register.filter("share", labels.share)
register.filter("milliseconds", labels.milliseconds)
register.filter("count", labels.count)
register.filter("hms", labels.hms)
register.filter("message", render)


@register.simple_tag
def state(name: str) -> SafeString:
    """Mark and word first, colour last."""
    kind, mark = STATES.get(name, ("idle", "·"))
    return format_html(
        '<span class="state {}"><span class="mark" aria-hidden="true">{}</span>{}</span>',
        kind,
        mark,
        LABELS.get(name, name),
    )


NOTICE_MARKS = {"success": "✓", "error": "✕"}


@register.simple_block_tag
def notice(content: str, kind: str = "", mark: str = "", role: str = "") -> SafeString:
    """A sentence before all else. `kind` is success, warning or error; `mark` takes the place of the usual one."""
    attributes = format_html(' role="{}"', role) if role else ""
    return format_html(
        '<div class="notice {}"{}><span class="mark" aria-hidden="true">{}</span><span class="text">{}</span></div>',
        kind,
        attributes,
        mark or NOTICE_MARKS.get(kind, "!"),
        content,
    )


MARKS_OF_NODES = {
    Node.DIAGNOSIS_FAILED: ("bad", "✕"),
    Node.BACKUP_FAILED: ("bad", "✕"),
    Node.MAINTENANCE_FAILED: ("bad", "✕"),
    Node.INTEGRITY_ERROR: ("bad", "✕"),
    Node.NOT_IMPROVED: ("idle", "="),
    Node.ASK_FOR_MANUAL_DIAGNOSIS: ("bad", "!"),
    Node.ROLL_BACK: ("warn", "↺"),
    Node.END_IN_FAILURE: ("bad", "✕"),
    Node.CALL_AN_OPERATOR: ("bad", "!"),
}
"""Boxes that record something bad: that their line is finished is no success."""


def _mark_of(line: StepRecord) -> tuple[str, str]:
    finished = line.state == StepState.FINISHED and not line.part
    known = MARKS_OF_NODES.get(Node(line.node)) if finished else None
    return known or STATES.get(line.state, ("idle", "·"))


@register.filter
def line_mark(line: StepRecord) -> str:
    """What a line of the journal means, as a mark."""
    return _mark_of(line)[1]


@register.filter
def line_kind(line: StepRecord) -> str:
    """The same as the class of its colour."""
    return _mark_of(line)[0]


@register.filter
def mark(name: str) -> str:
    return STATES.get(name, ("idle", "·"))[1]


@register.simple_tag
def severity(name: str) -> SafeString:
    known: dict[str, Any] = {**dict(SeverityLevel.choices), **labels.SEVERITIES}
    return format_html('<span class="chip {}">{}</span>', SEVERITY_CLASS.get(name, ""), known.get(name, name))


@register.filter
def version_of(version: str | None, engine: str) -> str:
    """'SQLite 3.40.1'; a server that says its own name is not told twice."""
    name = labels.ENGINES.get(engine, engine)
    if version and "mariadb" in version.lower():
        name, version = "MariaDB", version.split("-")[0]
    if not version:
        return name
    return f"{name} {version}" if version[0].isdigit() else version


@register.filter
def run_title(run: MaintenanceRun) -> str:
    return TITLES[run.maintenance_type].format(databases=", ".join(run.target_databases))


@register.filter
def waits_for_people(target: RunTarget) -> str:
    """That somebody must come, and why; said once where the ending begins with it."""
    needed = _("{database} needs an operator.").format(database=target.database)
    ending = render(target.ended_because)
    return ending if ending.startswith(needed) else f"{needed} {ending}".strip()


@register.simple_tag
def ago(at: datetime | None) -> SafeString:
    """How long ago, with the time itself on hover."""
    if at is None:
        return SafeString(_("never"))
    return format_html('<time class="ago" datetime="{}" title="{}">{}</time>', at.isoformat(), moment(at), passed(at))


@register.filter
def moment(at: datetime | None) -> str:
    """2026-11-23 02:14:07 JST: the same in every language, and it sorts."""
    return "–" if at is None else f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S %Z}"


@register.filter
def minute(at: datetime | None) -> str:
    return "–" if at is None else f"{timezone.localtime(at):%Y-%m-%d %H:%M}"


@register.filter
def clock(at: datetime | None) -> str:
    return "–" if at is None else f"{timezone.localtime(at):%H:%M:%S}"


@register.filter
def action_name(kind: str) -> str:
    return labels.label(labels.ACTIONS, kind)


@register.filter
def check_name(name: str) -> str:
    return labels.label(labels.CHECKS, name)


@register.filter
def cost_name(unit: str) -> str:
    return labels.label(labels.COSTS, unit)


@register.filter
def method_name(method: str) -> str:
    return str(labels.METHODS.get(method, method))


@register.filter
def remedy(finding: dict[str, Any]) -> str:
    """The type of maintenance that mends it; '' where none does."""
    kind = remedies.remedy(finding["code"])
    return "" if kind is None else kind.value


@register.filter
def who(name: str) -> str:
    """See `render.person`."""
    return person(name)


@register.filter
def step_name(target: RunTarget) -> str:
    """Where in the flowchart the target is, in words."""
    return labels.label(labels.STEPS, Node(target.node).step)


@register.simple_tag(takes_context=True)
def sort_head(context: template.Context, column: str, name: str, css: str = "") -> SafeString:
    """A heading that sorts by its column; once more turns the order round."""
    current = context["sort"]
    turned = f"-{column}" if current != f"-{column}" else column
    query = context["request"].GET.copy()
    query["sort"] = turned
    query.pop("page", None)
    arrow = {column: " ↑", f"-{column}": " ↓"}.get(current, "")
    order = {column: "ascending", f"-{column}": "descending"}.get(current, "none")
    return format_html(
        '<th scope="col" class="{}" aria-sort="{}"><a href="?{}">{}{}</a></th>',
        css,
        order,
        query.urlencode(),
        name,
        arrow,
    )


@register.filter
def line_name(line: StepRecord) -> str:
    """The step, and inside it the effect that the line is about."""
    name = labels.label(labels.STEPS, line.step)
    return f"{name}: {labels.part(line.part)}" if line.part else name


@register.filter
def type_name(name: str) -> str:
    return str(dict(MaintenanceType.choices).get(name, name))


@register.simple_tag
def pair(before: float | None, after: float | None, change: str) -> SafeString:
    """Two bars by one scale: the time before, and under it the time after."""
    if before is None or after is None:
        return SafeString(labels.unknown())
    most = max(before, after) or 1.0
    return format_html(
        '<svg class="pair" role="img" aria-label="{} → {} ms">'
        '<rect class="before" x="0" y="2" width="{}%" height="8" rx="2"/>'
        '<rect class="after{}" x="0" y="12" width="{}%" height="8" rx="2"/></svg>',
        labels.milliseconds(before),
        labels.milliseconds(after),
        f"{100 * before / most:.1f}",
        f" {STATES[change][0]}",
        f"{100 * after / most:.1f}",
    )


@register.filter
def operation(name: str) -> str:
    """What the audit log calls it, in the reader's language."""
    return operations.named(name)
