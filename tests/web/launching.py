"""The screens from the choice of databases to the launch."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpResponse
from django.test import Client

from maintenance.models import StoredPlan

GOOD = {
    "maintenance_type": "rebuild",
    "databases": ["shop"],
    "severity_level": "high",
    "reason": "checkout times out",
    "tables": "",
}


def choose(client: Client, **changes: Any) -> Any:
    return client.post("/launch/", {**GOOD, **changes}, follow=True)


def newest() -> int:
    """Return the number of the plan that was asked for last."""
    return StoredPlan.objects.order_by("-pk").values_list("pk", flat=True)[0]


def last_screen(client: Client, plan: int | None = None) -> Any:
    return client.get(f"/launch/plan/{plan or newest()}/confirm/")


def confirm(client: Client, plan: int | None = None, number: int | str | None = None, **changes: Any) -> Any:
    """Press the button of a last screen, that of the newest plan where none is named; `number` is in its form."""
    plan = plan or newest()
    sent = {"plan": plan if number is None else number, "names": "shop", "password": "dba-password", **changes}
    return client.post(f"/launch/plan/{plan}/confirm/", sent)


def page(answer: HttpResponse) -> str:
    return answer.content.decode()


def configure(settings: Any, stop: str) -> None:
    """Describe the application shop-web in config.json."""
    commands = {"stop": [stop], "start": ["true"], "check": ["true"]}
    settings.CONFIG_FILE.write_text(json.dumps({"applications": {"shop-web": commands}}))
