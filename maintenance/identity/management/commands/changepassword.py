"""Django's command, audited."""

from __future__ import annotations

import getpass
from typing import Any

from django.contrib.auth.management.commands import changepassword
from django.db import transaction

from maintenance.auditing import chain
from maintenance.identity.operators import operator


class Command(changepassword.Command):
    help = "Changes a person's password; audited. It ends their sessions and their tokens."

    def handle(self, *args: object, **options: Any) -> Any:
        by = operator()
        with transaction.atomic():
            told = super().handle(*args, **options)
            name = options["username"] or getpass.getuser()
            chain.record(by, "password.changed", name)
        return told
