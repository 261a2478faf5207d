"""Errors as problem details (RFC 9457): every answer of 400 and above has this one shape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from ninja.errors import HttpError, ValidationError

from maintenance.identity.throttle import TooManyTries
from maintenance.models import ScopeHold
from maintenance.requests import launch

log = logging.getLogger("maintenance")
MEDIA_TYPE = "application/problem+json"


class Conflict(launch.Refused):
    """It cannot be in the state that the run is in."""


def problem(status: int, detail: str, **more: object) -> JsonResponse:
    """`more` are extension members; `detail` is a sentence for people."""
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    answer = JsonResponse(told, status=status, content_type=MEDIA_TYPE)
    if status == HTTPStatus.UNAUTHORIZED:
        answer["WWW-Authenticate"] = 'Bearer realm="dbmaint"'
    return answer


def refused(status: int) -> Callable[[HttpRequest, Exception], HttpResponse]:
    return lambda request, error: problem(status, str(error))


def locked(request: HttpRequest, error: launch.Locked) -> HttpResponse:
    """Names the run that holds the lock, for machines too."""
    holds = {h.run.number: h.run for h in ScopeHold.objects.select_related("run")}
    run = holds.get(str(error.sentence.values.get("run")))
    if run is None:
        return problem(409, str(error))
    url = request.build_absolute_uri(reverse("api-1:run", args=[run.pk]))
    return problem(409, str(error), held_by={"id": str(run.pk), "number": run.number, "url": url})


def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """One entry for each field that is wrong; what was sent is not repeated."""
    errors = [{"field": field(e["loc"]), "message": e["msg"].removeprefix("Value error, ")} for e in error.errors]
    named = "; ".join(f"{e['field']}: {e['message']}" for e in errors)
    return problem(422, named, errors=errors)


def field(where: Sequence[str | int]) -> str:
    """`("body", "given", "findings", 0, "severity")` is findings.0.severity to the caller."""
    path = where[2:] if where[0] == "body" else where[1:]
    return ".".join(map(str, path)) or str(where[0])


def told_by_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    return problem(error.status_code, str(error))


def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    """A bug. The log knows more; the answer tells nothing of the inside."""
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem(500, "The console failed; its log says why.")


def too_many(request: HttpRequest, error: TooManyTries) -> HttpResponse:
    """Says how long to wait."""
    answer = problem(429, str(error))
    answer["Retry-After"] = str(error.seconds)
    return answer


HANDLERS: dict[type[Exception], Callable[[HttpRequest, Any], HttpResponse]] = {
    launch.NotFound: refused(404),
    launch.BadInput: refused(422),
    launch.Locked: locked,
    launch.NotPermitted: refused(403),
    Conflict: refused(409),
    Http404: refused(404),
    TooManyTries: too_many,
    RequestDataTooBig: lambda request, error: problem(413, "The request body is too large."),
    ValidationError: invalid,
    HttpError: told_by_error,
    Exception: unexpected,
}


def unknown(request: HttpRequest) -> HttpResponse:
    return problem(404, f"There is nothing at {request.path}; see {reverse('api-1:openapi-view')}.")


def plainly(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Around every address: a wrong method and an unknown address are told alike; nothing is cached."""

    @wraps(view)
    def told(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            answer = view(request, *args, **kwargs)
        except Http404:
            answer = unknown(request)
        if isinstance(answer, HttpResponseNotAllowed):
            allowed = answer["Allow"]
            answer = problem(405, f"{request.method} is not possible here; possible are: {allowed}.")
            answer["Allow"] = allowed
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    return told
