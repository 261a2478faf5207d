"""The door through which messages reach workers: only those of this console, whatever a row of the queue names.

django-q2 keeps a message as a pickle that names any function, and its worker imports whatever is named. Here a message
is a few words of signed JSON - a task of ours and an id - and becomes a pickle only inside the process that reads it.
A message that is anything else is told in the audit log, removed, and never opened.
"""

from __future__ import annotations

import base64
import logging
import pickletools
import zlib
from typing import Any
from uuid import uuid4

from django.core import signing
from django.db import transaction
from django.utils import timezone
from django_q.brokers import orm, redis_broker
from django_q.models import Schedule
from django_q.signing import SignedPackage

from .auditing import chain
from .engines.values import Json
from .queue import TASKS

log = logging.getLogger("maintenance")
SALT = "maintenance.queue"
CONSOLE = "console"
Message = tuple[Any, str | bytes]


def sealed(package: str) -> str:
    """A message of ours as the queue keeps it; anything else stays as it is, and is refused where it arrives.

    `package` was made by django-q2 in this process a moment ago.
    """
    task = SignedPackage.loads(package)
    if task["func"] not in TASKS or len(task["args"]) > 1 or not all(type(x) is int for x in task["args"]):
        return package
    return signing.dumps({"task": task["func"], "ids": list(task["args"]), "name": task["name"]}, salt=SALT)


def opened(payload: str | bytes) -> str:
    """The message as django-q2's own processes hand it on. Raises ValueError unless it is one of ours."""
    text = payload.decode() if isinstance(payload, bytes) else payload
    try:
        message = signing.loads(text, salt=SALT)
    except (signing.BadSignature, zlib.error) as error:
        raise ValueError("it is not signed by this console") from error
    function, ids = message["task"], message["ids"]
    if function not in TASKS or len(ids) > 1 or not all(type(x) is int for x in ids):
        raise ValueError("it names no task of this console")
    return str(
        SignedPackage.dumps(
            {
                "id": uuid4().hex,
                "name": str(message["name"])[:100],
                "func": function,
                "args": tuple(ids),
                "kwargs": {},
                "save": False,
                "ack_failure": True,
                "started": timezone.now(),
            }
        )
    )


class ControlDatabase(orm.ORM):  # type: ignore[misc]
    """Messages in the control database, part of the transaction that sends them."""

    def enqueue(self, task: str) -> Any:
        return super().enqueue(sealed(task))

    def dequeue(self) -> list[Message]:
        return _ours(self, super().dequeue())


class Redis(redis_broker.Redis):  # type: ignore[misc]
    """Messages in Redis, for many hosts."""

    def enqueue(self, task: str) -> Any:
        return super().enqueue(sealed(task))

    def dequeue(self) -> list[Message]:
        return _ours(self, super().dequeue())


def _ours(broker: ControlDatabase | Redis, found: list[Message] | None) -> list[Message]:
    kept: list[Message] = []
    for receipt, payload in found or []:
        try:
            kept.append((receipt, opened(payload)))
        except (ValueError, KeyError, TypeError) as error:
            _refuse(broker, receipt, payload, str(error))
    return kept


def _refuse(broker: ControlDatabase | Redis, receipt: object, payload: str | bytes, why: str) -> None:
    """The entry and the end of the message are one commit, so that it is told once."""
    text = payload.decode(errors="replace") if isinstance(payload, bytes) else payload
    log.error("A message of the queue is refused: %s", why)
    with transaction.atomic():
        if receipt is not None:
            broker.fail(receipt)
        told: Json = {"because": why, "function": function_in(text), "message": text[:200]}
        chain.record(CONSOLE, "queue.refused", f"message {receipt if receipt is not None else ''}".strip(), after=told)


def function_in(text: str) -> str:
    """What a message of django-q2's own kind names, read without unpickling it; empty where nothing can be read."""
    try:
        data = text.rsplit(":", 2)[0]
        raw = base64.urlsafe_b64decode(data.lstrip(".") + "=" * (-len(data.lstrip(".")) % 4))
        words = [x for _, x, _ in pickletools.genops(zlib.decompress(raw) if data.startswith(".") else raw)]
        names = [x for x in words if isinstance(x, str)]
        return names[names.index("func") + 1][:200]
    except (ValueError, IndexError, zlib.error):
        return ""


def refuse_schedules() -> int:
    """Remove what somebody wrote into django-q2's schedule, which this console does not use, and tell it."""
    removed = 0
    for pk, name, function, hook in Schedule.objects.values_list("pk", "name", "func", "hook"):
        with transaction.atomic():
            if Schedule.objects.filter(pk=pk).delete()[0]:
                told: Json = {"because": "schedules are not used", "function": function, "hook": hook}
                chain.record(CONSOLE, "queue.refused", f"schedule {name or pk}", after=told)
                log.error("The schedule %s of %s is removed: schedules are not used.", name or pk, function)
                removed += 1
    return removed
