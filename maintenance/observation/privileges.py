"""Which rights the console's account needs on a target: one door for the command line and the settings page."""

from __future__ import annotations

from maintenance.engines import open_engine
from maintenance.engines.values import Grant
from maintenance.models import MaintenanceSetting

from .watch import looking


def needed(setting: MaintenanceSetting, role: str | None = None) -> list[Grant]:
    """Return every right, given or not, of the target's account or of `role`; none where it may do everything.

    Connects to the target. Raises EngineError.
    """
    engine = open_engine(setting.engine_url, looking(), setting.limits)
    try:
        return engine.privileges.grants(role)
    finally:
        engine.close()
