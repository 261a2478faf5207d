"""One run: its permanent page, what of it is live, its files, and what people may do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods

from maintenance import queue
from maintenance.downloads import kept
from maintenance.forms.pages import CommentForm, GlassForm, Proven
from maintenance.models import (
    ACTIVE,
    ENDED,
    Acknowledgement,
    ActionRecord,
    DatabaseState,
    MaintenanceRun,
    RunTarget,
    Status,
    StepRecord,
    StepState,
)
from maintenance.observation.health import worst_first
from maintenance.requests import launch
from maintenance.results.comparison import compare_target
from maintenance.results.estimates import usual_outage
from maintenance.results.health_change import health_change
from maintenance.results.outcome import integrity
from maintenance.results.rehearsal import expected_outage
from maintenance.templatetags.console import mark
from maintenance.text import labels
from maintenance.text.render import render as rendered
from maintenance.workflow.lease import worker_lost
from reports.figures import figures

from .access import READING, actor, may, open_to
from .flowchart import draw
from .live import fragment
from .numbers import number_in
from .operating import needed
from .pieces import Clock, Page, outage_clock

JOURNAL_LINES = 14
LOG_PAGE = 200
LATE_LINES = timedelta(seconds=10)
"""So much is sent again, because a worker may commit a line after another one committed what closed later."""
DELIVERIES = 50
NOTICE_OF = {Status.SUCCEEDED: "success", Status.CANCELLED: "warning", Status.ROLLED_BACK: "warning"}
"""How the notice of the result looks; of the other endings as an error."""


@dataclass(frozen=True)
class Work:
    """One object of the plan: what shall be, is, or was done to it."""

    object: str
    action: str
    reason: str
    bytes: int | None
    state: str
    share: float | None
    record: ActionRecord | None

    @property
    def changed_size(self) -> bool:
        """Whether the work made the object larger or smaller, as far as that is known."""
        record = self.record
        return record is not None and record.bytes_after is not None and record.bytes_after != record.bytes_before

    @property
    def percent(self) -> int | None:
        return None if self.share is None else round(self.share * 100)


@open_to(*READING)
@require_GET
def run(request: HttpRequest, pk: int) -> HttpResponseBase:
    return render(request, "runs/page.html", told(request, _found(pk)))


@open_to(*READING)
@require_GET
def run_live(request: HttpRequest, pk: int) -> HttpResponseBase:
    found = _found(pk)
    context = {**told(request, found), "live": True}
    return fragment(request, "runs/parts.html", context, over=found.finished_at is not None)


def _found(pk: int) -> MaintenanceRun:
    return get_object_or_404(MaintenanceRun.objects.select_related("approval"), pk=pk)


def told(request: HttpRequest, run: MaintenanceRun) -> Page:
    """Everything the page says. The number of queries does not depend on what the run holds."""
    targets = list(run.targets.defer("gate", "image"))
    target = chosen(targets, request.GET.get("database", ""))
    over = run.finished_at is not None
    lost = target is not None and worker_lost(target)
    context: Page = {
        "run": run,
        "targets": targets,
        "target": target,
        "over": over,
        "ending_kind": NOTICE_OF.get(Status(run.status), "error"),
        "ending_mark": mark(run.status),
        "approval": getattr(run, "approval", None),
        "may_cancel": not over and run.cancel_requested_at is None,
        "no_worker": (run.status == Status.QUEUED or lost) and not queue.workers_alive(),
        "lost": lost,
        "acknowledgement": Acknowledgement.objects.filter(run=run).first(),
        "deliveries": list(run.notifications.order_by("-id")[:DELIVERIES]),
        "comments": list(run.comments.all()),
        "comment_form": CommentForm(request.user.get_username()) if may(request, "launch_maintenance") else None,
        "asked_by_me": request.user.get_username() == run.requested_by_name,
    }
    if target is None:
        return context
    lines = list(target.steps.all() if over else target.steps.defer("result", "before"))
    records = list(target.actions.all())
    known = (DatabaseState.Source.DIAGNOSIS, DatabaseState.Source.AFTER)
    states = list(target.states.filter(source__in=known).defer("tables").order_by("id"))
    change = health_change(states)
    if change is not None and change.doubtful and run.status == Status.SUCCEEDED:
        context |= {"ending_kind": "warning", "ending_mark": "!"}
    context |= {
        "needed": needed(target, lines),
        "password_form": Proven(request),
        "drawing": draw(target, lines),
        **journal(lines),
        "work": work(target, records),
        "running": target.progress.get("objects") or [],
        "clocks": clocks(target, over),
        "left": left(target),
        "outage_now": target.outage_lasts,
        "findings": findings(states),
        "health": change,
        "backups": list(target.backup_files.all()),
        "losses": [loss for record in records if record.state != StepState.STARTED for loss in record.losses],
    }
    if over:
        comparison = compare_target(target)
        context |= {
            "proof": proof(target, lines),
            "comparison": comparison,
            "figures": figures(target, lines, records, comparison),
        }
    return context


def clocks(target: RunTarget, over: bool) -> list[Clock]:
    """The outage, beside what is usual; of work in hand how much of it is done, and how long it still takes."""
    outage = outage_clock(target, over) or (None if over else Clock(labels.hms(0), _("no outage yet")))
    usual = usual_outage(target.database, target.run.maintenance_type, target.pk)
    if outage and usual:
        told = ngettext("usually {time} (1 run)", "usually {time} ({runs} runs)", usual["runs"])
        note = told.format(time=labels.hms(usual["seconds"]), runs=usual["runs"])
        outage = replace(outage, note=f"{outage.note} · {note}")
    share, remaining = target.progress.get("share"), left(target)
    return [
        *([outage] if outage else []),
        *(expected_clock(target) if over and target.run.rehearsal else []),
        *(
            [Clock(labels.share(share), _("of the bytes to work on"))]
            if share is not None and target.at_work and not over
            else []
        ),
        *([Clock(labels.hms(remaining["seconds"]), remaining["basis"])] if remaining and remaining["seconds"] else []),
    ]


def expected_clock(target: RunTarget) -> list[Clock]:
    """The outage that the work would take, as its rehearsal tells it; nothing where it did not come to its end."""
    expected = expected_outage(target)
    if expected is None:
        return []
    between = _("{low} to {high}").format(low=labels.hms(expected.low), high=labels.hms(expected.high))
    note = _("expected outage, {between}: {basis}").format(between=between, basis=rendered(expected.basis))
    return [Clock(labels.hms(expected.seconds), note)]


def left(target: RunTarget) -> Page | None:
    """How long it still takes, with the basis of that number, and why it is late if it is."""
    told = target.progress
    if target.finished_at is not None or not (told.get("left_seconds") or told.get("late")):
        return None
    return {
        "seconds": told["left_seconds"],
        "basis": rendered(told["left_basis"]),
        "late": rendered(told["late"]),
    }


def chosen(targets: Sequence[RunTarget], name: str) -> RunTarget | None:
    """The one asked for, else one that is worked on, else the worst."""
    named = [t for t in targets if t.database == name]
    busy = [t for t in targets if t.status in ACTIVE]
    worst = sorted(targets, key=lambda t: ENDED.index(Status(t.status)) if t.status in ENDED else 0)
    return next(iter([*named, *busy, *worst]), None)


def journal(lines: Sequence[StepRecord]) -> Page:
    """What people read, newest first: what is in hand, and the last that closed with a sentence."""
    closed = sorted((line for line in lines if line.finished_at and line.sentence), key=closing, reverse=True)
    return {
        "in_hand": [line for line in reversed(lines) if line.state == StepState.STARTED],
        "journal": closed[:JOURNAL_LINES],
        "journal_more": max(0, len(closed) - JOURNAL_LINES),
        "after": mark_of(closed[0]) if closed else 0,
    }


def closing(line: StepRecord) -> tuple[datetime, int]:
    """The order of the log: as things were over."""
    assert line.finished_at is not None
    return line.finished_at, line.pk


def mark_of(line: StepRecord) -> int:
    """Where a browser's log ends: when its last line closed, in microseconds since 1970."""
    assert line.finished_at is not None
    return round(line.finished_at.timestamp() * 1_000_000)


def work(target: RunTarget, records: Sequence[ActionRecord]) -> list[Work]:
    """The plan of this round with what became of it, and what earlier rounds did."""
    running = {p["object"]: p["share"] for p in target.progress.get("objects") or []}
    done = {(r.object, r.action): r for r in records if r.round == target.round}
    found = [_planned(entry, done, running) for entry in target.plan or []]
    planned = {(w.object, w.action) for w in found}
    found += [_recorded(r) for r in records if (r.object, r.action) not in planned]
    order = {"started": 0, "failed": 1, "interrupted": 1, "waiting": 2}
    return sorted(found, key=lambda w: order.get(w.state, 3))


def _planned(entry: Page, done: dict[tuple[str, str], ActionRecord], running: dict[str, float | None]) -> Work:
    record = done.get((entry["object"], entry["kind"]))
    state = record.state if record else "waiting"
    share = running.get(entry["object"]) if state == StepState.STARTED else None
    reason = rendered(entry["reason"])
    return Work(entry["object"], entry["kind"], reason, entry["bytes"], state, share, record)


def _recorded(record: ActionRecord) -> Work:
    reason = rendered(record.reason)
    return Work(record.object, record.action, reason, record.bytes_before, record.state, None, record)


def findings(states: Sequence[DatabaseState]) -> list[Page]:
    """Of the last diagnosis before the work."""
    looks = [state for state in states if state.source == DatabaseState.Source.DIAGNOSIS]
    return worst_first(looks[-1].findings) if looks else []


def proof(target: RunTarget, lines: Sequence[StepRecord]) -> Page | None:
    target._prefetched_objects_cache = {"steps": lines}  # type: ignore[attr-defined]
    found = integrity(target)
    if found is not None:
        found["failed"] = [c for c in found["checks"] if not c["passed"]]
        found["rows"] = sum(t["rows_after"] or 0 for t in found["tables"])
        found["equal"] = sum(bool(t["fingerprint_equal"]) for t in found["tables"])
    return found


@open_to(*READING)
@require_GET
def run_log(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Every journal line of every target as it closed, and on the last page what is in hand."""
    found = _found(pk)
    lines = log_of(found)
    page = Paginator(lines.filter(finished_at__isnull=False), LOG_PAGE).get_page(request.GET.get("page"))
    context: Page = {"run": found, "page": page, "live": found.finished_at is None and not page.has_next()}
    if not page.has_next():
        context["in_hand"] = list(lines.filter(state=StepState.STARTED))
        shown = list(page)
        context["after"] = mark_of(shown[-1]) if shown else 0
    return render(request, "runs/log.html", context)


@open_to(*READING)
@require_GET
def run_log_live(request: HttpRequest, pk: int) -> HttpResponseBase:
    """What closed after the mark `after`: the browser appends it. Of one `database`, or of all for the full log."""
    found = _found(pk)
    lines = log_of(found)
    database = request.GET.get("database", "")
    if database:
        lines = lines.filter(target__database=database).exclude(sentence="")
    since = number_in(request, "after") or 0
    at = datetime.fromtimestamp(since / 1_000_000, UTC)
    late = list(lines.filter(finished_at__gt=at - LATE_LINES, finished_at__lte=at))
    closed = list(lines.filter(finished_at__gt=at)[:LOG_PAGE])
    context = {
        "run": found,
        "lines": late + closed,
        "after": mark_of(closed[-1]) if closed else since,
        "in_hand": list(lines.filter(state=StepState.STARTED)),
        "database": database,
    }
    over = found.finished_at is not None and len(closed) < LOG_PAGE
    return fragment(request, "runs/lines_live.html" if database else "runs/log_live.html", context, over=over)


def log_of(run: MaintenanceRun) -> QuerySet[StepRecord]:
    lines = StepRecord.objects.filter(target__run=run).select_related("target")
    return lines.defer("result", "before").order_by("finished_at", "id")


@open_to("cancel_maintenance")
@require_http_methods(["GET", "POST"])
def cancel(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Asks once more, because half a maintenance is rolled back."""
    found = _found(pk)
    if request.method == "GET":
        return render(
            request, "runs/cancel.html", {"run": found, "targets": found.targets.defer("gate", "image", "plan")}
        )
    try:
        launch.cancel(actor(request), found)
        messages.success(request, _("The workers were asked to stop; service comes back as it was before."))
    except launch.Refused as refusal:
        messages.error(request, refused(refusal))
    return redirect("maintenance:run", pk)


@sensitive_post_parameters("password")
@open_to("break_glass")
@require_http_methods(["GET", "POST"])
def break_glass(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Without the second person, with a reason, and the password again."""
    found = _found(pk)
    form = GlassForm(request, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            launch.go_without_approval(actor(request), found, form.cleaned_data["glass"])
            messages.warning(request, _("The maintenance is on its way without approval; people were told."))
        except launch.Refused as refusal:
            messages.error(request, refused(refusal))
        return redirect("maintenance:run", pk)
    return render(request, "runs/break_glass.html", {"run": found, "form": form})


def refused(refusal: launch.Refused) -> str:
    """The sentence in the reader's language."""
    return rendered(refusal.sentence)


@open_to(*READING)
@require_GET
def report(request: HttpRequest, pk: int) -> HttpResponseBase:
    return kept(_found(pk).report_pdf, Path(settings.REPORTS_DIR), "application/pdf")


@open_to(*READING)
@require_GET
def performance(request: HttpRequest, pk: int) -> HttpResponseBase:
    return kept(_found(pk).performance_csv, Path(settings.PERFORMANCE_DIR), "text/csv; charset=utf-8")
