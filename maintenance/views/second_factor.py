"""The second factor: a code from an authenticator app (TOTP), or one of the recovery codes."""

from __future__ import annotations

from base64 import b32encode

import segno
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST
from django_otp import login as otp_login
from django_otp.middleware import is_verified

from maintenance.auditing import chain
from maintenance.forms.pages import CodeForm, NewFactorForm, Proven, ProvenByBoth
from maintenance.identity import factors, proof, throttle
from maintenance.identity.addresses import address
from maintenance.identity.factors import device_of, needs_factor
from maintenance.models import Authenticator

from .access import open_to, person


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
    wait = 0
    if request.method == "POST" and form.is_valid():
        typed = form.cleaned_data["code"]
        wait = factors.seconds_to_wait(user) if typed.isdigit() else 0
        if wait:
            chain.record(user.get_username(), "login.wrong_code", "second factor, too soon after a wrong one")
            form.add_error("code", too_soon(wait))
        elif (device := proof.code(request, typed, "login.second_factor")) is not None:
            request.session.cycle_key()
            otp_login(request, device)
            throttle.succeeded(user.get_username(), address(request))
            throttle.remember(user.pk, address(request))
            return redirect(_next(request))
        else:
            form.add_error("code", _("The code is wrong, or was used already."))
    answer = render(request, "account/second_factor.html", {"form": form, "next": _next(request)})
    if wait:
        answer["Retry-After"] = str(wait)
    return answer


def too_soon(seconds: int) -> str:
    """The waiting time, in words."""
    words = ngettext(
        "This came too soon after a wrong code. Try again in {seconds} second.",
        "This came too soon after a wrong code. Try again in {seconds} seconds.",
        seconds,
    )
    return words.format(seconds=seconds)


@sensitive_post_parameters("code", "password")
@never_cache
@open_to()
@require_http_methods(["GET", "POST"])
def second_factor_enrol(request: HttpRequest) -> HttpResponseBase:
    """Shows the secret as a picture and as text; the first code proves that the app has it."""
    user = person(request)
    if device_of(user):
        return redirect("maintenance:account")
    device = factors.begun(user)
    form = NewFactorForm(request, request.POST or None)
    if request.method == "POST" and form.is_valid():
        codes = factors.enrol(user, device, form.cleaned_data["code"])
        if codes:
            request.session.cycle_key()
            otp_login(request, Authenticator.objects.get(pk=device.pk))
            throttle.remember(user.pk, address(request))
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


@sensitive_post_parameters("code", "password")
@never_cache
@open_to()
@require_http_methods(["GET", "POST"])
def prove(request: HttpRequest) -> HttpResponseBase:
    """The password once more, and the code where there is one: for what an open session alone must not do."""
    form = ProvenByBoth(request, request.POST or None)
    if request.method == "POST" and form.is_valid():
        proof.prove(request)
        return redirect(_next(request))
    return render(request, "account/prove.html", {"form": form, "next": _next(request)})


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
        codes = factors.new_recovery_codes(user)
        chain.record(user.get_username(), "second_factor.new_recovery_codes", user.get_username())
    return render(request, "account/recovery_codes.html", {"codes": codes, "next": reverse("maintenance:account")})


@sensitive_post_parameters("password")
@open_to()
@require_POST
def second_factor_remove(request: HttpRequest) -> HttpResponseBase:
    """E.g. before a change of the telephone. Who needs one is asked for a new one at once."""
    user = person(request)
    if _may_change(request):
        factors.remove(user, user.get_username())
        messages.success(request, _("The second factor is removed."))
    return redirect("maintenance:account")


def _may_change(request: HttpRequest) -> bool:
    """An open session alone is not enough to change how one logs in."""
    if device_of(person(request)) and Proven(request, request.POST).is_valid():
        return True
    messages.error(request, _("The password is wrong."))
    return False


def picture(device: Authenticator) -> SafeString:
    """The QR code as inline SVG: no other host draws it, and no style attribute is in it."""
    drawn = segno.make(device.config_url, error="m").svg_inline(scale=5, border=4, svgclass=None, lineclass=None)
    return mark_safe(drawn)  # noqa: S308  (our own drawing)


def _next(request: HttpRequest) -> str:
    wanted = request.POST.get("next") or request.GET.get("next") or "/"
    safe = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, request.is_secure())
    return wanted if safe else "/"
