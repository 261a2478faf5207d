"""Every address of the console."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("", include("maintenance.urls")),
    path("", include("maintenance.api.urls")),
]
