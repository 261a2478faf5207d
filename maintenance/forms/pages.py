"""What people type, checked for its form. Whether it can be is decided behind `launch`."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from maintenance.identity import proof
from maintenance.identity.factors import device_of
from maintenance.models import MaintenanceSetting, MaintenanceType, SeverityLevel, Status
from maintenance.observation.health import ORDER, Standing
from maintenance.templatetags.console import LABELS
from maintenance.text import dates as days
from maintenance.text import labels
from maintenance.text.dates import Period, period_of, this_month
from maintenance.text.operations import OPERATIONS

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

TYPES = {
    MaintenanceType.REPAIR: _("Mends what is damaged: indexes, tables, pages. Touches nothing that is whole."),
    MaintenanceType.OPTIMIZE: _(
        "Works on what crosses the thresholds: bloat, dead rows, old statistics. Often no outage at all."
    ),
    MaintenanceType.REBUILD: _("Rewrites every table and index anew. Takes longest; for when nothing else helps."),
}
SEVERITIES = {
    SeverityLevel.CRITICAL: _("Users cannot work."),
    SeverityLevel.HIGH: _("Users are hindered, or soon will be."),
    SeverityLevel.MEDIUM: _("Noticeable, and can wait for a quiet hour."),
}
TIME_ZONES = zoneinfo.available_timezones()
"""Asked once: to answer, Python looks into each of some 600 files."""
SCOPES = [
    ("read", _("read states and history")),
    ("monitor", _("post states (monitoring)")),
    ("alert", _("open incidents (Alertmanager)")),
    ("launch", _("launch maintenance")),
    ("approve", _("approve maintenance that others asked for")),
]
HANDLING = "launch_maintenance"
"""The permission of those a run can be handed over to."""
OFFERED_MONTHS = 36
OFFERED_DATABASES = 30
"""So many are listed to choose from, worst first; others are named."""
TYPED_NAMES = 10
"""Of more databases than this their number is typed, not their names."""


class Explained(forms.RadioSelect):
    """Each choice with a sentence on what it means."""

    template_name = "widgets/explained.html"

    def __init__(self, sentences: dict[Any, Any]) -> None:
        super().__init__()
        self.sentences = sentences

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option = super().create_option(name, value, *args, **kwargs)
        return {**option, "sentence": self.sentences.get(value, "")}


class LaunchForm(forms.Form):
    """First screen: the specification's parameters (3.3)."""

    maintenance_type = forms.ChoiceField(
        label=_("What shall be done"), choices=MaintenanceType, widget=Explained(TYPES)
    )
    databases = forms.MultipleChoiceField(label=_("Databases"), required=False, widget=forms.CheckboxSelectMultiple)
    others = forms.CharField(
        label=_("Others, by name"),
        required=False,
        widget=forms.Textarea({"rows": 2, "spellcheck": "false", "class": "mono"}),
        help_text=_("One a line: the list above shows only the first."),
    )
    all_databases = forms.BooleanField(label=_("All databases"), required=False)
    tables = forms.CharField(
        label=_("Only these tables"),
        required=False,
        widget=forms.Textarea({"rows": 3, "spellcheck": "false", "class": "mono"}),
        help_text=_("One a line, e.g. public.orders. Empty: the whole database."),
    )
    severity_level = forms.ChoiceField(label=_("How bad it is"), choices=SeverityLevel, widget=Explained(SEVERITIES))
    reason = forms.CharField(
        label=_("Reason"),
        max_length=2000,
        widget=forms.Textarea({"rows": 3}),
        help_text=_("What is wrong, since when, and who asked. It stands in the report."),
    )
    allow_data_loss = forms.BooleanField(
        label=_("Rows that cannot be read may be lost"),
        required=False,
        help_text=_("Only for damage that nothing else mends. The report lists every row that went."),
    )

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = MaintenanceSetting.objects.filter(enabled=True).values_list("name", flat=True)
        field = self.fields["databases"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(name, name) for name in names]
        if len(field.choices) <= OFFERED_DATABASES:
            del self.fields["others"]
        if not user.has_perm("maintenance.allow_data_loss"):
            del self.fields["allow_data_loss"]

    def clean_others(self) -> list[str]:
        names = list(dict.fromkeys(filter(None, map(str.strip, self.cleaned_data["others"].splitlines()))))
        found = set(MaintenanceSetting.objects.filter(enabled=True, name__in=names).values_list("name", flat=True))
        if unknown := [name for name in names if name not in found]:
            raise ValidationError(gettext("There is no database {names}.").format(names=", ".join(unknown)))
        return names

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        data["databases"] = list(dict.fromkeys([*data.get("databases", []), *data.get("others", [])]))
        if not data["databases"] and not data.get("all_databases") and "others" not in self.errors:
            self.add_error("databases", gettext("Choose at least one database, or all."))
        return data

    def chosen(self) -> dict[str, Any]:
        """The arguments of `launch.Request`, as JSON types."""
        data = self.cleaned_data
        return {
            "maintenance_type": data["maintenance_type"],
            "target_databases": None if data["all_databases"] else data["databases"],
            "severity_level": data["severity_level"],
            "reason": data["reason"],
            "target_tables": list(dict.fromkeys(filter(None, map(str.strip, data["tables"].splitlines())))),
            "allow_data_loss": data.get("allow_data_loss", False),
        }


class Proven(forms.Form):
    """Whoever sits at an open session proves to be the same person."""

    password = forms.CharField(
        label=_("Your password"), strip=False, widget=forms.PasswordInput({"autocomplete": "current-password"})
    )

    wrong = "account.wrong_password"
    """What a wrong one is called in the audit log."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    def clean_password(self) -> str:
        if not proof.password(self.request, self.cleaned_data["password"], self.wrong):
            raise ValidationError(gettext("The password is wrong."), code="wrong")
        return ""


class GlassForm(Proven):
    """Why it begins without the approval it needs."""

    glass = forms.CharField(
        label=_("Why it cannot wait for the second person"),
        max_length=2000,
        widget=forms.Textarea({"rows": 2}),
        help_text=_("Whom you tried to reach, and what waiting would cost. Everybody is told, and it is audited."),
    )

    field_order = ["glass", "password"]
    wrong = "launch.wrong_password"


class ApproveForm(Proven):
    """A second person's yes: an open session alone gives none."""

    wrong = "approve.wrong_password"


class RejectForm(forms.Form):
    """What the second person has against it."""

    comment = forms.CharField(
        label=_("Why not"),
        max_length=2000,
        widget=forms.Textarea({"rows": 2}),
        help_text=_("Whoever asked is told, and it is audited."),
    )


class CommentForm(forms.Form):
    """What somebody has to say of a run, and who goes on with it."""

    text = forms.CharField(label=_("Comment"), max_length=2000, widget=forms.Textarea({"rows": 2}))
    handed_to = forms.ChoiceField(label=_("Hand it over to"), required=False)

    def __init__(self, writer: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        may = Q(user_permissions__codename=HANDLING) | Q(groups__permissions__codename=HANDLING)
        people = User.objects.filter(may, is_active=True).exclude(username=writer).distinct().order_by("username")
        field = self.fields["handed_to"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", _("nobody")), *((name, name) for name in people.values_list("username", flat=True))]


class ConfirmForm(GlassForm):
    """Last screen: the names typed by hand. The button that breaks the glass is pressed only with a reason."""

    plan = forms.IntegerField(widget=forms.HiddenInput)
    """The number of the plan that the page showed."""
    names = forms.CharField(
        label=_("Type the name of the database"),
        widget=forms.TextInput(
            {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none", "class": "mono"}
        ),
    )

    def __init__(self, request: HttpRequest, plan: int, wanted: Sequence[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, initial={"plan": plan}, **kwargs)
        self.number, self.wanted = plan, set(wanted)
        self.fields["glass"].required = "break_glass" in self.data
        if len(wanted) > TYPED_NAMES:
            self.fields["names"].label = _("Type how many databases these are")
        elif len(wanted) > 1:
            self.fields["names"].label = _("Type the names of the databases, separated by commas")

    def clean_plan(self) -> int:
        if self.cleaned_data["plan"] != self.number:
            raise ValidationError(gettext("This page showed another plan; nothing was started."), code="other")
        return self.number

    def clean_names(self) -> str:
        if len(self.wanted) > TYPED_NAMES:
            if self.cleaned_data["names"].strip() != str(len(self.wanted)):
                raise ValidationError(
                    gettext("These are {count} databases.").format(count=len(self.wanted)), code="other"
                )
            return str(self.cleaned_data["names"])
        typed = {name.strip() for name in self.cleaned_data["names"].split(",") if name.strip()}
        if typed != self.wanted:
            raise ValidationError(
                gettext("This is not {names}.").format(names=", ".join(sorted(self.wanted))), code="other"
            )
        return str(self.cleaned_data["names"])

    @property
    def breaks_glass(self) -> str:
        """The reason, when that button was pressed; else nothing."""
        return str(self.cleaned_data["glass"]) if "break_glass" in self.data else ""


class CodeInput(forms.TextInput):
    """A code that came with a wrong password is good still: no page repeats it."""

    def format_value(self, value: object) -> None:
        return None


def code_field(help_text: str | _StrPromise) -> forms.CharField:
    widget = CodeInput(
        {"autocomplete": "one-time-code", "spellcheck": "false", "autocapitalize": "none", "class": "mono"}
    )
    return forms.CharField(label=_("Code"), max_length=40, widget=widget, help_text=help_text)


class CodeForm(forms.Form):
    """The second factor after the password."""

    code = code_field(_("Six digits from your authenticator app, or one of your recovery codes."))


class NewFactorForm(Proven):
    """The first code, and the password: an open session alone must not bind somebody else's telephone."""

    code = code_field(_("The six digits that the app shows now."))
    field_order = ["code", "password"]


class ProvenByBoth(Proven):
    """The password, and the code where a second factor is enrolled."""

    code = code_field(_("Six digits from your authenticator app, or one of your recovery codes."))
    field_order = ["password", "code"]

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        assert isinstance(request.user, User)
        if not device_of(request.user):
            del self.fields["code"]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        # The code is used up only with a right password.
        if data.get("code") and not self.errors and not proof.code(self.request, data["code"], "account.proven"):
            self.add_error("code", gettext("The code is wrong, or was used already."))
        return data


class DateInput(forms.DateInput):
    input_type = "date"


class Filter(forms.Form):
    """From and to, both inclusive, in the reader's time zone."""

    since = forms.DateField(label=_("From"), required=False, widget=DateInput)
    until = forms.DateField(label=_("To"), required=False, widget=DateInput)

    exact: dict[str, str] = {}
    """Field of the form -> lookup."""
    dated = "at"

    def exactly(self) -> Q:
        chosen = getattr(self, "cleaned_data", {})
        found = Q()
        for name, lookup in self.exact.items():
            if chosen.get(name):
                found &= Q(**{lookup: chosen[name]})
        return found & days.between(self.dated, chosen.get("since"), chosen.get("until"))


def _any(choices: Any) -> list[Any]:
    return [("", _("any")), *choices]


class HistoryFilter(Filter):
    database = forms.ChoiceField(label=_("Database"), required=False)
    maintenance_type = forms.ChoiceField(label=_("Type"), required=False, choices=_any(MaintenanceType.choices))
    severity_level = forms.ChoiceField(label=_("Severity"), required=False, choices=_any(SeverityLevel.choices))
    status = forms.ChoiceField(label=_("Status"), required=False, choices=_any(Status.choices))
    who = forms.CharField(label=_("Asked by"), required=False, max_length=200)
    text = forms.CharField(label=_("Text"), required=False, max_length=200)

    field_order = ["database", "maintenance_type", "severity_level", "status", "who", "since", "until", "text"]
    exact = {
        "maintenance_type": "maintenance_type",
        "severity_level": "severity_level",
        "status": "status",
        "who": "requested_by_name__istartswith",
    }
    dated = "created_at"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["database"]
        assert isinstance(field, forms.ChoiceField)
        names = MaintenanceSetting.objects.values_list("name", flat=True)
        asked = self.data.get("database", "")
        field.choices = _any((name, name) for name in dict.fromkeys([*names, *([asked] if asked else [])]))

    @property
    def sort(self) -> str:
        return str(self.data.get("sort") or "-started")


class AuditFilter(Filter):
    actor = forms.CharField(label=_("Who"), required=False, max_length=200)
    operation = forms.ChoiceField(label=_("Operation"), required=False)
    object = forms.CharField(label=_("Object"), required=False, max_length=200)

    field_order = ["actor", "operation", "object", "since", "until"]
    exact = {"actor": "actor__istartswith", "operation": "operation__istartswith", "object": "object__icontains"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["operation"]
        assert isinstance(field, forms.ChoiceField)
        asked = self.data.get("operation", "")
        own = [(asked, asked)] if asked not in OPERATIONS and asked else []
        field.choices = _any(
            [*sorted(((name, str(word)) for name, word in OPERATIONS.items()), key=itemgetter(1)), *own]
        )


class DatabaseFilter(forms.Form):
    """Of the list of databases. What is not valid filters nothing."""

    text = forms.CharField(label=_("Name"), required=False, max_length=63)
    state = forms.ChoiceField(label=_("State"), required=False)
    engine = forms.ChoiceField(label=_("Product"), required=False, choices=_any(labels.ENGINES.items()))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["state"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = _any([("trouble", gettext("in trouble")), *((word, LABELS[word]) for word in ORDER)])

    def chosen(self, standings: Sequence[Standing]) -> list[Standing]:
        """Return those that match, in the order in which they came."""
        self.is_valid()
        wanted = self.cleaned_data
        text, state, engine = (wanted.get(name, "") for name in ("text", "state", "engine"))
        return [
            s
            for s in standings
            if text.casefold() in s.setting.name.casefold()
            and (not state or s.word == state or (state == "trouble" and s.in_trouble))
            and (not engine or s.engine == engine)
        ]


class PreferencesForm(forms.Form):
    language = forms.ChoiceField(
        label=_("Language"), required=False, choices=[("", _("as the browser asks")), *settings.LANGUAGES]
    )
    time_zone = forms.ChoiceField(
        label=_("Time zone"),
        required=False,
        choices=[("", _("as the browser says")), *((name, name) for name in sorted(TIME_ZONES))],
    )


class TokenForm(Proven):
    """An open session alone must not make what then launches without it."""

    name = forms.CharField(label=_("What it is for"), max_length=100)
    scopes = forms.MultipleChoiceField(
        label=_("It may"), choices=SCOPES, initial=["read"], widget=forms.CheckboxSelectMultiple
    )
    days = forms.IntegerField(label=_("Days until it expires"), initial=90, min_value=1, max_value=365)

    field_order = ["name", "scopes", "days", "password"]
    wrong = "token.wrong_password"


class ReportFilter(forms.Form):
    """Of the management section. Invalid: this month, and everything."""

    period = forms.ChoiceField(label=_("Month, quarter or year"), required=False)
    database = forms.ChoiceField(label=_("Database"), required=False)
    maintenance_type = forms.ChoiceField(label=_("Type"), required=False, choices=_any(MaintenanceType.choices))
    severity_level = forms.ChoiceField(label=_("Severity"), required=False, choices=_any(SeverityLevel.choices))

    narrowing = ("database", "maintenance_type", "severity_level")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        asked = period_of(self.data.get("period", ""))
        self._choose("period", list(_periods(asked)))
        names = MaintenanceSetting.objects.values_list("name", flat=True)
        database = self.data.get("database", "")
        self._choose("database", _any((name, name) for name in dict.fromkeys([*names, *filter(None, [database])])))

    def _choose(self, name: str, choices: list[Any]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices

    def chosen_period(self) -> Period:
        return period_of(getattr(self, "cleaned_data", {}).get("period", "")) or Period(this_month(), 1)


def _periods(asked: Period | None) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What can be chosen, newest first, in groups; with what is asked for, however old."""
    now = Period(this_month(), 1)
    year = now.around.around
    kinds = ((_("Months"), now, OFFERED_MONTHS), (_("Quarters"), now.around, 12), (_("Years"), year, 6))
    for name, newest, count in kinds:
        offered = {newest + -n for n in range(count)} | ({asked} if asked and asked.months == newest.months else set())
        yield str(name), [(str(period), period.name) for period in sorted(offered, reverse=True)]
