"""Django's command, audited."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.contrib.auth.models import User
from django.db import transaction

from maintenance.auditing import chain
from maintenance.identity.operators import operator


class Command(createsuperuser.Command):
    help = "Makes a person who may do everything; audited."

    def handle(self, *args: object, **options: Any) -> Any:
        by = operator()
        with transaction.atomic():
            before = set(User.objects.values_list("pk", flat=True))
            told = super().handle(*args, **options)
            for person in User.objects.exclude(pk__in=before):
                after = {"username": person.username, "superuser": person.is_superuser}
                chain.record(by, "person.created", person.username, after=after)
        return told
