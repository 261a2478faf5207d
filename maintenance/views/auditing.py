"""The audit log: who did what, with before and after; and whether the chain is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from maintenance.auditing import chain
from maintenance.auditing.alarm import alarm
from maintenance.forms.pages import AuditFilter
from maintenance.models import AuditEntry, AuditHead

from .access import open_to
from .history import kept

PAGE = 50


@dataclass(frozen=True)
class Change:
    """One field of an entry."""

    field: str
    before: str
    after: str


@open_to("view_auditentry")
@require_GET
def audit_log(request: HttpRequest) -> HttpResponseBase:
    return _page(request, None)


@open_to("verify_audit")
@require_POST
def audit_verify(request: HttpRequest) -> HttpResponseBase:
    """Reads the whole chain; asked for, because it takes as long as the log is."""
    return _page(request, chain.verify())


def _page(request: HttpRequest, verdict: chain.Verdict | None) -> HttpResponseBase:
    form = AuditFilter(request.GET)
    page = Paginator(asked_for(form), PAGE).get_page(request.GET.get("page"))
    context = {
        "form": form,
        "page": page,
        "entries": [(entry, changes(entry)) for entry in page],
        "head": AuditHead.objects.filter(pk=1).first(),
        "verdict": verdict,
        "alarm": alarm(),
        "query": kept(request),
    }
    return render(request, "auditing/page.html", context)


@open_to("view_auditentry")
@require_GET
def audit_export(request: HttpRequest) -> HttpResponseBase:
    """One JSON object a line, oldest first, with the hashes: enough to verify the chain elsewhere."""
    entries = asked_for(AuditFilter(request.GET)).order_by("id").iterator(chunk_size=2000)
    answer = StreamingHttpResponse(lines(entries), content_type="application/x-ndjson")
    answer["Content-Disposition"] = f'attachment; filename="audit-{timezone.localdate():%Y-%m-%d}.jsonl"'
    return answer


def lines(entries: Iterator[AuditEntry]) -> Iterator[str]:
    names = ("actor", "operation", "object", "before", "after", "after_break", "previous_hash", "hash")
    for entry in entries:
        told = {"id": entry.pk, "at": entry.at.isoformat(), **{name: getattr(entry, name) for name in names}}
        yield json.dumps(told, ensure_ascii=False) + "\n"


def asked_for(form: AuditFilter) -> QuerySet[AuditEntry]:
    form.is_valid()
    return AuditEntry.objects.filter(form.exactly()).order_by("-id")


def changes(entry: AuditEntry) -> list[Change]:
    """Fields that differ; of a thing that is new or gone all of them."""
    before, after = entry.before or {}, entry.after or {}
    names = list(dict.fromkeys([*before, *after]))
    return [
        Change(name, _shown(before, name), _shown(after, name))
        for name in names
        if before.get(name) != after.get(name) or name not in before or name not in after
    ]


def _shown(values: dict[str, object], name: str) -> str:
    if name not in values:
        return ""
    value = values[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
