"""Templates of sentences that runs of before keep, so that they are still told in other languages."""

from __future__ import annotations

from django.utils.translation import gettext_noop

EARLIER = (
    gettext_noop("Its worker died {times} times."),
    gettext_noop("{checks} checks before the cut, {failed} of them failed."),
    gettext_noop(
        "Load test: {requests} requests by {clients} clients in {seconds:.1f} s, {errors} errors, 95 % within {p95} ms."
    ),
    gettext_noop("One more round with {count} pieces of work."),
    gettext_noop("Connections are cut; {tables} tables with {rows:,} rows are fingerprinted and can be brought back."),
    gettext_noop("Cut connections: {sessions} sessions ended, nobody came back in {polls} polls."),
    gettext_noop("{checks} checks before the work, {failed} of them failed."),
    gettext_noop("Fingerprinted {tables} tables, {rows:,} rows."),
    gettext_noop("Fingerprinted {tables} tables, {rows:,} rows; not readable: {unreadable}."),
    gettext_noop("Saved {count} tables that changed since the backup again ({bytes}): a rollback would lose nothing."),
    gettext_noop("{count} pieces of work on {objects} objects, {bytes} in all."),
    gettext_noop(
        "{count} pieces of work on {objects} objects, {bytes} in all: exactly the plan of {at} that was confirmed."
    ),
    gettext_noop(
        "Planned again, because {database} changed since the plan of {at} that was confirmed: {count} "
        "pieces of work on {objects} objects, {bytes} in all. New: {added}. No longer needed: {dropped}."
    ),
    gettext_noop("Looked at {tables} tables of {version}: nothing is wrong."),
    gettext_noop(
        "Looked at {tables} tables of {version}: {findings} findings, health {health} of 100; worst: {worst} {object}"
    ),
    gettext_noop("{count} pieces of work done: {before} became {after}."),
    gettext_noop("Measured {count} queries before the work."),
    gettext_noop("Measured {count} queries after the work."),
    gettext_noop("The data is as it was at the cut: {tables} tables."),
    gettext_noop("Restored the data as of the cut: {tables} tables; the broken one is kept as {kept}."),
    gettext_noop("All {tables} tables are as they were: nothing to restore."),
    gettext_noop("Restored {tables} tables beside, proved them equal, and swapped."),
    gettext_noop("The restored {tables} tables are in the place of the broken ones."),
    gettext_noop("Proved whole: {tables} tables, {rows:,} rows, {checks} checks."),
    gettext_noop("Repaired after the integrity error: {count} pieces of work."),
    gettext_noop(
        "Compared {tables} tables: all rows are there; {checks} checks, {failed} fail as they did "
        "before. Not compared, because rows could not be read: {left_out}."
    ),
    gettext_noop("Compared {tables} tables: all rows are there; {checks} checks, {failed} fail as they did before."),
    gettext_noop("Compared {tables} tables: all rows are there; {checks} checks, none fails."),
)
