"""TBL-098 in the admin site: help, validation at save, connection test; every change audited."""

from __future__ import annotations

from datetime import datetime
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_q.models import Failure, OrmQ, Schedule, Success

from maintenance.text.render import render as rendered

from .auditing import chain
from .conf import places
from .conf.config import ConfigError
from .conf.secrets import SecretUnreadable, mark_reader
from .engines import open_engine
from .engines.errors import EngineError
from .engines.values import Json, Tag
from .forms.people import GroupForm, PersonForm, in_words
from .forms.setting import SettingForm
from .identity import throttle
from .identity.addresses import address
from .management.commands.register_target import described
from .models import DatabaseState, Incident, MaintenanceSetting, Notification, RunTarget
from .observation import privileges
from .requests.request import Actor
from .requests.rule import RULE, has_rule, pending, settle_rule
from .results.thresholds import meaning

if TYPE_CHECKING:
    SettingModelAdmin = admin.ModelAdmin[MaintenanceSetting]
    BaseUserAdmin = UserAdmin[User]
    NotificationModelAdmin = admin.ModelAdmin[Notification]
    IncidentModelAdmin = admin.ModelAdmin[Incident]
else:
    SettingModelAdmin, BaseUserAdmin = admin.ModelAdmin, UserAdmin
    NotificationModelAdmin = IncidentModelAdmin = admin.ModelAdmin

NO_CONNECTION = (EngineError, SecretUnreadable, LookupError, ConfigError)


@admin.register(MaintenanceSetting)
class MaintenanceSettingAdmin(SettingModelAdmin):
    form = SettingForm
    list_display = ("name", "shown_url", "enabled", "backup_dir", "updated_at")
    list_filter = ("enabled",)
    search_fields = ("name", "url")
    readonly_fields = ("waiting_rule", "created_at", "updated_at")
    change_form_template = "admin/maintenance_setting.html"
    actions = None
    formfield_overrides = {
        models.CharField: {"widget": forms.TextInput({"size": 80, "spellcheck": "false"})},
    }
    fieldsets = (
        (_("Connection"), {"fields": ("name", "url", "new_password", "enabled")}),
        (
            _("Backups"),
            {
                "fields": (
                    "backup_dir",
                    "alternate_backup_dir",
                    "restore_test",
                    "restore_test_seconds",
                    "restore_test_disk_share",
                )
            },
        ),
        (_("Applications and approval"), {"fields": ("applications", *RULE, "waiting_rule")}),
        (_("Thresholds"), {"fields": ("bloat_share", "dead_share", "stale_share", "minimum_bytes")}),
        (_("Proof of correctness"), {"fields": ("functional_checks",)}),
        (_("Benchmark"), {"fields": ("benchmark_queries", "benchmark_repeats", "load_seconds", "load_clients")}),
        (
            _("Retries (specification 6.2)"),
            {
                "fields": (
                    "transient_retries",
                    "transient_wait_seconds",
                    "resource_retries",
                    "resource_wait_seconds",
                    "integrity_retries",
                    "integrity_wait_seconds",
                    "additional_rounds",
                ),
            },
        ),
        (
            _("Time limits"),
            {
                "fields": (
                    "timeout_minutes",
                    "reserve_minutes",
                    "lock_seconds",
                    "statement_seconds",
                    "cut_seconds",
                    "switch_seconds",
                )
            },
        ),
        (_("Resources"), {"fields": ("jobs", "memory_limit_mb", "cpu_limit_percent")}),
        (
            _("Back to service"),
            {"fields": ("release_stages", "stage_wait_seconds", "watch_minutes", "watch_interval_seconds")},
        ),
        (None, {"fields": ("created_at", "updated_at")}),
    )

    @admin.display(description=_("URL"), ordering="url")
    def shown_url(self, setting: MaintenanceSetting) -> str:
        return setting.url

    @admin.display(description=_("rule that waits for a second person"), empty_value="-")
    def waiting_rule(self, setting: MaintenanceSetting) -> str:
        """Who proposed what; a second person saves the same."""
        proposed = pending(setting)
        if proposed is None:
            return ""
        names = {f.name: f.verbose_name for f in MaintenanceSetting._meta.fields}
        rule = [f"{names[field]}: {told_value(proposed['rule'][field])}" for field in RULE]
        return gettext("{who}, {at}: {rule}").format(
            who=proposed["by"],
            at=date_format(localtime(datetime.fromisoformat(proposed["at"])), "DATETIME_FORMAT"),
            rule="; ".join(rule),
        )

    def save_model(self, request: HttpRequest, obj: MaintenanceSetting, form: Any, change: bool) -> None:
        """Row and audit entry are one commit."""
        before = described(MaintenanceSetting.objects.get(pk=obj.pk)) if change else None
        assert isinstance(request.user, User)
        with transaction.atomic():
            if settle_rule(obj, Actor(who(request), "web", request.user)):
                messages.warning(
                    request,
                    gettext("The weaker rule of approval waits until a second person saves the same."),
                )
            super().save_model(request, obj, form, change)
            changed = {"password_changed": True} if form.cleaned_data["new_password"] else {}
            after = {**described(obj), **changed}
            chain.record(who(request), "setting.changed" if change else "setting.registered", obj.name, before, after)

    def has_delete_permission(self, request: HttpRequest, obj: MaintenanceSetting | None = None) -> bool:
        """Without its row a database would have no rule: first two people take the rule away."""
        return (obj is None or not has_rule(obj)) and super().has_delete_permission(request, obj)

    def delete_model(self, request: HttpRequest, obj: MaintenanceSetting) -> None:
        with transaction.atomic():
            chain.record(who(request), "setting.deleted", obj.name, before=described(obj))
            super().delete_model(request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """A maintenance that is not over needs its settings: without them nobody could end it."""
        deleted, counts, needed, protected = super().get_deleted_objects(objs, request)
        held = RunTarget.objects.filter(setting__in=objs, finished_at=None).select_related("run")
        return deleted, counts, needed, [*protected, *map(str, held)]

    def get_urls(self) -> list[URLPattern]:
        test = path(
            "<int:pk>/test/",
            self.admin_site.admin_view(self.test_connection),
            name="maintenance_maintenancesetting_test",
        )
        grants = path(
            "<int:pk>/grants/",
            self.admin_site.admin_view(self.show_grants),
            name="maintenance_maintenancesetting_grants",
        )
        looks = [
            path(where, self.admin_site.admin_view(self.look), name=f"maintenance_maintenancesetting_{name}")
            for where, name in (("<int:pk>/look/", "look"), ("look/", "look_at_new"))
        ]
        return [test, grants, *looks, *super().get_urls()]

    def get_form(
        self, request: HttpRequest, obj: MaintenanceSetting | None = None, change: bool = False, **kw: Any
    ) -> Any:
        """With who changed what beside each field of a row that is there."""
        found = super().get_form(request, obj, change, **kw)
        if obj is None or request.method != "GET":
            return found

        class WithChanges(found):  # type: ignore[misc, valid-type]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.tell_changes()

        return WithChanges

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        setting = kwargs.get("obj")
        return super().render_change_form(request, {**context, "meaning": meaning_of(setting)}, *args, **kwargs)

    def look(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """What the values in the form would do, before anything is saved: connection, folders, thresholds.

        They go through the form's own checks first, so a stored password never goes to another address.
        """
        if request.method != "POST":
            raise PermissionDenied
        setting = self._asked(request, pk) if pk else None
        if setting is None and not self.has_add_permission(request):
            raise PermissionDenied
        form = SettingForm(request.POST, instance=setting)
        looked: list[tuple[bool, str]] = []
        if form.is_valid():
            count_test(request, form.instance)
            looked = looked_at(form.instance)
        fields = [(form.fields[n].label if n in form.fields else "", errors) for n, errors in form.errors.items()]
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Nothing is saved yet"),
            "looked": looked,
            "errors": fields,
            "fragment": bool(request.headers.get("HX-Request")),
        }
        return render(request, "admin/looked.html", context)

    def test_connection(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Logs in as a maintenance would, asks who the server is, and says it in its words."""
        setting = self._asked(request, pk)
        count_test(request, setting)
        try:
            messages.success(request, connected(setting))
        except NO_CONNECTION as error:
            messages.error(request, gettext("No connection: {error}").format(error=told(error)))
        return redirect("admin:maintenance_maintenancesetting_change", pk)

    def show_grants(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What the account may do already, and the statements that give the rest: to be run by an administrator."""
        setting = self._asked(request, pk)
        count_test(request, setting)
        role = request.POST.get("role", "").strip() or None
        try:
            grants = privileges.needed(setting, role)
        except NO_CONNECTION as error:
            messages.error(request, gettext("No connection: {error}").format(error=told(error)))
            return redirect("admin:maintenance_maintenancesetting_change", pk)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Rights on {database}").format(database=setting.name),
            "opts": self.opts,
            "setting": setting,
            "role": role or "",
            "grants": grants,
            "missing": [grant for grant in grants if not grant.given and grant.statement],
        }
        return render(request, "admin/maintenance_grants.html", context)

    def _asked(self, request: HttpRequest, pk: int) -> MaintenanceSetting:
        """Both log in to the target: by POST, and only for people who may change how."""
        setting = get_object_or_404(MaintenanceSetting, pk=pk)
        if request.method != "POST" or not self.has_change_permission(request, setting):
            raise PermissionDenied
        return setting


def count_test(request: HttpRequest, setting: MaintenanceSetting) -> None:
    """Whoever can name hosts and ports could find out with many tests what listens where. Every test is audited
    before it is tried. Raises TooManyTries."""
    throttle.attempt(who(request), address(request), throttle.CONNECTION).spend()
    chain.record(who(request), "setting.tested", setting.name, after={"url": setting.url})


def connected(setting: MaintenanceSetting) -> str:
    engine = open_engine(setting.engine_url, Tag(0, 0, signer=mark_reader()), setting.limits)
    try:
        facts = engine.sessions.facts()
    finally:
        engine.close()
    return gettext("Connected: {version}.").format(version=facts.version)


def looked_at(setting: MaintenanceSetting) -> list[tuple[bool, str]]:
    """Pairs of whether it is well, and a sentence: of the connection, the folders and the thresholds."""
    try:
        found = [(True, connected(setting))]
    except NO_CONNECTION as error:
        found = [(False, gettext("No connection: {error}").format(error=told(error)))]
    folders = [Path(folder) for folder in (setting.backup_dir, setting.alternate_backup_dir) if folder]
    found += [(not folder.exists() or folder.is_dir(), rendered(places.look_at_folder(folder))) for folder in folders]
    return found + [(True, sentence) for sentence in meaning_of(setting)]


def meaning_of(setting: MaintenanceSetting | None) -> list[str]:
    """What the thresholds would mean for the database as it was last diagnosed; nothing before that."""
    if setting is None or setting.pk is None:
        return []
    looks = DatabaseState.objects.filter(setting=setting, source=DatabaseState.Source.DIAGNOSIS)
    state = looks.exclude(tables=[]).order_by("-measured_at").first()
    if state is None:
        return []
    when = gettext("As of the diagnosis of {at}:").format(
        at=date_format(localtime(state.measured_at), "DATETIME_FORMAT")
    )
    engine = setting.url.split(":")[0].split("+")[0]
    return [when, *(rendered(sentence) for sentence in meaning(engine, state.tables, setting.thresholds))]


def told(error: Exception) -> str:
    if isinstance(error, EngineError):
        return rendered(error.sentence)
    return str(error)


def told_value(value: Any) -> str:
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    return ", ".join(value) or gettext("none") if isinstance(value, list) else f"{value:g}"


def who(request: HttpRequest) -> str:
    assert isinstance(request.user, User)
    return request.user.get_username()


class Audited:
    """People and groups decide who may launch: their changes are audited too."""

    kind: ClassVar[str]

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any) -> Any:
        with transaction.atomic():
            self.before = self._stored(object_id)
            return super().changeform_view(request, object_id, *args, **kwargs)  # type: ignore[misc]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        operation = f"{self.kind}.changed" if change else f"{self.kind}.created"
        chain.record(who(request), operation, str(form.instance), self.before, shown(form.instance))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            chain.record(who(request), f"{self.kind}.deleted", str(obj), before=shown(obj))
            super().delete_model(request, obj)  # type: ignore[misc]

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for obj in queryset:
            self.delete_model(request, obj)

    def _stored(self, object_id: str | None) -> Json | None:
        found = self.model._default_manager.filter(pk=object_id).first() if object_id else None  # type: ignore[attr-defined]
        return shown(found) if found else None


@singledispatch
def shown(obj: Any) -> Json:
    """What the audit log keeps of it."""
    return {"name": str(obj)}


@shown.register
def shown_person(person: User) -> Json:
    return {
        "username": person.username,
        "email": person.email,
        "active": person.is_active,
        "staff": person.is_staff,
        "superuser": person.is_superuser,
        "groups": sorted(person.groups.values_list("name", flat=True)),
        "permissions": sorted(person.user_permissions.values_list("codename", flat=True)),
    }


@shown.register
def shown_group(group: Group) -> Json:
    return {"name": group.name, "permissions": sorted(group.permissions.values_list("codename", flat=True))}


class PersonAdmin(Audited, BaseUserAdmin):
    """What a person may do is a matter of groups; permissions of their own are shown in words, and audited."""

    kind = "person"
    form = PersonForm
    list_display = ("username", "email", "their_groups", "is_active", "last_login")
    list_filter = ("is_active", "groups")
    filter_horizontal = ()
    readonly_fields = ("last_login", "date_joined", "own_permissions")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Person"), {"fields": ("first_name", "last_name", "email")}),
        (_("What this person may do"), {"fields": ("is_active", "groups", "is_superuser", "own_permissions")}),
        (_("Since when"), {"fields": ("last_login", "date_joined")}),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("groups")

    @admin.display(description=_("Groups"))
    def their_groups(self, person: User) -> str:
        """Return the names of their groups."""
        return ", ".join(sorted(group.name for group in person.groups.all()))

    @admin.display(description=_("beside the groups"), empty_value="-")
    def own_permissions(self, person: User) -> str:
        """Return what was given to this person alone, by a command."""
        return in_words(person.user_permissions.all()) if person.pk else ""

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Who may do everything is made so by people who may."""
        fixed = super().get_readonly_fields(request, obj)
        return fixed if request.user.is_superuser else (*fixed, "is_superuser")

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Somebody else's password, set or made unusable: an entry where it was changed."""
        with transaction.atomic():
            before = User.objects.filter(pk=id).values_list("password", flat=True).first()
            answer = super().user_change_password(request, id, form_url)
            after = User.objects.filter(pk=id).values_list("username", "password").first()
            if after is not None and after[1] != before:
                chain.record(who(request), "password.reset", after[0])
        return answer


class PeopleAdmin(Audited, GroupAdmin):
    kind = "group"
    form = GroupForm
    filter_horizontal = ()
    list_display = ("name", "may")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("permissions")

    @admin.display(description=_("its people may"))
    def may(self, group: Group) -> str:
        """Return what the group lets its people do."""
        return in_words(group.permissions.all())


# The queue is no shell: nobody writes into it by hand, and reading results would open pickles.
for queued in (OrmQ, Schedule, Success, Failure):
    if admin.site.is_registered(queued):
        admin.site.unregister(queued)
# Their pages would show secrets; people manage their own factor under "Your account".
admin.site.unregister(TOTPDevice)
admin.site.unregister(StaticDevice)
admin.site.unregister(User)
admin.site.unregister(Group)
admin.site.register(User, PersonAdmin)
admin.site.register(Group, PeopleAdmin)


class ReadOnly:
    """The console alone writes these rows."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Notification)
class NotificationAdmin(ReadOnly, NotificationModelAdmin):
    list_display = ("created_at", "event", "audience", "channel", "address", "delivered_at", "tries", "error")
    list_filter = ("event", "audience", "channel")
    search_fields = ("title", "body", "error")
    list_select_related = ("run",)


@admin.register(Incident)
class IncidentAdmin(ReadOnly, IncidentModelAdmin):
    list_display = ("alert", "database", "severity_level", "opened_at", "closed_at", "closed_by")
    list_filter = ("severity_level", "alert")
    search_fields = ("alert", "database", "summary")
