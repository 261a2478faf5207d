"""The API as a whole: its topics, its errors, its description."""

from __future__ import annotations

from typing import Any

from ninja import NinjaAPI, Swagger

from . import alerts, databases, files, history, routers, starting
from .callers import READING, Pace, Scope, for_callers, open_to
from .problems import HANDLERS, MEDIA_TYPE

DESCRIPTION = """\
Emergency maintenance of databases. Authorization is a bearer token with the scope read, monitor, alert, launch or
approve, within what its owner may do; or the session of a browser together with X-CSRFToken.
Every error is a problem detail (RFC 9457)."""


class ConsoleAPI(NinjaAPI):
    def get_openapi_schema(self, **how: Any) -> Any:
        """Errors have their own media type."""
        schema = super().get_openapi_schema(**how)
        for methods in schema["paths"].values():
            for operation in methods.values():
                for status, answer in operation["responses"].items():
                    if int(status) >= 400 and "application/json" in answer.get("content", {}):
                        answer["content"] = {MEDIA_TYPE: answer["content"]["application/json"]}
        return schema


api = ConsoleAPI(
    title="dbmaint",
    version="1",
    description=DESCRIPTION,
    # The badge would ask another host whether the description is valid.
    docs=Swagger({"validatorUrl": None}),
    auth=open_to(Scope.READ, *READING),
    throttle=Pace(),
    docs_decorator=for_callers,
)
for kind, handler in HANDLERS.items():
    api.add_exception_handler(kind, handler)
TOPICS = (alerts, databases, starting, history, files)
"""Each adds its calls to the routers when it is imported."""
api.add_router("/databases", routers.databases)
api.add_router("/alerts", routers.alerts)
api.add_router("/maintenance", routers.maintenance)
