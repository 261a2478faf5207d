"""docs/procedure.md and the table in the code are the same flowchart, and it is the specification's."""

from __future__ import annotations

import re
from pathlib import Path

from maintenance.workflow.procedure import BEGINS_ENDING, CANCELLABLE, OUTAGE, PROCEDURE

DRAWING = Path(__file__).resolve().parents[2] / "docs" / "procedure.md"
SPECIFIED = {
    "A-B", "B-C", "C-D", "D-E", "E-F", "F-G", "G-H", "H-I",
    "I-J", "J-K", "B-L", "D-M", "G-N", "H-O", "I-P", "L-Q",
    "M-R", "N-S", "O-S", "P-T", "R-E", "S-U", "T-G",
}  # fmt: skip
"""The edges of the specification, 4.1."""


def drawn() -> tuple[dict[str, str], set[str], set[tuple[str, str, str]]]:
    text = DRAWING.read_text().split("```mermaid")[1].split("```")[0]
    names = dict(re.findall(r"\b([A-Z])\[(\w+)\]", text))
    bare = re.sub(r"\[\w+\]", "", text)
    solid = {f"{a}-{b}" for a, b in re.findall(r"([A-Z]) --> ([A-Z])", bare)}
    dotted = set(re.findall(r"([A-Z]) -\. ([a-z ]+) \.-> ([A-Z])", bare))
    return names, solid, dotted


def test_every_node_is_drawn_with_its_name() -> None:
    names, _, _ = drawn()
    assert names == {letter: node.step for letter, node in PROCEDURE.items()}


def test_solid_edges_are_the_specifications() -> None:
    _, solid, _ = drawn()
    in_code = {f"{letter}-{to}" for letter, node in PROCEDURE.items() for to in node.edges.values()}
    assert solid == in_code == SPECIFIED


def test_dotted_edges_are_our_own() -> None:
    _, _, dotted = drawn()
    in_code = {(letter, str(edge), to) for letter, node in PROCEDURE.items() for edge, to in node.own.items()}
    assert dotted == in_code


def test_every_node_leads_to_an_end() -> None:
    for letter in PROCEDURE:
        seen, ahead = set(), {letter}
        while ahead:
            seen |= ahead
            ahead = {t for s in ahead for t in {**PROCEDURE[s].edges, **PROCEDURE[s].own}.values()} - seen
        assert any(PROCEDURE[s].ends_in for s in seen), letter


def test_whatever_can_be_cancelled_has_an_edge_for_it() -> None:
    for letter in CANCELLABLE:
        node = PROCEDURE[letter]
        assert "stopped" in node.own or node.work is None, letter


def test_every_way_out_of_the_outage_without_success_is_a_rollback_or_an_operator() -> None:
    for letter in OUTAGE:
        node = PROCEDURE[letter]
        for edge, to in {**node.edges, **node.own}.items():
            assert to in OUTAGE | {"J", "S", "X"}, (letter, edge, to)
    assert set(BEGINS_ENDING) <= set(PROCEDURE)
