"""The lists of the report, from `outcome`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from maintenance.models import BackupFile, Node, StepState
from maintenance.text import labels as words
from maintenance.text.render import render

from .sheets import Column, Sheet

Json = Mapping[str, Any]
CAUSES = 8
"""Kinds of findings on the cover; the pages of the databases hold all."""
BAD = (StepState.FAILED, StepState.INTERRUPTED)


@dataclass(frozen=True)
class Trouble:
    """Something that failed, was interrupted, or was tried again."""

    at: str
    what: str
    words: str


def overview(targets: Sequence[tuple[Json, str, str]]) -> Sheet:
    """One row a database, for the cover."""
    columns = [
        Column(_("Database"), "name"),
        Column(_("Server"), width=18),
        Column(_("Outcome"), width=12),
        Column(_("Outage"), "number", 20),
        Column(_("Findings"), "number", 8),
        Column(_("Work done"), "number", 8),
        Column(_("Queries"), width=17),
    ]
    rows = [
        [
            found["database"],
            words.server(found["engine"], found["version"]),
            status,
            outage,
            words.count(len(found["findings"])),
            words.count(sum(a["state"] == StepState.FINISHED for a in found["actions"])),
            render(found["benchmark_told"]) if found["benchmark_told"] else "—",
        ]
        for found, status, outage in targets
    ]
    return Sheet(columns, rows, ["" if found["status"] == "succeeded" else "bad" for found, _status, _out in targets])


def findings(found: Json) -> Sheet:
    columns = [
        Column(_("Severity"), width=9),
        Column(_("Finding"), width=15),
        Column(_("Object"), "name", 20),
        Column(_("Evidence"), "name"),
        Column(_("Likely cause, advice"), "name", 30),
    ]
    rows = [
        [
            words.label(words.SEVERITIES, f["severity"]),
            f["code"].replace("_", " "),
            f["object"] or _("whole database"),
            render(f["evidence"]),
            render(f["hint"]),
        ]
        for f in found["findings"]
    ]
    return Sheet(columns, rows, ["bad" if f["severity"] == "critical" else "" for f in found["findings"]])


def grouped(found: Json) -> list[Trouble]:
    """Many findings as few paragraphs: one a kind, objects with the same evidence together."""
    kinds: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for f in found["findings"]:
        kind = kinds.setdefault((f["severity"], f["code"], render(f["hint"])), {})
        kind.setdefault(render(f["evidence"]), []).append(f["object"] or _("whole database"))
    return [
        Trouble(
            "",
            f"{words.label(words.SEVERITIES, severity)} · {code.replace('_', ' ')} · {sum(map(len, kind.values())):,}",
            f"{hint}. " + "; ".join(f"{evidence}: {', '.join(objects)}" for evidence, objects in kind.items()),
        )
        for (severity, code, hint), kind in kinds.items()
    ]


def causes(targets: Sequence[Json]) -> Sheet:
    """Findings by kind over all databases, the worst first; for the cover."""
    columns = [
        Column(_("Severity"), width=9),
        Column(_("Finding"), width=20),
        Column(_("Objects"), "number", 9),
        Column(_("Likely cause, advice"), "name"),
    ]
    ranks = list(words.SEVERITIES)
    kinds: dict[tuple[str, str], list[str]] = {}
    for f in (f for found in targets for f in found["findings"]):
        kinds.setdefault((f["severity"], f["code"]), []).append(render(f["hint"]))
    worst = sorted(kinds.items(), key=lambda item: ranks.index(item[0][0]) if item[0][0] in ranks else len(ranks))
    rows = [
        [words.label(words.SEVERITIES, severity), code.replace("_", " "), words.count(len(hints)), _hints(hints)]
        for (severity, code), hints in worst[:CAUSES]
    ]
    return Sheet(columns, rows)


def _hints(hints: Sequence[str]) -> str:
    different = list(dict.fromkeys(hints))
    return different[0] if len(different) == 1 else "; ".join(different[:2]) + ("; …" if len(different) > 2 else "")


def journal(found: Json) -> Sheet:
    """Every line, steps and the effects inside them."""
    columns = [
        Column(_("Time"), width=9),
        Column(_("Step"), "step", 24),
        Column(_("Took"), "number", 11),
        Column(_("What happened"), "name"),
    ]
    rows = [[words.clock(s["started_at"]), _step(s), _took(s), render(s["sentence"])] for s in found["steps"]]
    return Sheet(columns, rows, ["bad" if s["state"] in BAD else "" if s["part"] else "step" for s in found["steps"]])


def _took(step: Json) -> str:
    return "—" if step["seconds"] is None else words.duration(step["seconds"])


def _step(step: Json) -> str:
    if step["part"]:
        return f"· {step['part']}"
    return f"{step['node']}  {words.label(words.STEPS, step['step'])}"


def actions(found: Json, dense: bool = False) -> Sheet:
    """With the reason of each below it; a long report leaves that to the findings, and failures to their list."""
    columns = [
        Column(_("Object"), "name"),
        Column(_("Action"), width=17),
        Column(_("Before"), "number", 12),
        Column(_("After"), "number", 12),
        Column(_("Took"), "number", 11),
        *([] if dense else [Column(_("State"), width=11), Column(_("Why, and what came of it"), "below")]),
    ]
    rows = [
        [
            a["object"],
            words.label(words.ACTIONS, a["action"]),
            words.size(a["bytes_before"]),
            words.size(a["bytes_after"]),
            words.duration(a["seconds"]),
            *([] if dense else [str(StepState(a["state"]).label), _why(a)]),
        ]
        for a in found["actions"]
    ]
    return Sheet(columns, rows, ["bad" if a["state"] in BAD else "" for a in found["actions"]])


def _why(action: Json) -> str:
    return "; ".join(part.rstrip(".") for part in (render(action["reason"]), render(action["sentence"])) if part)


def proof(integrity: Json) -> Sheet:
    columns = [
        Column(_("Table"), "name"),
        Column(_("Rows before"), "number", 20),
        Column(_("Rows after"), "number", 20),
        Column(_("Content"), width=18),
    ]
    rows = [
        [t["table"], words.count(t["rows_before"]), words.count(t["rows_after"]), _content(t)]
        for t in integrity["tables"]
    ]
    return Sheet(columns, rows, ["" if t["fingerprint_equal"] else "bad" for t in integrity["tables"]])


def _content(table: Json) -> str:
    if table["error"]:
        return _("cannot be read")
    return {True: _("equal"), False: _("differs"), None: _("not comparable")}[table["fingerprint_equal"]]


def checks(integrity: Json) -> list[str]:
    """Passed checks by kind with their number, failed ones each with its words, then what the proof objected to."""
    kinds: dict[str, list[Json]] = {}
    for check in integrity["checks"]:
        kinds.setdefault(check["name"], []).append(check)
    told = [
        _("{name}: {passed} of {count} checks passed").format(
            name=words.label(words.CHECKS, name), passed=sum(c["passed"] for c in group), count=len(group)
        )
        for name, group in kinds.items()
    ]
    failed = [
        _("failed: {name} of {object}: {detail}").format(
            name=words.label(words.CHECKS, c["name"]), object=c["object"], detail=render(c["detail"]) or "—"
        )
        for c in integrity["checks"]
        if not c["passed"]
    ]
    return told + failed + [_("problem: {problem}").format(problem=render(p)) for p in integrity["problems"]]


def rollback(found: Json) -> str:
    """What the rollback did to the data; '' without one."""
    done = [
        s for s in found["steps"] if (s["node"], s["part"], s["state"]) == (Node.ROLL_BACK, "data", StepState.FINISHED)
    ]
    return render(done[-1]["sentence"]) if done else ""


def losses(found: Json) -> Sheet:
    columns = [
        Column(_("Object"), "name"),
        Column(_("Rows lost"), "number", 16),
        Column(_("Damaged pages"), "name", 30),
        Column(_("Detail"), "below"),
    ]
    rows = [
        [x["object"], words.count(x["rows"]), ", ".join(map(str, x["pages"])) or "—", x["detail"]]
        for x in found["data_loss"]
    ]
    return Sheet(columns, rows, ["bad"] * len(rows))


def queries(found: Json) -> Sheet:
    columns = [
        Column("", width=4),
        Column(_("Verdict"), width=24),
        Column(_("Before, median (ms)"), "number", 12),
        Column(_("After, median (ms)"), "number", 12),
        Column(_("Spread"), "number", 8),
        Column(_("Cost before → after"), "number"),
        Column(_("Query"), "below"),
    ]
    rows = [
        [
            str(number),
            render(q["told"]),
            words.milliseconds(q["before_ms"]),
            words.milliseconds(q["after_ms"]),
            "—" if q["spread"] is None else words.share(q["spread"]),
            _cost(q),
            " ".join(q["query"].split()),
        ]
        for number, q in enumerate(found["benchmark"], 1)
    ]
    return Sheet(columns, rows, ["bad" if q["change"] == "slower" else "" for q in found["benchmark"]])


def _cost(query: Json) -> str:
    if query["cost_before"] is None and query["cost_after"] is None:
        return words.unknown()
    unit = words.label(words.COSTS, query["cost_unit"])
    return f"{words.count(query['cost_before'])} → {words.count(query['cost_after'])} {unit}"


def backups(found: Json) -> list[Json]:
    """With sizes and roles in words."""
    roles = {str(key): str(text) for key, text in BackupFile._meta.get_field("role").flatchoices}
    return [
        {**b, "size": words.size(b["bytes"]), "role": roles.get(b["role"], b["role"])} for b in found["backup_files"]
    ]


def troubles(found: Json) -> list[Trouble]:
    """Steps and actions that failed or were interrupted, backups that did not succeed, and what was done again."""
    steps = [
        Trouble(
            words.clock(s["started_at"]),
            f"{words.label(words.STEPS, s['step'])} {s['part'] or ''}".strip() + _again(s),
            render(s["sentence"]) or str(StepState(s["state"]).label),
        )
        for s in found["steps"]
        if s["state"] in BAD or s["attempt"] > 1 or (s["round"] > 1 and s["part"] is None)
    ]
    actions = [
        Trouble("", words.work(a["object"], a["action"]), render(a["sentence"]) or a["state"])
        for a in found["actions"]
        if a["state"] in BAD
    ]
    backups = [
        Trouble("", f"{b['method']} {b['path']}", render(b["error"])) for b in found["backup_files"] if b["error"]
    ]
    return steps + actions + backups


def _again(step: Json) -> str:
    said = []
    if step["attempt"] > 1:
        said.append(_("attempt {number}").format(number=step["attempt"]))
    if step["round"] > 1:
        said.append(_("round {number}").format(number=step["round"]))
    return f" ({', '.join(said)})" if said else ""
