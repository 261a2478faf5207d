"""The table at the end, and each failure with the command that repeats it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .judge import FAULTS, Verdict


def show(
    verdicts: list[Verdict], points: dict[str, tuple[int, int]], not_run: list[str], seed: int, seconds: float
) -> bool:
    """True when nothing is wrong. `points`: engine → names of points at which somebody was to die, of how many.
    `not_run`: engines that are not here.
    """
    console = Console(width=max(176, Console().width), soft_wrap=True)
    bad = [v for v in verdicts if v.faults]
    for number, verdict in enumerate(bad, 1):
        console.print(f"\n{number}. {verdict.case}: {verdict.status} {verdict.because}", markup=False, highlight=False)
        for kind, words in verdict.faults:
            console.print(f"   {kind}: {words}", markup=False, highlight=False)
        console.print(f"   {verdict.case.command}", markup=False, highlight=False)
    table = Table(title=f"Deaths by SIGKILL, seed {seed}, {seconds / 60:.1f} minutes")
    for heading in (
        "engine",
        "cases",
        "kills",
        "points",
        "recovered",
        "released",
        "left to people",
        *FAULTS,
        "worst recovery (s)",
    ):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    engines = list(dict.fromkeys(v.case.engine for v in verdicts))
    for name in [*engines, *(["all"] if len(engines) > 1 else [])]:
        rows = [v for v in verdicts if name in (v.case.engine, "all")]
        counts = [sum(any(kind == fault for kind, _ in v.faults) for v in rows) for fault in FAULTS]
        killed = [v for v in rows if v.deaths]
        chosen = [p for engine, p in points.items() if name in (engine, "all")]
        table.add_row(
            name,
            str(len(rows)),
            str(sum(v.deaths for v in rows)),
            f"{sum(p[0] for p in chosen)} of {sum(p[1] for p in chosen)}",
            f"{sum(not v.faults and not v.for_people for v in killed)} of {len(killed)}",
            str(sum(v.released for v in killed)),
            str(sum(v.for_people for v in killed)),
            *map(str, counts),
            f"{max((v.seconds for v in killed), default=0):.1f}",
        )
    for name in not_run:
        table.add_row(name, "not run")
    console.print(table)
    return not bad
