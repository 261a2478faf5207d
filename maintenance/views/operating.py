"""What a person needs who is called at three in the morning: the state of the data, the cause, what to type, and two
buttons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from maintenance.engines.messages import Message
from maintenance.forms.pages import Proven
from maintenance.models import MaintenanceRun, Node, ReleaseRequest, RunTarget, Status, StepRecord, StepState
from maintenance.requests import launch
from maintenance.text.render import render as rendered

from .access import actor, open_to

PATIENCE = timedelta(minutes=2)
"""After this a release that no worker took may be asked for again."""


@dataclass(frozen=True)
class Needed:
    """Told on top of the page of a run that needs an operator."""

    data: str
    cause: str
    left: str
    """What of ours lies on the target; '' where nobody could say."""
    closed: bool
    commands: Sequence[str]
    """By which it is opened without this console, in their order."""
    asked: ReleaseRequest | None
    """The last release that was asked for here."""

    @property
    def on_its_way(self) -> bool:
        """Whether a worker may be at it."""
        return self.asked is not None and self.asked.finished_at is None and timezone.now() - self.asked.at < PATIENCE


def needed(target: RunTarget, lines: Sequence[StepRecord]) -> Needed | None:
    """Return what the person has to know, None where nobody is waited for. `lines`: the journal, oldest first."""
    if target.status != Status.NEEDS_OPERATOR or target.released_at is not None:
        return None
    called = next((line for line in lines if line.node == Node.CALL_AN_OPERATOR and not line.part), None)
    told = called.sentence.values if called is not None and isinstance(called.sentence, Message) else {}
    commands = told.get("commands")
    return Needed(
        state_of_data(lines),
        cause(target, lines),
        rendered(str_of(told.get("left"))),
        target.outage_lasts,
        [str(command) for command in commands.values.values()] if isinstance(commands, Message) else [],
        target.release_requests.order_by("-id").first(),
    )


def str_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def state_of_data(lines: Sequence[StepRecord]) -> str:
    """What is known of the data by what was observed last, never more."""
    finished = [line for line in lines if line.state == StepState.FINISHED]
    if any(line.node == Node.ROLL_BACK and line.part == "data" for line in finished):
        return _("The data is as it was before the maintenance: that was compared. Only service did not come back.")
    if not any(line.node == Node.MAINTAIN for line in lines):
        return _("The data was not touched: no work had begun.")
    failed = next((line.node for line in reversed(lines) if line.state == StepState.FAILED), None)
    if failed == Node.RESUME and any(line.node == Node.VERIFY and not line.part for line in finished):
        return _("The work is done and the data was proven whole. Only service did not come back.")
    return _(
        "The data is in doubt: work on it had begun, and it could neither be proven nor taken back. Look at it first."
    )


def cause(target: RunTarget, lines: Sequence[StepRecord]) -> str:
    """The last thing that failed, in a sentence."""
    failed = next((line for line in reversed(lines) if line.state == StepState.FAILED and line.sentence), None)
    return rendered(failed.sentence if failed is not None else target.ended_because)


@sensitive_post_parameters("password")
@open_to("launch_maintenance")
@require_POST
def release(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Open one database again, after the password was typed."""
    run = get_object_or_404(MaintenanceRun, pk=pk)
    target = get_object_or_404(run.targets, database=request.POST.get("database", ""))
    if is_the_same_person(request):
        try:
            launch.release(actor(request), target)
            messages.success(request, _("A worker opens {database} again.").format(database=target.database))
        except launch.Refused as refusal:
            messages.error(request, rendered(refusal.sentence))
    return redirect(f"{reverse('maintenance:run', args=[pk])}?{urlencode({'database': target.database})}")


@sensitive_post_parameters("password")
@open_to("launch_maintenance")
@require_POST
def acknowledge(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Stop the reminders of a run that needs an operator, after the password was typed."""
    run = get_object_or_404(MaintenanceRun, pk=pk)
    if is_the_same_person(request):
        try:
            launch.acknowledge(actor(request), run)
            messages.success(request, _("Acknowledged: nobody is reminded any more."))
        except launch.Refused as refusal:
            messages.error(request, rendered(refusal.sentence))
    return redirect("maintenance:run", pk)


def is_the_same_person(request: HttpRequest) -> bool:
    """Whether the password was right; tells the person when not."""
    form = Proven(request, request.POST)
    if not form.is_valid():
        messages.error(request, _("The password is wrong; nothing was done."))
    return form.is_valid()
