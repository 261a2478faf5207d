"""docs/procedure.md and the table in the code are the same flowchart, and it is the specification's."""

from __future__ import annotations

import re
from pathlib import Path

from maintenance.models import Node
from maintenance.workflow.flowchart import FLOWCHART, Service, leading_to
from maintenance.workflow.runner import WORK

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
    assert names == {node.letter: node.step for node in FLOWCHART}
    assert set(FLOWCHART) == set(Node)


def test_solid_edges_are_the_specifications() -> None:
    _, solid, _ = drawn()
    in_code = {f"{node.letter}-{to.letter}" for node, row in FLOWCHART.items() for to in row.edges.values()}
    assert solid == in_code == SPECIFIED


def test_dotted_edges_are_our_own() -> None:
    _, _, dotted = drawn()
    in_code = {(node.letter, str(edge), to.letter) for node, row in FLOWCHART.items() for edge, to in row.own.items()}
    assert dotted == in_code


def test_every_node_leads_to_an_end() -> None:
    ends = [node for node, row in FLOWCHART.items() if row.ends_in]
    assert frozenset[Node]().union(*(leading_to(end) for end in ends)) == set(Node)
    assert all(not FLOWCHART[end].leads_to for end in ends)


def test_whatever_has_no_work_only_leads_on() -> None:
    for node, row in FLOWCHART.items():
        assert (node in WORK) != (row.leads_to.keys() == {"finished"} and row.answers_failure), node


def test_whatever_can_be_cancelled_has_an_edge_for_it() -> None:
    for node, row in FLOWCHART.items():
        assert not row.cancellable or "stopped" in row.own or node not in WORK, node


def test_the_ways_back_to_service_are_never_cut_short() -> None:
    assert not any(row.cancellable for row in FLOWCHART.values() if row.service in (Service.RETURNING, Service.OVER))


def test_every_way_out_of_the_outage_without_success_is_a_rollback_or_an_operator() -> None:
    allowed = {Node.RESUME, Node.ROLL_BACK, Node.CALL_AN_OPERATOR}
    for node, row in FLOWCHART.items():
        for edge, to in row.leads_to.items():
            assert not row.outage or FLOWCHART[to].outage or to in allowed, (node, edge, to)


def test_no_other_module_knows_the_letters() -> None:
    """Letters of the flowchart beside a node, or a string of several, as in `node in "ABC"`."""
    known = Path(__file__).resolve().parents[2]
    letters = re.compile(r"""node\w*['"]?\s*(?:=|==|!=|:|,|in|not in|is)\s*\(?\[?["'][A-Z]+["']""")
    homes = [known / "maintenance" / "models" / "nodes.py", known / "maintenance" / "migrations"]
    for room in ("maintenance", "reports", "templates"):
        for file in (known / room).rglob("*.*"):
            if file.suffix in (".py", ".html") and not any(home in (file, *file.parents) for home in homes):
                assert not letters.search(file.read_text()), file
