"""Second factors: who needs one, whose code it is, and the recovery codes."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django_otp.plugins.otp_static.models import StaticDevice

from maintenance.auditing import chain
from maintenance.models import Authenticator

GUARDED = (
    "launch_maintenance",
    "approve_maintenance",
    "break_glass",
    "cancel_maintenance",
    "allow_data_loss",
    "change_maintenancesetting",
    "verify_audit",
)
"""Whoever may do one of these needs a second factor where the installation asks for it."""
RECOVERY_CODES = 10
DEVICE = "authenticator"


def needs_factor(user: User) -> bool:
    """Superusers have every permission, so they are among them."""
    if not settings.SECOND_FACTOR_REQUIRED:
        return False
    return user.is_staff or any(user.has_perm(f"maintenance.{p}") for p in GUARDED)


def device_of(user: User) -> Authenticator | None:
    """Return the enrolled authenticator."""
    found: Authenticator | None = Authenticator.objects.filter(user=user, confirmed=True).first()
    return found


def seconds_to_wait(user: User) -> int:
    """Return how long after a wrong code the next one is not looked at; it doubles with each."""
    device = device_of(user)
    if device is None:
        return 0
    allowed, told = device.verify_is_allowed()
    return 0 if allowed else max(1, math.ceil((told["locked_until"] - timezone.now()).total_seconds()))


def begun(user: User) -> Authenticator:
    """Return the one that is being enrolled: the same on a second look, unless its key cannot be read any more."""
    device: Authenticator | None = Authenticator.objects.filter(user=user, name=DEVICE, confirmed=False).first()
    if device is None or not device.readable:
        Authenticator.objects.filter(user=user, confirmed=False).delete()
        device = Authenticator(user=user, name=DEVICE, confirmed=False, key=Authenticator.new_key(user))
        device.save()
    return device


def enrol(user: User, device: Authenticator, code: str) -> list[str]:
    """Take the device into use if this is its code; returns the recovery codes, or nothing."""
    if not device.verify_token(code):
        return []
    with transaction.atomic():
        Authenticator.objects.filter(pk=device.pk).update(confirmed=True)
        codes = new_recovery_codes(user)
        chain.record(user.get_username(), "second_factor.enrolled", user.get_username())
    return codes


def device_with(user: User, code: str) -> Any:
    """Return the device whose code this is, else None. Locks them: a code counts once, however many ask at once."""
    for device in Authenticator.objects.select_for_update().filter(user=user, confirmed=True):
        # Where the secret key is another than it was, the recovery codes still count.
        if device.readable and device.verify_token(code):
            return device
    for device in StaticDevice.objects.select_for_update().filter(user=user, confirmed=True):
        if not code.isdigit() and device.verify_token(kept_code(code)):
            return device
    return None


def new_recovery_codes(user: User) -> list[str]:
    """Return fresh codes, to be shown once; the table keeps a hash of each. Older ones are void."""
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


def remove(user: User, by: str) -> bool:
    """Also for an administrator when telephone and recovery codes are lost. False: there was none."""
    with transaction.atomic():
        there = device_of(user) is not None
        Authenticator.objects.filter(user=user).delete()
        StaticDevice.objects.filter(user=user).delete()
        if there:
            chain.record(by, "second_factor.removed", user.get_username())
    return there
