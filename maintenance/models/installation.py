"""Which installation of the console this is."""

from __future__ import annotations

import secrets

from django.db import models

CONSONANTS = "bcdfghjkmnpqrstvwxz"
"""Digits follow the letters in names on a target; without vowels they make no word."""


class Installation(models.Model):
    """One row: letters drawn once, which every name on a target bears. Two consoles may count their runs alike."""

    letters = models.CharField(max_length=8)

    class Meta:
        db_table = "installation"

    def __str__(self) -> str:
        return self.letters


def letters() -> str:
    """Of this installation; drawn when they are asked for first."""
    drawn = "".join(secrets.choice(CONSONANTS) for _ in range(8))
    return Installation.objects.get_or_create(pk=1, defaults={"letters": drawn})[0].letters
