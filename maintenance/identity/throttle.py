"""How often a secret may be tried, at whatever door: login, second factor, recovery codes, passwords, tokens.

Three counts, each of the last minutes: of one account at one address, of an address whatever names it tries, and of an
account whatever address tries it. The last two do not bind people at an address from which they signed in before, so
that no stranger can keep the DBA out in an emergency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from maintenance.auditing import chain
from maintenance.models import FailedTries, KnownAddress

from .addresses import household

COOL_OFF = timedelta(minutes=15)
"""A count ends so long after the last failure."""
KNOWN_FOR = timedelta(days=90)
TOLD_ONE_BY_ONE = 10
"""So many failures of an address have an audit entry each; later ones are in the entries that a limit was reached."""
TURNED_AWAY_TOLD = (50, 500, 5000, 50_000)


class TooManyTries(Exception):
    """Nothing more is looked at for `seconds`. `ends_session`: this try was the one that reached the limit."""

    def __init__(self, seconds: int, ends_session: bool = False) -> None:
        super().__init__(f"Too many tries. Try again in {seconds} seconds.")
        self.seconds, self.ends_session = seconds, ends_session


@dataclass(frozen=True)
class Door:
    """What is counted together, and up to where: for an account at an address, an address, an account."""

    name: str
    pair: int = 5
    address: int = 20
    account: int = 50


SIGN_IN = Door("sign-in")
"""Every secret of the console's own. One count for all of them: whoever is stopped at one tries the next."""
CONNECTION = Door("connection", pair=10)
"""Connection tests: else the console is a port scanner, and a guesser of other servers' passwords."""


class Try:
    """One comparison of a secret, counted as wrong before it is made: of many at the same moment none is left out."""

    def __init__(self, account: str, address: str, door: Door) -> None:
        self.account, self.address, self.door = account, address, door
        self.limits = _limits(account, address, door)
        self.pair = _pair(account, address, door)
        self.counts = {key: _count(key) for key in self.limits}

    @property
    def too_many(self) -> bool:
        """Return whether others at the same moment took what was left."""
        over = {key for key, count in self.counts.items() if count > self.limits[key]}
        return self.pair in over or (bool(over) and not known(self.account, self.address))

    def right(self) -> None:
        """It was no failure: take it back from every count."""
        FailedTries.objects.filter(key__in=self.limits, count__gt=0).update(count=F("count") - 1)

    def spend(self) -> None:
        """It stays counted, and the counts end so long after it."""
        FailedTries.objects.filter(key__in=self.limits).update(last_at=timezone.now())

    def wrong(self, operation: str, about: str = "") -> None:
        """Spend it and audit it as `operation`. Raises TooManyTries where it was one too many."""
        self.spend()
        reached = [key for key, count in self.counts.items() if count == self.limits[key]]
        where = f"{self.address} {about}".strip()
        if reached:
            told = {"failures": max(self.counts[key] for key in reached), "operation": operation}
            chain.record(self.account, f"{operation.partition('.')[0]}.locked", where, after=told)
        elif self.counts[_address(self.address, self.door)] <= TOLD_ONE_BY_ONE:
            chain.record(self.account, operation, where)
        if self.pair in reached or (reached and not known(self.account, self.address)):
            raise TooManyTries(int(COOL_OFF.total_seconds()), ends_session=True)


def attempt(account: str, address: str, door: Door = SIGN_IN) -> Try:
    """Return one try, counted. Raises TooManyTries while this account, this address or both have to wait."""
    check(account, address, door)
    one = Try(account, address, door)
    if one.too_many:
        raise TooManyTries(int(COOL_OFF.total_seconds()))
    return one


def check(account: str, address: str, door: Door = SIGN_IN) -> None:
    """Raise TooManyTries while this account, this address or both have to wait."""
    limits = _limits(account, address, door)
    since = timezone.now() - COOL_OFF
    over = {
        tries.key: tries
        for tries in FailedTries.objects.filter(key__in=limits, last_at__gt=since)
        if tries.count >= limits[tries.key]
    }
    pair = _pair(account, address, door)
    if over and (pair in over or not known(account, address)):
        worst = over.get(pair) or max(over.values(), key=lambda tries: tries.last_at)
        _turned_away(worst, account, address)
        raise TooManyTries(_left(worst))


def unknown_token(digest: str, address: str) -> None:
    """Count a bearer token that opens nothing. One that comes again and again is a forgotten machine, and no guess."""
    account = f"token {digest[:12]}"
    check(account, address)
    seen = FailedTries.objects.filter(
        key=_pair(account, address, SIGN_IN), last_at__gt=timezone.now() - COOL_OFF
    ).exists()
    if not seen:
        attempt(account, address).wrong("token.unknown")


def succeeded(account: str, address: str) -> None:
    """Forget the failures of this account at this address; an address goes on being counted."""
    FailedTries.objects.filter(key=_pair(account, address, SIGN_IN)).delete()


def remember(user_id: int, address: str) -> None:
    """Somebody signed in here, with everything that is asked of them."""
    KnownAddress.objects.update_or_create(
        user_id=user_id, address=household(address), defaults={"last_at": timezone.now()}
    )


def known(account: str, address: str) -> bool:
    """Return whether this account signed in from here before."""
    since = timezone.now() - KNOWN_FOR
    return KnownAddress.objects.filter(user__username=account, address=household(address), last_at__gt=since).exists()


def forget_old() -> None:
    """Delete counts that ended a day ago, and addresses that nobody came from for long."""
    now = timezone.now()
    FailedTries.objects.filter(last_at__lt=now - timedelta(days=1)).delete()
    KnownAddress.objects.filter(last_at__lt=now - KNOWN_FOR).delete()


def unlock(account: str) -> int:
    """Forget every failure of an account; returns how many counts that were."""
    return FailedTries.objects.filter(key__startswith=f"{SIGN_IN.name} account {account} ").delete()[0]


def _limits(account: str, address: str, door: Door) -> Mapping[str, int]:
    limits = {_pair(account, address, door): door.pair, _address(address, door): door.address}
    if not account.startswith("token "):
        limits[f"{door.name} account {account} anywhere"] = door.account
    return limits


def _pair(account: str, address: str, door: Door) -> str:
    return f"{door.name} account {account} at {household(address)}"


def _address(address: str, door: Door) -> str:
    return f"{door.name} address {household(address)}"


def _count(key: str) -> int:
    """Count one more and return how many that are, of which no two tries get the same.

    When the count ends is not moved: a right one that is taken back must not keep old failures alive.
    """
    now = timezone.now()
    FailedTries.objects.get_or_create(key=key, defaults={"count": 0})
    tries = FailedTries.objects.filter(key=key)
    with transaction.atomic():
        tries.filter(last_at__lte=now - COOL_OFF).update(count=0, turned_away=0, last_at=now)
        tries.update(count=F("count") + 1)
        return tries.values_list("count", flat=True).get()


def _turned_away(tries: FailedTries, account: str, address: str) -> None:
    FailedTries.objects.filter(pk=tries.pk).update(turned_away=F("turned_away") + 1)
    if tries.turned_away + 1 in TURNED_AWAY_TOLD:
        chain.record(account, "login.turned_away", address, after={"tries": tries.turned_away + 1})


def _left(tries: FailedTries) -> int:
    return max(1, math.ceil((tries.last_at + COOL_OFF - timezone.now()).total_seconds()))
