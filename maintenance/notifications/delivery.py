"""Sends what `notify` wrote, outside the procedure's way and until it arrives. The only module that imports Apprise."""

from __future__ import annotations

import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from django.db import close_old_connections, connections
from django.db.models import Q
from django.utils import timezone

from maintenance.conf import config
from maintenance.models import Notification

from .events import digest, remind

log = logging.getLogger("maintenance")
TRIES = 20
"""With waits that double up to an hour, most of a day. What needs an operator is tried for ever."""
FIRST_WAIT, LONGEST_WAIT = 10.0, 3600.0
"""Seconds between tries."""
SENDING = timedelta(minutes=2)
"""As long one try may take. Who died in it leaves the message to others after this time, and it may arrive twice."""
AT_ONCE = 8
"""A mail server that hangs must not hold up the phone call."""
SHORTEST_SECRET = 5
EVERY = 2.0
"""Seconds between rounds."""


@dataclass(frozen=True)
class Sent:
    """How one try ended. `error` is empty when the receiver took the message."""

    address: str
    """With its secrets hidden."""
    error: str


def deliver_pending() -> int:
    """Sends what waits; returns how many went out. A failure is kept with the message and tried again."""
    now = timezone.now()
    waiting = Notification.objects.filter(delivered_at=None, next_try_at__lte=now).select_related("run")
    waiting = waiting.filter(Q(tries__lt=TRIES) | Q(event="needs_operator")).order_by("tries", "id")
    mine = [message for message in waiting[: AT_ONCE * 4] if _claimed(message)]
    if not mine:
        return 0
    addresses = _addresses()
    sent = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tries = {pool.submit(send, addresses.get(m.digest), m.title, m.body): m for m in mine}
        for over in as_completed(tries):
            sent += _recorded(tries[over], over.result())
    return sent


def _claimed(message: Notification) -> bool:
    """Several processes deliver: who changes the count sends, so that nobody is called twice."""
    free = Notification.objects.filter(pk=message.pk, tries=message.tries, delivered_at=None)
    return bool(free.update(tries=message.tries + 1, next_try_at=timezone.now() + SENDING))


def _addresses() -> dict[str, str]:
    """Digest -> address, as config.json says now."""
    try:
        known = config.load().notifications
    except config.ConfigError as error:
        log.error("No messages can be sent: %s", error)
        return {}
    return {digest(address): address for addresses in known.values() for address in addresses}


def _recorded(message: Notification, sent: Sent) -> bool:
    about = message.run or "console"
    message.address, message.error = sent.address or message.address, sent.error
    if not sent.error:
        message.delivered_at = timezone.now()
        log.info("%s: told %s by %s of %s", about, message.audience, message.channel, message.event)
    else:
        told = (about, message.audience, message.channel, message.event, sent.error)
        log.error("%s: %s by %s could not be told of %s: %s", *told)
    wait = timedelta(seconds=min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(message.tries, 20)))
    message.next_try_at = timezone.now() + wait
    message.save(update_fields=["delivered_at", "error", "address", "next_try_at"])
    return not sent.error


def send(address: str | None, title: str, body: str, attached: Path | None = None) -> Sent:
    """One try, which touches no database: it may run in a thread of its own."""
    # Here, because it takes a quarter of a second to import and most commands send nothing.
    from apprise import Apprise, AppriseAsset, NotifyFormat

    if address is None:
        return Sent("", "its address does not stand in config.json any more")
    # Without threads of its own, so that what it logs can be told from what it logs for other messages.
    door = Apprise(asset=AppriseAsset(async_mode=False))
    with _Heard() as heard:
        if not door.add(address):
            return Sent("", "its address in config.json is not understood")
        shown = _shown(str(door[0].url(privacy=True)))  # type: ignore[no-untyped-call]
        try:
            # Reasons and errors are whatever somebody typed: text, in which no receiver finds markup.
            taken = door.notify(
                title=title, body=body, body_format=NotifyFormat.TEXT, attach=str(attached) if attached else None
            )
        except Exception as error:  # of a plugin, which is as foreign as its receiver
            return Sent(shown, _hidden(f"{type(error).__name__}: {error}", address, shown))
    if taken:
        return Sent(shown, "")
    return Sent(shown, _hidden("; ".join(heard.lines) or "the receiver did not accept it", address, shown))


def _shown(url: str) -> str:
    """Scheme and host: paths and queries of webhooks are secrets, and Apprise hides only some of them."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}"[:500]


def _hidden(text: str, address: str, shown: str) -> str:
    """Whatever stands in the address but not in what may be shown of it."""
    public = set(re.split(r"\W+", shown))
    for part in sorted(set(re.split(r"[/:@?&=#,%+]+", address)), key=len, reverse=True):
        if len(part) >= SHORTEST_SECRET and part not in public and part not in shown:
            text = text.replace(part, "****")
    return text[:1000]


class _Heard(logging.Handler):
    """What Apprise says of a failure: it tells its log alone. Of this thread, because several send at once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.of = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.of:
            self.lines.append(record.getMessage())

    def __enter__(self) -> _Heard:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("apprise").removeHandler(self)


class Post(threading.Thread):
    """Delivers and reminds beside the work, so that neither ever waits for a receiver."""

    def __init__(self) -> None:
        super().__init__(name="post", daemon=True)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(EVERY):
            self._round()
        self._round()
        connections.close_all()

    def _round(self) -> None:
        try:
            remind()
            deliver_pending()
        except Exception:
            log.exception("Messages could not be sent; the next round tries again.")
        close_old_connections()

    def finish(self, within: float) -> None:
        """Lets what waits now go out, for so many seconds at most."""
        self._over.set()
        self.join(timeout=within)
