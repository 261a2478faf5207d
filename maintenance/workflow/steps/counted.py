"""Numbers with their nouns, for the sentences of steps: one table, two tables, in each language by its own rules."""

from __future__ import annotations

from maintenance.engines.messages import Sentence, counted


def tables(number: object) -> Sentence:
    return counted(number, "{n:,} table", "{n:,} tables")


def rows(number: object) -> Sentence:
    return counted(number, "{n:,} row", "{n:,} rows")


def checks(number: object) -> Sentence:
    return counted(number, "{n:,} check", "{n:,} checks")


def findings(number: object) -> Sentence:
    return counted(number, "{n:,} finding", "{n:,} findings")


def queries(number: object) -> Sentence:
    return counted(number, "{n:,} query", "{n:,} queries")


def sessions(number: object) -> Sentence:
    return counted(number, "{n:,} session", "{n:,} sessions")


def polls(number: object) -> Sentence:
    return counted(number, "{n:,} poll", "{n:,} polls")


def pieces(number: object) -> Sentence:
    return counted(number, "{n:,} piece of work", "{n:,} pieces of work")


def objects(number: object) -> Sentence:
    return counted(number, "{n:,} object", "{n:,} objects")


def requests(number: object) -> Sentence:
    return counted(number, "{n:,} request", "{n:,} requests")


def clients(number: object) -> Sentence:
    return counted(number, "{n:,} client", "{n:,} clients")


def errors(number: object) -> Sentence:
    return counted(number, "{n:,} error", "{n:,} errors")


def failing_as_before(number: object) -> Sentence:
    return counted(number, "{n:,} fails as it did before", "{n:,} fail as they did before")
