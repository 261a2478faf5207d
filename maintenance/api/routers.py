"""One router for each prefix: ninja does not look for a method in a second router at the same address."""

from __future__ import annotations

from ninja import Router

databases = Router(tags=["databases"])
alerts = Router(tags=["alerts"])
maintenance = Router(tags=["maintenance"])
