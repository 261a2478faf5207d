"""The flowchart of the procedure as a drawing: places from the table, states from the journal.

Lengths are units of the SVG's view box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from django.utils.functional import Promise
from django.utils.translation import gettext

from maintenance.models import ENDED, Node, RunTarget, StepRecord
from maintenance.text.labels import duration
from maintenance.text.render import render as rendered
from maintenance.workflow.flowchart import FLOWCHART

PITCH, NODE, TALL = 112.0, 96.0, 44.0
"""From one node of the main way to the next; width and height of a node."""
PILL, LOW = 106.0, 28.0
ROWS = (34.0, 116.0, 172.0)
WIDTH, HEIGHT = 10 * PITCH + NODE + 2, 226.0

ASIDE: Mapping[Node, tuple[float, int]] = {
    Node.DIAGNOSIS_FAILED: (1, 1),
    Node.BACKUP_FAILED: (3, 1),
    Node.MAINTENANCE_FAILED: (6, 1),
    Node.INTEGRITY_ERROR: (7, 1),
    Node.NOT_IMPROVED: (8, 1),
    Node.ASK_FOR_MANUAL_DIAGNOSIS: (1, 2),
    Node.ALTERNATE_BACKUP: (3, 2),
    Node.END_IN_FAILURE: (5, 2),
    Node.ROLL_BACK: (6.5, 2),
    Node.ADDITIONAL_MAINTENANCE: (8, 2),
    Node.CALL_AN_OPERATOR: (9, 2),
}
"""Node -> column and row, for what is not on the main way."""

ALWAYS_DRAWN = {(Node.RESUME, Node.CALL_AN_OPERATOR)}
"""Of the ways out that the specification leaves unsaid, the others appear when they were taken."""


@dataclass(frozen=True)
class Box:
    """One node as drawn. `state` is done, now, failed or later; `words` under the name."""

    node: Node
    name: str | Promise
    x: float
    y: float
    wide: float
    tall: float
    state: str
    words: str
    sentence: str

    @property
    def letter(self) -> str:
        return self.node.letter

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
        inside = [b for b in self.boxes if not b.aside and (FLOWCHART[b.node].outage or b.node is Node.RESUME)]
        left = inside[0].x - 8
        return left, inside[-1].x + inside[-1].wide + 8 - left

    @property
    def told(self) -> Sequence[Box]:
        """For a narrow screen: the main way, and of the ways out only those that were taken."""
        return [b for b in self.boxes if not b.aside or b.state != "later"]


def main_way() -> list[Node]:
    """From the start along 'finished' to the end."""
    found: list[Node] = []
    node: Node | None = Node.START
    while node is not None:
        found.append(node)
        node = FLOWCHART[node].edges.get("finished")
    return found


def draw(target: RunTarget, lines: Sequence[StepRecord]) -> Drawing:
    """`lines` are the journal of the target, oldest first; those of a part are left out here."""
    steps = [line for line in lines if not line.part]
    boxes = {node: _box(node, place, target, steps) for node, place in _places().items()}
    walked = {(Node(a.node), Node(b.node)) for a, b in pairwise(steps)}
    specified = {(a, b) for a, row in FLOWCHART.items() for b in row.edges.values()}
    own = {(a, b) for a, row in FLOWCHART.items() for b in row.own.values()} & (walked | ALWAYS_DRAWN)
    edges = [_edge(boxes[a], boxes[b], (a, b) in walked) for a, b in sorted(specified | own)]
    return Drawing(list(boxes.values()), sorted(edges, key=lambda e: e.taken))


def _places() -> dict[Node, tuple[float, int]]:
    way: dict[Node, tuple[float, int]] = {node: (i, 0) for i, node in enumerate(main_way())}
    return {**way, **ASIDE}


def _box(node: Node, place: tuple[float, int], target: RunTarget, steps: Sequence[StepRecord]) -> Box:
    column, row = place
    wide, tall = (NODE, TALL) if row == 0 else (PILL, LOW)
    middle = 1 + column * PITCH + NODE / 2
    mine = [line for line in steps if line.node == node]
    x = min(max(middle - wide / 2, 1.0), WIDTH - wide - 1)
    state = _state(node, target, mine)
    sentence = rendered(mine[-1].sentence) if mine else ""
    return Box(
        node, FLOWCHART[node].label, x, ROWS[row], wide, tall, state, _words(node, state, target, mine), sentence
    )


MENDED = frozenset({Node.ALTERNATE_BACKUP, Node.ADDITIONAL_MAINTENANCE})
"""Answers to a failure after which the maintenance goes on as if there had been none."""


def _state(node: Node, target: RunTarget, mine: Sequence[StepRecord]) -> str:
    if target.node == node and target.status not in ENDED and target.token:
        return "now"
    if not mine:
        return "later"
    good = mine[-1].state == "finished" and not FLOWCHART[node].answers_failure
    return "done" if good or (node in MENDED and mine[-1].state == "finished") else "failed"


def _words(node: Node, state: str, target: RunTarget, mine: Sequence[StepRecord]) -> str:
    """The duration; of the work in hand how much of it is done."""
    if state == "now" and node is Node.MAINTAIN and target.progress.get("planned"):
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
