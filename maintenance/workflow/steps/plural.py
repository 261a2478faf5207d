"""Numbers with their nouns, for the sentences of steps: one table, two tables, in each language by its own rules."""

from __future__ import annotations

from maintenance.engines.messages import Message, plural


def tables(number: object) -> Message:
    return plural(number, "{n:,} table", "{n:,} tables")


def rows(number: object) -> Message:
    return plural(number, "{n:,} row", "{n:,} rows")


def checks(number: object) -> Message:
    return plural(number, "{n:,} check", "{n:,} checks")


def findings(number: object) -> Message:
    return plural(number, "{n:,} finding", "{n:,} findings")


def queries(number: object) -> Message:
    return plural(number, "{n:,} query", "{n:,} queries")


def sessions(number: object) -> Message:
    return plural(number, "{n:,} session", "{n:,} sessions")


def polls(number: object) -> Message:
    return plural(number, "{n:,} poll", "{n:,} polls")


def pieces(number: object) -> Message:
    return plural(number, "{n:,} operation", "{n:,} operations")


def objects(number: object) -> Message:
    return plural(number, "{n:,} object", "{n:,} objects")


def requests(number: object) -> Message:
    return plural(number, "{n:,} request", "{n:,} requests")


def clients(number: object) -> Message:
    return plural(number, "{n:,} client", "{n:,} clients")


def errors(number: object) -> Message:
    return plural(number, "{n:,} error", "{n:,} errors")


def failing_as_before(number: object) -> Message:
    return plural(number, "{n:,} fails as it did before", "{n:,} fail as they did before")
