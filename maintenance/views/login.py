"""Logging in, and a new password: throttled, audited."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, PasswordChangeView
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

from maintenance.auditing import chain
from maintenance.identity import proof, throttle
from maintenance.identity.addresses import address
from maintenance.identity.factors import device_of
from maintenance.middleware import began

from .pieces import Page


class LoginForm(AuthenticationForm):
    """Django's; a name or an address that has to wait is turned away before any password is looked at."""

    def clean(self) -> Page:
        name = str(self.cleaned_data.get("username", ""))
        attempt = throttle.attempt(name, self._address)
        try:
            cleaned = super().clean()
        except ValidationError:
            attempt.wrong("login.failed")
            raise
        attempt.right()
        return cleaned

    @property
    def _address(self) -> str:
        assert self.request is not None
        return address(self.request)


class Login(LoginView):
    """Django's, with an entry in the audit log. The session gets a new id."""

    redirect_authenticated_user = True
    authentication_form = LoginForm

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        answer = super().form_valid(form)
        began(self.request)
        user, where = form.get_user(), address(self.request)
        chain.record(user.get_username(), "login", where)
        if not device_of(user):
            throttle.succeeded(user.get_username(), where)
            throttle.remember(user.pk, where)
        return answer


class NewPasswordForm(PasswordChangeForm):
    """Django's, behind the same throttle as every other door."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    def clean_old_password(self) -> str:
        old = str(self.cleaned_data["old_password"])
        if not proof.password(self.request, old, "password.wrong_password"):
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return old


class PasswordChange(PasswordChangeView):
    """Ends every other session and every token of the person."""

    form_class = NewPasswordForm
    success_url = reverse_lazy("maintenance:account")
    extra_context = {"title": _("Change password")}

    def get_form_kwargs(self) -> Page:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: Any) -> HttpResponse:
        user = self.request.user
        assert isinstance(user, User)
        with transaction.atomic():
            answer = super().form_valid(form)
            chain.record(user.get_username(), "password.changed", user.get_username())
        return answer
