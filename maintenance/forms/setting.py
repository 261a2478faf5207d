"""The form of TBL-098: lists are ticked or typed as people write them, and each refusal says what would be right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from maintenance.auditing.field_history import Change, last_changes
from maintenance.conf import config
from maintenance.engines import ENGINES
from maintenance.models import MaintenanceSetting, MaintenanceType, SeverityLevel
from maintenance.models.setting import rising_shares

if TYPE_CHECKING:
    SettingModelForm = forms.ModelForm[MaintenanceSetting]
else:
    SettingModelForm = forms.ModelForm


class PercentField(forms.CharField):
    """'10, 50' <-> [10, 50]: above 0, below 100, rising."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(f"{x:g}" for x in value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[float]:  # type: ignore[override]
        try:
            found = [float(x.strip().removesuffix("%")) for x in str(value or "").split(",") if x.strip()]
        except ValueError as error:
            raise ValidationError(gettext("Give percentages separated by commas, e.g. 10, 50.")) from error
        if not rising_shares(found):
            raise ValidationError(gettext("Each is above 0, below 100, and larger than the one before it: 10, 50."))
        return [int(x) if x.is_integer() else x for x in found]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class StatementsField(forms.CharField):
    """Statements that read, each ended by a semicolon at the end of its line <-> list of them."""

    widget = forms.Textarea({"rows": 6, "cols": 80, "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(f"{x};" for x in value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        return [x.strip() for x in re.split(r";[ \t]*(?:\r?\n|$)", str(value or "")) if x.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class SettingForm(SettingModelForm):
    """The password goes in and never comes out."""

    new_password = forms.CharField(
        label=_("New password"),
        required=False,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
        help_text=_(
            "Empty: stays as it is. It is kept encrypted for this user, server and protection, and shown nowhere; "
            "where the URL changes one of them, enter it again."
        ),
    )

    class Meta:
        model = MaintenanceSetting
        exclude = ("sealed_password",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.fields:
            self._like_people_write(name)
            self._with_default(name)

    def _like_people_write(self, name: str) -> None:
        """Lists are stored as JSON, which nobody should have to type."""
        made: forms.Field
        if name == "applications":
            made = ticked([(x, x) for x in self._applications()])
        elif name == "approval_severities":
            made = ticked(SeverityLevel.choices)
        elif name == "approval_types":
            made = ticked(MaintenanceType.choices)
        elif name == "release_stages":
            made = PercentField(required=False)
        elif name in ("benchmark_queries", "functional_checks"):
            made = StatementsField(required=False)
        else:
            return
        column = MaintenanceSetting._meta.get_field(name)
        assert isinstance(column, models.JSONField)
        made.label, made.help_text = capfirst(column.verbose_name), column.help_text
        if isinstance(made, StatementsField):
            ended = gettext("End each with a semicolon and begin a new line.")
            made.help_text = f"{column.help_text} {ended}"
        self.fields[name] = made

    def _applications(self) -> list[str]:
        """Those of config.json, and what this row still names."""
        return list(dict.fromkeys([*config.load().applications, *(self.instance.applications or [])]))

    def _with_default(self, name: str) -> None:
        """What the specification sets, or we where it sets nothing."""
        if name not in {f.name for f in MaintenanceSetting._meta.fields}:
            return
        column = MaintenanceSetting._meta.get_field(name)
        default = getattr(column, "default", None)
        if isinstance(default, int | float) and not isinstance(default, bool):
            field = self.fields[name]
            told = gettext("Default: {number}.").format(number=f"{default:g}" if default < 1 else default)
            field.help_text = f"{field.help_text} {told}"

    def tell_changes(self) -> None:
        """Say beside each field who changed it last, and what it was before."""
        for name, change in last_changes(self.instance.name).items():
            if name in self.fields:
                field = self.fields[name]
                field.help_text = format_html("{}{}", mark_safe(field.help_text), _told(change))  # noqa: S308

    def clean(self) -> dict[str, Any] | None:
        """A password belongs to the address that it is entered with: the row takes both or neither."""
        self.instance.entered_password = self.cleaned_data.get("new_password") or None
        return super().clean()

    def clean_applications(self) -> list[str]:
        chosen = list(self.cleaned_data["applications"])
        unknown = sorted(set(chosen) - set(config.load().applications))
        if unknown:
            raise ValidationError(gettext("config.json does not describe: {names}.").format(names=", ".join(unknown)))
        return chosen

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"])
        if url.split(":")[0].split("+")[0] not in ENGINES:
            raise ValidationError(gettext("Use one of: {names}.").format(names=", ".join(sorted(ENGINES))))
        return url


def _told(change: Change) -> SafeString:
    at = date_format(localtime(change.at), "SHORT_DATETIME_FORMAT")
    if change.before is None:
        words = gettext("Last changed by {who}, {at}.").format(who=change.who, at=at)
    else:
        before = ", ".join(map(str, change.before)) if isinstance(change.before, list) else str(change.before)
        words = gettext("Last changed by {who}, {at}; before: {before}").format(
            who=change.who, at=at, before=before or gettext("empty")
        )
    return format_html('<span class="last-change">{}</span>', words)


def ticked(choices: Any) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(choices=choices, required=False, widget=forms.CheckboxSelectMultiple)
