"""Where the seconds of an outage went, by the journal alone: for engines whose servers log no statements."""

from __future__ import annotations

from collections.abc import Sequence

from .console import Run
from .figures import Row, spread

PARTS = {
    "the work itself": (("maintain", ""),),
    "checks before": (("cut_connections", "check"),),
    "fingerprints before": (("cut_connections", "fingerprint"),),
    "proof after: checks and fingerprints": (("verify", "proof"),),
    "benchmark, before and after, with the load test": (
        ("cut_connections", "measure"),
        ("benchmark", "measure"),
        ("benchmark", "load test"),
    ),
    "copy to roll back to": (("cut_connections", "image"),),
    "cutting and letting in": (("cut_connections", "cut"), ("resume", "")),
}


def parts(run: Run) -> dict[str, float]:
    """Seconds of each part; what is in none of them comes last."""
    known = {name: sum(run.seconds(*place) for place in places) for name, places in PARTS.items()}
    return {**known, "everything else": run.outage.seconds - sum(known.values())}


def part_rows(kind: str, runs: Sequence[Run]) -> list[Row]:
    """The outage and, indented, its parts."""
    told = [parts(run) for run in runs]
    return [
        Row(f"{kind}: outage", spread([run.outage.seconds for run in runs])),
        *(Row(f"    {name}", spread([part[name] for part in told])) for name in told[0]),
    ]
