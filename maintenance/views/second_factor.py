"""The second factor: a code from an authenticator app (TOTP), or one of the recovery codes."""

from __future__ import annotations

import hashlib
from base64 import b32encode
from typing import Any

import segno
from django.contrib import messages
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST
from django_otp import login as otp_login
from django_otp.middleware import is_verified
from django_otp.plugins.otp_static.models import StaticDevice

from maintenance.auditing import chain
from maintenance.forms.pages import CodeForm, NewFactorForm, Proven
from maintenance.middleware import needs_factor
from maintenance.models import Authenticator

from .access import open_to, person

RECOVERY_CODES = 10
DEVICE = "authenticator"


@sensitive_post_parameters("code")
@never_cache
@open_to()
@require_http_methods(["GET", "POST"])
def second_factor(request: HttpRequest) -> HttpResponseBase:
    """After the password: the code. django-otp itself makes the next try wait longer after each wrong one."""
    user = person(request)
    if is_verified(request.user) or not device_of(user):
        return redirect(_next(request))
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            device = shown(user, form.cleaned_data["code"])
            if device is not None:
                chain.record(user.get_username(), "login.second_factor", device.name)
        if device is not None:
            otp_login(request, device)
            return redirect(_next(request))
        chain.record(user.get_username(), "login.wrong_code", "second factor")
        form.add_error("code", _("The code is wrong, was used already, or came too soon after a wrong one."))
    return render(request, "account/second_factor.html", {"form": form, "next": _next(request)})


@sensitive_post_parameters("code", "password")
@never_cache
@open_to()
@require_http_methods(["GET", "POST"])
def second_factor_enrol(request: HttpRequest) -> HttpResponseBase:
    """Shows the secret as a picture and as text; the first code proves that the app has it."""
    user = person(request)
    if device_of(user):
        return redirect("maintenance:account")
    device = _begun(user)
    form = NewFactorForm(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        if device.verify_token(form.cleaned_data["code"]):
            codes = _enrolled(request, user, device)
            return render(request, "account/recovery_codes.html", {"codes": codes, "next": _next(request)})
        form.add_error("code", _("This is not the code that the app shows now."))
    context = {
        "form": form,
        "secret": b32encode(device.bin_key).decode(),
        "picture": picture(device),
        "needed": needs_factor(user),
        "next": _next(request),
    }
    return render(request, "account/enrol.html", context)


def _begun(user: User) -> Authenticator:
    """The one that is being enrolled: the same on a second look, unless its key cannot be read any more."""
    device: Authenticator | None = Authenticator.objects.filter(user=user, name=DEVICE, confirmed=False).first()
    if device is None or not device.readable:
        Authenticator.objects.filter(user=user, confirmed=False).delete()
        device = Authenticator(user=user, name=DEVICE, confirmed=False, key=Authenticator.new_key(user))
        device.save()
    return device


def _enrolled(request: HttpRequest, user: User, device: Authenticator) -> list[str]:
    with transaction.atomic():
        Authenticator.objects.filter(pk=device.pk).update(confirmed=True)
        codes = new_recovery_codes(user)
        chain.record(user.get_username(), "second_factor.enrolled", user.get_username())
    otp_login(request, Authenticator.objects.get(pk=device.pk))
    return codes


@sensitive_post_parameters("password")
@never_cache
@open_to()
@require_POST
def recovery_codes(request: HttpRequest) -> HttpResponseBase:
    """New ones; the old ones are void."""
    user = person(request)
    if not _may_change(request):
        return redirect("maintenance:account")
    with transaction.atomic():
        codes = new_recovery_codes(user)
        chain.record(user.get_username(), "second_factor.new_recovery_codes", user.get_username())
    return render(request, "account/recovery_codes.html", {"codes": codes, "next": reverse("maintenance:account")})


@sensitive_post_parameters("password")
@open_to()
@require_POST
def second_factor_remove(request: HttpRequest) -> HttpResponseBase:
    """E.g. before a change of the telephone. Who needs one is asked for a new one at once."""
    user = person(request)
    if _may_change(request):
        remove(user, user.get_username())
        messages.success(request, _("The second factor is removed."))
    return redirect("maintenance:account")


def _may_change(request: HttpRequest) -> bool:
    """An open session alone is not enough to change how one logs in."""
    if device_of(person(request)) and Proven(person(request), request.POST).is_valid():
        return True
    messages.error(request, _("The password is wrong."))
    return False


def remove(user: User, by: str) -> bool:
    """Also for an administrator when telephone and recovery codes are lost. False: there was none."""
    with transaction.atomic():
        there = device_of(user) is not None
        Authenticator.objects.filter(user=user).delete()
        StaticDevice.objects.filter(user=user).delete()
        if there:
            chain.record(by, "second_factor.removed", user.get_username())
    return there


def device_of(user: User) -> Authenticator | None:
    found: Authenticator | None = Authenticator.objects.filter(user=user, confirmed=True).first()
    return found


def shown(user: User, code: str) -> Any:
    """The device whose code this is, else None. Locks them: a code counts once, however many ask at the same time."""
    for device in Authenticator.objects.select_for_update().filter(user=user, confirmed=True):
        # Where the secret key is another than it was, the recovery codes still count.
        if device.readable and device.verify_token(code):
            return device
    for device in StaticDevice.objects.select_for_update().filter(user=user, confirmed=True):
        if not code.isdigit() and device.verify_token(kept_code(code)):
            return device
    return None


def new_recovery_codes(user: User) -> list[str]:
    """Shown once; the table keeps a hash of each."""
    StaticDevice.objects.filter(user=user).delete()
    device = StaticDevice.objects.create(user=user, name="recovery codes")
    token = device.token_set.model
    codes = [f"{token.random_token()}-{token.random_token()}" for _ in range(RECOVERY_CODES)]
    for code in codes:
        device.token_set.create(token=kept_code(code))
    return codes


def kept_code(code: str) -> str:
    """What the table keeps of a recovery code of 80 random bits: as much of its SHA-256 as the column takes."""
    return hashlib.sha256(code.strip().lower().encode()).hexdigest()[:16]


def picture(device: Authenticator) -> SafeString:
    """The QR code as inline SVG: no other host draws it, and no style attribute is in it."""
    drawn = segno.make(device.config_url, error="m").svg_inline(scale=5, border=4, svgclass=None, lineclass=None)
    return mark_safe(drawn)  # noqa: S308  (our own drawing)


def _next(request: HttpRequest) -> str:
    wanted = request.POST.get("next") or request.GET.get("next") or "/"
    safe = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, request.is_secure())
    return wanted if safe else "/"
