"""The lists of the report, from `outcome`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from maintenance.models import BackupFile, StepState

from . import words
from .retelling import Retelling
from .sheets import Column, Sheet

Json = Mapping[str, Any]
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
        Column(_("Server"), width=20),
        Column(_("Outcome"), width=12),
        Column(_("Outage"), "number", 22),
        Column(_("Findings"), "number", 9),
        Column(_("Work done"), "number", 9),
        Column(_("Times, after / before"), "number", 11),
    ]
    rows = [
        [
            found["database"],
            f"{found['engine']} {found['version'].removeprefix(found['engine']).strip()}"[:40].strip(),
            status,
            outage,
            words.count(len(found["findings"])),
            words.count(sum(a["state"] == StepState.FINISHED for a in found["actions"])),
            words.ratio(found["benchmark_ratio"]) if found["benchmark_ratio"] else "—",
        ]
        for found, status, outage in targets
    ]
    return Sheet(columns, rows, ["" if found["status"] == "succeeded" else "bad" for found, _status, _out in targets])


def findings(found: Json, retell: Retelling) -> Sheet:
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
            retell(f["evidence"]),
            retell(f["hint"]),
        ]
        for f in found["findings"]
    ]
    return Sheet(columns, rows, ["bad" if f["severity"] == "critical" else "" for f in found["findings"]])


def journal(found: Json, retell: Retelling) -> Sheet:
    """Every line, steps and the effects inside them."""
    columns = [
        Column(_("Time"), width=9),
        Column(_("Step"), "step", 24),
        Column(_("Took"), "number", 11),
        Column(_("What happened"), "name"),
    ]
    rows = [[words.clock(s["started_at"]), _step(s), words.duration(s["seconds"]), retell(s["sentence"])] for s in found["steps"]]
    return Sheet(columns, rows, ["bad" if s["state"] in BAD else "" if s["part"] else "step" for s in found["steps"]])


def _step(step: Json) -> str:
    if step["part"]:
        return f"· {step['part']}"
    return f"{step['node']}  {words.label(words.STEPS, step['step'])}"


def actions(found: Json, retell: Retelling) -> Sheet:
    columns = [
        Column(_("Action"), width=13),
        Column(_("Before"), "number", 10),
        Column(_("After"), "number", 10),
        Column(_("Took"), "number", 10),
        Column(_("State"), width=10),
        Column(_("Object"), "name", 19),
        Column(_("Why, and what came of it"), "name"),
    ]
    rows = [
        [
            a["action"].replace("_", " "),
            words.size(a["bytes_before"]),
            words.size(a["bytes_after"]),
            words.duration(a["seconds"]),
            str(StepState(a["state"]).label),
            a["object"],
            "; ".join(part.rstrip(".") for part in (retell(a["reason"]), retell(a["sentence"])) if part),
        ]
        for a in found["actions"]
    ]
    return Sheet(columns, rows, ["bad" if a["state"] in BAD else "" for a in found["actions"]])


def proof(integrity: Json) -> Sheet:
    columns = [
        Column(_("Rows before"), "number", 15),
        Column(_("Rows after"), "number", 15),
        Column(_("Content"), width=18),
        Column(_("Table"), "name"),
    ]
    rows = [
        [words.count(t["rows_before"]), words.count(t["rows_after"]), _content(t), t["table"]]
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
            name=name, passed=sum(c["passed"] for c in group), count=len(group)
        )
        for name, group in kinds.items()
    ]
    failed = [
        _("failed: {name} of {object}: {detail}").format(**{**c, "detail": c["detail"] or "—"})
        for c in integrity["checks"]
        if not c["passed"]
    ]
    return told + failed + [_("problem: {problem}").format(problem=p) for p in integrity["problems"]]


def losses(found: Json) -> Sheet:
    columns = [
        Column(_("Rows lost"), "number", 15),
        Column(_("Damaged pages"), "name", 20),
        Column(_("Object"), "name", 25),
        Column(_("Detail"), "name"),
    ]
    rows = [
        [words.count(x["rows"]), ", ".join(map(str, x["pages"])) or "—", x["object"], x["detail"]]
        for x in found["data_loss"]
    ]
    return Sheet(columns, rows, ["bad"] * len(rows))


def queries(found: Json) -> Sheet:
    columns = [
        Column(_("Before, median (ms)"), "number", 10),
        Column(_("After, median (ms)"), "number", 10),
        Column(_("Spread"), "number", 8),
        Column(_("After / before"), "number", 8),
        Column(_("Cost before → after"), "number", 18),
        Column(_("Verdict"), width=12),
        Column(_("Query"), "name code"),
    ]
    rows = [
        [
            words.milliseconds(q["before_ms"]),
            words.milliseconds(q["after_ms"]),
            words.share(q["spread"]),
            words.ratio(q["ratio"]),
            _cost(q),
            words.label(words.VERDICTS, q["verdict"]),
            " ".join(q["query"].split()),
        ]
        for q in found["benchmark"]
    ]
    return Sheet(columns, rows, ["bad" if q["verdict"] == "worse" else "" for q in found["benchmark"]])


def _cost(query: Json) -> str:
    if query["cost_before"] is None and query["cost_after"] is None:
        return words.unknown()
    return f"{words.count(query['cost_before'])} → {words.count(query['cost_after'])} {query['cost_unit']}"


def backups(found: Json) -> list[Json]:
    """With sizes and roles in words."""
    roles = {str(key): str(text) for key, text in BackupFile._meta.get_field("role").flatchoices}
    return [{**b, "size": words.size(b["bytes"]), "role": roles.get(b["role"], b["role"])} for b in found["backup_files"]]


def troubles(found: Json, retell: Retelling) -> list[Trouble]:
    """Steps and actions that failed or were interrupted, backups that did not succeed, and what was done again."""
    steps = [
        Trouble(
            words.clock(s["started_at"]),
            f"{words.label(words.STEPS, s['step'])} {s['part'] or ''}".strip() + _again(s),
            retell(s["sentence"]) or str(StepState(s["state"]).label),
        )
        for s in found["steps"]
        if s["state"] in BAD or s["attempt"] > 1 or (s["round"] > 1 and s["part"] is None)
    ]
    actions = [
        Trouble("", f"{a['action'].replace('_', ' ')} {a['object']}", retell(a["sentence"]) or a["state"])
        for a in found["actions"]
        if a["state"] in BAD
    ]
    backups = [Trouble("", f"{b['method']} {b['path']}", b["error"]) for b in found["backup_files"] if b["error"]]
    return steps + actions + backups


def _again(step: Json) -> str:
    said = []
    if step["attempt"] > 1:
        said.append(_("attempt {number}").format(number=step["attempt"]))
    if step["round"] > 1:
        said.append(_("round {number}").format(number=step["round"]))
    return f" ({', '.join(said)})" if said else ""


