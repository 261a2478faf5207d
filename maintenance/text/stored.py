"""Sentences of a run as the console keeps them, so that they can be told in any language later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maintenance.engines.messages import Message, msg
from maintenance.engines.values import Finding, Json


def said(sentence: Message | str) -> Json:
    """Templates and values of a sentence, for other languages; likewise of a sentence among the values."""
    if not isinstance(sentence, Message):
        return {"template": str(sentence), "values": {}}
    values = {name: said(value) if isinstance(value, Message) else value for name, value in sentence.values.items()}
    return {"template": sentence.template, "values": values, **({"many": sentence.many} if sentence.many else {})}


def resaid(stored: Mapping[str, Any], text: str = "") -> Message:
    """The sentence that `said` stored; without that one of the text alone."""
    if not stored:
        return msg("{text}", text=text)
    values = {name: resaid(v) if isinstance(v, Mapping) else v for name, v in stored["values"].items()}
    return Message(stored["template"], values, stored.get("many", ""))


def stored_finding(finding: Finding) -> Json:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "object": finding.object,
        "evidence": str(finding.evidence),
        "hint": str(finding.hint),
        "said": {"evidence": said(finding.evidence), "hint": said(finding.hint)},
    }
