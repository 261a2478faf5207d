"""What the figures of one table say: facts for the plan, and findings."""

from __future__ import annotations

from collections.abc import Iterator

from maintenance.engines.messages import Message, msg, size
from maintenance.engines.values import Finding, TableFacts, Thresholds

from ..sql import Row, canonical
from ..structure import Examined

LOSING = ("file_missing", "file_shorter_than_catalog", "lost_pages")
"""Findings that mean rows are absent."""


def table_facts(
    row: Row,
    packed: tuple[float, float] | None,
    examined: dict[str, list[Examined]],
    own: list[Finding],
    collated: list[str],
) -> TableFacts:
    """`bloat_share` is the larger of the estimate and the share of dead rows: a rewrite gives both back."""
    _, schema, table, estimated_rows, heap, indexes, total, ideal, live, dead, changed, analyzed, other = row
    name = canonical(schema, table)
    live, dead, changed = int(live or 0), int(dead or 0), int(changed or 0)
    counted = live > 0 or estimated_rows >= 0
    # The counters of the server may have begun anew later than the table, or lost an ANALYZE between two commits: what
    # they know of is not all of it then, and where they know of no living row the last ANALYZE does.
    rows = max((live or max(int(estimated_rows), 0)) + dead, int(estimated_rows))
    dead_share = dead / rows if dead and counted else 0.0
    stale_share = min(1.0, changed / max(live, 1)) if analyzed or estimated_rows >= 0 else (1.0 if live else 0.0)
    if heap == 0:
        bloat: float | None = 0.0
    elif ideal is None or stale_share > 0.1:
        # Estimated from old statistics it says anything; dead rows are counted as they happen.
        bloat = dead_share if live + dead and counted else None
    else:
        bloat = max(0.0, 1 - float(ideal) / float(heap), dead_share)
    index_bloat = max(0.0, 1 - packed[1] / packed[0]) if packed and packed[0] and stale_share <= 0.1 else None
    results = examined.get(name, [])
    faulty_heap = [result for result in results if result.fault and not result.part.index]
    faulty_indexes = [result for result in results if result.fault and result.part.index]
    return TableFacts(
        name=name,
        bytes=int(total),
        rows=int(estimated_rows) if estimated_rows >= 0 else (live or None),
        bloat_share=bloat,
        dead_share=dead_share,
        stale_share=stale_share,
        damaged=bool(faulty_heap or faulty_indexes) or any(finding.code in LOSING for finding in own),
        notes={
            "heap_bytes": int(heap),
            "index_bytes": int(indexes),
            "index_bloat_share": index_bloat,
            "live_rows": live,
            "dead_rows": dead,
            "changed_rows": changed,
            "heap_fault": "; ".join(str(result.fault) for result in faulty_heap)[:1000] or None,
            "faulty_indexes": [str(result.part.index) for result in faulty_indexes],
            "index_fault": "; ".join(str(result.fault) for result in faulty_indexes)[:1000] or None,
            "invalid_indexes": [
                str(finding.evidence.values["index"]) for finding in own if finding.code == "invalid_index"
            ],
            "sequence_behind": [str(finding.evidence) for finding in own if finding.code == "sequence_behind"],
            "examined": bool(results) and not any(result.unknown for result in results) and not other,
            "missing": any(finding.code == "file_missing" for finding in own),
            "emptied": next((str(finding.evidence) for finding in own if finding.code == "lost_pages"), None),
            "short": any(finding.code == "file_shorter_than_catalog" for finding in own),
            "collated_indexes": collated,
            "visibility": any(finding.code == "visibility_damage" for finding in own),
        },
    )


def bloat_words(share: float, count: int, measured: bool) -> Message:
    """Say how much of a table holds no living row: `share` of `count` bytes."""
    if measured:
        return msg("Measured: {share:.0%} of {size} holds no living row", share=share, size=size(count))
    return msg("About {share:.0%} of {size} holds no living row", share=share, size=size(count))


def index_bloat_words(share: float, fragmentation: object) -> Message:
    """Say how empty the indexes of a table are, and how scattered where that was measured."""
    if isinstance(fragmentation, float):
        return msg(
            "Measured: {share:.0%} of its indexes is empty, {fragmentation:.0%} of their leaf pages lie out of order",
            share=share,
            fragmentation=fragmentation,
        )
    return msg("About {share:.0%} of its indexes is empty", share=share)


def findings_about(fact: TableFacts, thresholds: Thresholds) -> list[Finding]:
    """Return what the figures of one table mean: damage of any, the rest only of tables that are large enough."""
    if fact.bytes < thresholds.minimum_bytes:
        return list(_damage(fact))
    return [*_damage(fact), *_empty_space(fact, thresholds), *_statistics(fact, thresholds)]


def _damage(fact: TableFacts) -> Iterator[Finding]:
    if fact.notes["heap_fault"]:
        yield Finding(
            "damaged_table",
            "critical",
            fact.name,
            msg("{fault}", fault=fact.notes["heap_fault"]),
            msg("Rows on these pages may be lost; the cause is often storage or memory"),
        )
    if fact.notes["index_fault"]:
        yield Finding(
            "damaged_index",
            "high",
            fact.name,
            msg("{fault}", fault=fact.notes["index_fault"]),
            msg("Queries by this index fail or miss rows; building it anew loses nothing"),
        )


def _empty_space(fact: TableFacts, thresholds: Thresholds) -> Iterator[Finding]:
    if fact.bloat_share is not None and fact.bloat_share >= thresholds.bloat_share:
        yield Finding(
            "table_bloat",
            "medium",
            fact.name,
            bloat_words(fact.bloat_share, fact.bytes, bool(fact.notes.get("measured"))),
            msg("Many updates or deletes without enough cleaning; reading it costs more than needed"),
        )
    elif fact.dead_share is not None and fact.dead_share >= thresholds.dead_share:
        yield Finding(
            "dead_rows",
            "medium",
            fact.name,
            msg("{share:.0%} of the rows are dead", share=fact.dead_share),
            msg("Cleaning does not keep up, or something holds old rows back"),
        )
    index_bloat = fact.notes["index_bloat_share"]
    if isinstance(index_bloat, float) and index_bloat >= thresholds.bloat_share:
        yield Finding(
            "index_bloat",
            "medium",
            fact.name,
            index_bloat_words(index_bloat, fact.notes.get("index_fragmentation")),
            msg("Building the indexes anew gives the space back"),
        )


def _statistics(fact: TableFacts, thresholds: Thresholds) -> Iterator[Finding]:
    if fact.stale_share is not None and fact.stale_share >= thresholds.stale_share:
        yield Finding(
            "stale_statistics",
            "medium",
            fact.name,
            msg("{share:.0%} of the rows changed since the last analysis", share=fact.stale_share),
            msg("The planner counts on figures that are no longer true; ANALYZE takes new ones"),
        )
