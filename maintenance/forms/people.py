"""People and groups for the settings: what each may do, ticked in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.forms import UserChangeForm
from django.contrib.auth.models import Group, Permission
from django.db.models import Case, When
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from maintenance.text.permissions import PERMISSIONS

if TYPE_CHECKING:
    GroupModelForm = forms.ModelForm[Group]
    ModelTicks = forms.ModelMultipleChoiceField[Any]
    PersonChangeForm = UserChangeForm[Any]
else:
    GroupModelForm, ModelTicks, PersonChangeForm = forms.ModelForm, forms.ModelMultipleChoiceField, UserChangeForm

ORDER = list(PERMISSIONS)


class PermissionTicks(ModelTicks):
    """Permissions as what a person may do; those without words open nothing here and are not offered."""

    widget = forms.CheckboxSelectMultiple

    def label_from_instance(self, obj: Permission) -> str:
        return str(PERMISSIONS.get(obj.codename, obj.name))


class GroupTicks(ModelTicks):
    """Groups, each with what it lets its people do."""

    widget = forms.CheckboxSelectMultiple

    def label_from_instance(self, obj: Group) -> str:
        may = in_words(obj.permissions.all())
        return gettext("{group}: may {what}").format(group=obj.name, what=may) if may else obj.name


def in_words(permissions: Iterable[Permission]) -> str:
    """Return what these let a person do, in the order of PERMISSIONS."""
    names = {permission.codename for permission in permissions}
    return ", ".join(str(PERMISSIONS[name]) for name in ORDER if name in names)


class GroupForm(GroupModelForm):
    """A group and what its people may do; a permission that is not offered stays as it is."""

    permissions = PermissionTicks(queryset=Permission.objects.none(), required=False, label=_("Its people may"))

    class Meta:
        model = Group
        fields = ("name", "permissions")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = Permission.objects.filter(
            content_type__app_label__in=("maintenance", "auth"), codename__in=ORDER
        ).select_related("content_type")
        field = self.fields["permissions"]
        assert isinstance(field, PermissionTicks)
        field.queryset = offered.order_by(Case(*(When(codename=name, then=n) for n, name in enumerate(ORDER))))

    def clean_permissions(self) -> list[Permission]:
        chosen = list(self.cleaned_data["permissions"])
        if self.instance.pk:
            chosen += self.instance.permissions.exclude(codename__in=ORDER)
        return chosen


class PersonForm(PersonChangeForm):
    """A person; what they may do comes from groups alone."""

    groups = GroupTicks(
        queryset=Group.objects.prefetch_related("permissions").order_by("name"),
        required=False,
        label=_("Groups"),
        help_text=_("A person may do what any of their groups may."),
    )
