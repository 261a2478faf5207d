"""Parts of a primary key, each one range to the server: between two keys of several columns lie several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Key = tuple[object, ...]


@dataclass(frozen=True)
class Range:
    """Keys that begin with `equal`, and of those whose next column lies between the others; None: no such border."""

    equal: Key = ()
    above: object = None
    below: object = None

    def where(self, key: Sequence[str]) -> tuple[str, dict[str, object]]:
        parts = [(f"{column} = ", value) for column, value in zip(key, self.equal, strict=False)]
        for sign, value in ((" > ", self.above), (" < ", self.below)):
            if value is not None:
                parts.append((key[len(self.equal)] + sign, value))
        clause = " AND ".join(f"{words}%(v{number})s" for number, (words, _) in enumerate(parts))
        return (f" WHERE {clause}" if parts else ""), {f"v{n}": value for n, (_, value) in enumerate(parts)}


def ranges_between(low: Key | None, high: Key | None, columns: int, same: int) -> list[Range]:
    """What lies between two keys, both left out, in its order; `same`: in how many columns they begin alike."""
    last = columns - 1
    if low is None and high is None:
        return [Range()]
    if low is None:
        assert high is not None
        return [Range(below=high[0]), *(Range(high[:n], below=high[n]) for n in range(1, columns))]
    if high is None:
        return [*(Range(low[:n], above=low[n]) for n in range(last, 0, -1)), Range(above=low[0])]
    return [
        *(Range(low[:n], above=low[n]) for n in range(last, same, -1)),
        Range(low[:same], low[same], high[same]),
        *(Range(high[:n], below=high[n]) for n in range(same + 1, columns)),
    ]
