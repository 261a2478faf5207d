"""Events that reach the schema: off during the outage, afterwards exactly as they were."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.exc import DBAPIError

from ..messages import listed, msg
from ..values import Json
from . import writing
from .connection import Session
from .driver_errors import code_of
from .names import full, quoted
from .target import Server

OUR_SCHEMAS = r"dbm\_%"
"""The switch of another target on this server is an event of ours."""


def observed_events(server: Server, session: Session) -> list[Json]:
    """Those of the schema, and those of others that name it: an event runs although its definer is locked."""
    rows = session.ask(
        "SELECT event_schema, event_name, status, definer, sql_mode, time_zone, character_set_client,"
        " collation_connection, database_collation, COALESCE(execute_at, ends) FROM information_schema.events"
        " WHERE event_schema = %(s)s OR (event_definition REGEXP %(n)s AND event_schema NOT LIKE %(ours)s)"
        " ORDER BY event_schema <> %(s)s, 1, 2",
        s=server.schema,
        n=writing.named(server.schema),
        ours=OUR_SCHEMAS,
    )
    keys = (
        *("schema", "name", "status", "definer", "sql_mode", "time_zone"),
        *("charset", "collation", "database_collation", "last_due"),
    )
    return [dict(zip(keys, map(str, row), strict=True)) for row in rows]


def enabled_events(server: Server, session: Session) -> list[Json]:
    """Events that reach the schema as far as their text tells, and that are on now."""
    return [event for event in observed_events(server, session) if event["status"] == "ENABLED"]


def set_event(session: Session, event: dict[str, str], state: str) -> None:
    """ALTER EVENT takes definer, sql_mode, character sets and time zone from the session that says it: all are given as
    they were, or the event means something else afterwards."""
    user, _, host = event["definer"].rpartition("@")
    statement = session.encoded(
        f"ALTER DEFINER = {quoted(user)}@{quoted(host)} EVENT {full(event['schema'], event['name'])} {state}",
        event.get("charset", "utf8mb4"),
    )
    settings = made_under(event)
    session.ask(
        f"SET SESSION {', '.join(f'{name} = %({name})s' for name in settings)}",
        **settings,
    )
    try:
        session.verbatim(statement)
    except DBAPIError as error:
        if code_of(error) not in GONE:
            raise
    finally:
        session.ask("SET NAMES utf8mb4")
        session.ask("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'")


MADE_UNDER = {
    "sql_mode": "sql_mode",
    "character_set_client": "charset",
    "collation_connection": "collation",
    "collation_database": "database_collation",
    "time_zone": "time_zone",
}
"""By variable of the session that says CREATE or ALTER EVENT, what of an event comes from it."""


def made_under(event: dict[str, str]) -> dict[str, str]:
    """Return the variables of a session that makes the event mean what it does now."""
    return {variable: event[key] for variable, key in MADE_UNDER.items() if key in event}


def to_enable(session: Session, events: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Return those of the events that were on before the cut which have to be switched on now.

    Not what is on, and not what was to run once and did so between the look at it and the cut: the server has put it
    to sleep, and would run it a second time. What fell due in the outage runs late, once, as soon as it is on.
    """
    rows = session.ask(
        "SELECT event_schema, event_name FROM information_schema.events"
        " WHERE status = 'ENABLED' OR last_executed >= execute_at"
    )
    there = {(str(schema), str(name)) for schema, name in rows}
    return [one for one in events if one["status"] == "ENABLED" and (one["schema"], one["name"]) not in there]


GONE = frozenset((1539, 1588, 1589))
"""The event was dropped meanwhile, or its time is over."""


def _is_over(session: Session, event: dict[str, str]) -> bool:
    """Whether the last time at which the event was to run is past. The server tells it in the event's time zone."""
    due = event.get("last_due", "None")
    if due == "None":
        return False
    return bool(
        session.value(
            "SELECT COALESCE(CONVERT_TZ(%(due)s, %(zone)s, '+00:00'), %(due)s) <= UTC_TIMESTAMP()",
            due=due,
            zone=event["time_zone"],
        )
    )


def event_differences(server: Server, session: Session, before: list[dict[str, str]]) -> list[str]:
    now = {(str(event["schema"]), str(event["name"])): event for event in observed_events(server, session)}
    differences: list[str] = []
    for event in before:
        found = now.get((event["schema"], event["name"]))
        if found is None and _is_over(session, event):
            continue  # its time came during the outage, and then the server drops it or puts it to sleep
        if found is None:
            differences.append(msg("event {name} is gone", name=event["name"]))
        elif _is_over(session, event) and {**found, "status": ""} == {**event, "status": ""}:
            continue
        elif found != event:
            changed = [
                msg("{what} is {now}, was {then}", what=key, now=found[key], then=event[key])
                for key in event
                if found[key] != event[key]
            ]
            differences.append(msg("event {name}: {changes}", name=event["name"], changes=listed(changed)))
    return differences
