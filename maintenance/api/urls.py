"""Addresses for machines: the API and the metrics."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path, re_path
from django.views.decorators.csrf import csrf_exempt

from .entrance import api
from .metrics import metrics
from .problems import plainly, unknown

calls, space, instance = api.urls
for pattern in calls:
    assert isinstance(pattern, URLPattern)
    pattern.callback = plainly(pattern.callback)

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v1/", (calls, space, instance)),
    re_path(r"^api/", csrf_exempt(plainly(unknown))),
    path("metrics", metrics, name="metrics"),
]
