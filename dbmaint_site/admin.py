"""The admin site of this console: open to whoever may do something there, by the console's own login."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy as _

NAMES = {"auth": _("People and groups"), "maintenance": _("Databases and messages")}


class ConsoleSite(AdminSite):
    site_header = _("dbmaint settings")
    site_title = _("dbmaint settings")
    index_title = _("Settings")
    site_url = "/"

    def has_permission(self, request: HttpRequest) -> bool:
        """The group 'Maintenance administrators' is enough: no second switch to forget."""
        user = request.user
        return bool(user.is_active and (user.is_staff or user.has_perm("maintenance.change_maintenancesetting")))

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> Any:
        """By what a person looks for, not by packages."""
        found = super().get_app_list(request, app_label)
        for app in found:
            app["name"] = NAMES.get(app["app_label"], app["name"])
        return found

    def password_change(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> Any:
        """The console has a page for it, throttled and audited."""
        return redirect("maintenance:password_change")

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(request.GET.get("next", "/admin/"))
