"""The flowchart of the procedure as a drawing: places from the table, states from the journal.

Lengths are units of the SVG's view box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from maintenance.models import ENDED, RunTarget, StepRecord
from maintenance.text.labels import duration
from maintenance.text.render import again
from maintenance.workflow.procedure import OUTAGE, PROCEDURE

PITCH, NODE, TALL = 112.0, 96.0, 44.0
"""From one node of the main way to the next; width and height of a node."""
PILL, LOW = 106.0, 28.0
ROWS = (34.0, 116.0, 172.0)
WIDTH, HEIGHT = 10 * PITCH + NODE + 2, 226.0

NAMES: Mapping[str, Promise] = {
    "A": _("start"),
    "B": _("diagnose"),
    "C": _("decide"),
    "D": _("back up"),
    "E": _("stop apps"),
    "F": _("cut"),
    "G": _("maintain"),
    "H": _("verify"),
    "I": _("benchmark"),
    "J": _("resume"),
    "K": _("complete"),
    "L": _("diagnosis failed"),
    "M": _("backup failed"),
    "N": _("work failed"),
    "O": _("integrity error"),
    "P": _("not improved"),
    "Q": _("manual diagnosis"),
    "R": _("alternate backup"),
    "S": _("roll back"),
    "T": _("one more round"),
    "U": _("ended in failure"),
    "X": _("operator called"),
}
"""Short, because a box is narrow."""
ASIDE = {"L": (1, 1), "M": (3, 1), "N": (6, 1), "O": (7, 1), "P": (8, 1)}
WAYS_OUT = {"Q": (1, 2), "R": (3, 2), "U": (5, 2), "S": (6.5, 2), "T": (8, 2), "X": (9, 2)}
"""Node -> column and row, for what is not on the main way."""

ALWAYS_DRAWN = {("J", "X")}
"""Of the ways out that the specification leaves unsaid, the others appear when they were taken."""


@dataclass(frozen=True)
class Box:
    """One node as drawn. `state` is done, now, failed or later; `words` under the name."""

    letter: str
    name: Promise
    x: float
    y: float
    wide: float
    tall: float
    state: str
    words: str
    sentence: str

    @property
    def aside(self) -> bool:
        return self.tall == LOW

    @property
    def middle(self) -> float:
        return self.x + self.wide / 2

    @property
    def centre(self) -> float:
        return self.y + self.tall / 2

    @property
    def baseline(self) -> float:
        return self.centre + (-3 if self.words and not self.aside else 4)

    @property
    def under(self) -> float:
        return self.centre + 14

    @property
    def mark(self) -> str:
        return {"done": "✓ ", "now": "▶ ", "failed": "✕ "}.get(self.state, "")

    @property
    def corner(self) -> float:
        return self.tall / 2 if self.aside else 8.0


@dataclass(frozen=True)
class Edge:
    path: str
    taken: bool
    aside: bool


@dataclass(frozen=True)
class Drawing:
    boxes: Sequence[Box]
    edges: Sequence[Edge]
    width: float = WIDTH
    height: float = HEIGHT

    @property
    def label(self) -> str:
        """What the drawing shows, for people who do not see it."""
        now = next((box.name for box in self.boxes if box.state == "now"), None)
        return gettext("Procedure: now at {name}").format(name=now) if now else gettext("Procedure")

    @property
    def window(self) -> tuple[float, float]:
        """Left side and width of the band behind the nodes in which service is down."""
        inside = [b for b in self.boxes if not b.aside and (b.letter in OUTAGE or b.letter == "J")]
        left = inside[0].x - 8
        return left, inside[-1].x + inside[-1].wide + 8 - left

    @property
    def told(self) -> Sequence[Box]:
        """For a narrow screen: the main way, and of the ways out only those that were taken."""
        return [b for b in self.boxes if not b.aside or b.state != "later"]


def main_way() -> list[str]:
    """From A along 'finished' to the end."""
    found, letter = [], "A"
    while letter:
        found.append(letter)
        letter = PROCEDURE[letter].edges.get("finished", "")
    return found


def draw(target: RunTarget, lines: Sequence[StepRecord]) -> Drawing:
    """`lines` are the journal of the target, oldest first; those of a part are left out here."""
    steps = [line for line in lines if not line.part]
    boxes = {letter: _box(letter, place, target, steps) for letter, place in _places().items()}
    walked = {(a.node, b.node) for a, b in pairwise(steps)}
    specified = {(a, b) for a, node in PROCEDURE.items() for b in node.edges.values()}
    own = {(a, b) for a, node in PROCEDURE.items() for b in node.own.values()} & (walked | ALWAYS_DRAWN)
    edges = [_edge(boxes[a], boxes[b], (a, b) in walked) for a, b in sorted(specified | own)]
    return Drawing(list(boxes.values()), sorted(edges, key=lambda e: e.taken))


def _places() -> dict[str, tuple[float, int]]:
    way: dict[str, tuple[float, int]] = {letter: (i, 0) for i, letter in enumerate(main_way())}
    return {**way, **ASIDE, **WAYS_OUT}


def _box(letter: str, place: tuple[float, int], target: RunTarget, steps: Sequence[StepRecord]) -> Box:
    column, row = place
    wide, tall = (NODE, TALL) if row == 0 else (PILL, LOW)
    middle = 1 + column * PITCH + NODE / 2
    mine = [line for line in steps if line.node == letter]
    x = min(max(middle - wide / 2, 1.0), WIDTH - wide - 1)
    state = _state(letter, target, mine)
    sentence = again(mine[-1].sentence, mine[-1].said) if mine else ""
    return Box(letter, NAMES[letter], x, ROWS[row], wide, tall, state, _words(letter, state, target, mine), sentence)


def _state(letter: str, target: RunTarget, mine: Sequence[StepRecord]) -> str:
    if target.node == letter and target.status not in ENDED and target.token:
        return "now"
    if not mine:
        return "later"
    return "done" if mine[-1].state == "finished" else "failed"


def _words(letter: str, state: str, target: RunTarget, mine: Sequence[StepRecord]) -> str:
    """The duration; of the work in hand how much of it is done."""
    if state == "now" and letter == "G" and target.progress.get("planned"):
        return f"{target.progress['finished']} / {target.progress['planned']}"
    seconds = [line.seconds for line in mine if line.seconds is not None]
    return duration(sum(seconds)) if seconds and state != "now" else ""


def _edge(a: Box, b: Box, taken: bool) -> Edge:
    aside = a.aside or b.aside
    if a.y == b.y:
        start, end = (a.x + a.wide, b.x) if b.x > a.x else (a.x, b.x + b.wide)
        return Edge(f"M{start:.1f} {a.centre:.1f}H{end:.1f}", taken, aside)
    if a.y > b.y:
        return Edge(_back_up(a, b), taken, aside)
    if abs(a.middle - b.middle) < 1 or abs(a.middle - b.middle) < b.wide / 2 - b.corner:
        return Edge(f"M{a.middle:.1f} {a.y + a.tall:.1f}V{b.y:.1f}", taken, aside)
    return Edge(
        f"M{a.middle:.1f} {a.y + a.tall:.1f}C{a.middle:.1f} {b.y - 6:.1f} {b.middle:.1f} {a.y + a.tall + 6:.1f} "
        f"{b.middle:.1f} {b.y:.1f}",
        taken,
        aside,
    )


def _back_up(a: Box, b: Box) -> str:
    """To the right: a bow into the lower side. To the left: below everything, between two columns, and in."""
    foot = b.y + b.tall
    if b.middle > a.middle:
        return f"M{a.x + a.wide:.1f} {a.centre:.1f}H{b.middle - 8:.1f}q8 0 8 -8V{foot:.1f}"
    gap, floor, into = b.x - (PITCH - NODE) / 2, a.y + a.tall + 14, b.x + 14
    return (
        f"M{a.middle:.1f} {a.y + a.tall:.1f}V{floor - 8:.1f}q0 8 -8 8H{gap + 8:.1f}q-8 0 -8 -8"
        f"V{foot + 24:.1f}q0 -8 8 -8H{into - 6:.1f}q6 0 6 -6V{foot:.1f}"
    )
