"""Imports go only leftwards: engines and commands know nothing of the procedure, the procedure nothing of the queue."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LAYERS = [
    ["maintenance.commands", "maintenance.archive", "maintenance.engines", "maintenance.secrets", "maintenance.logs"],
    ["maintenance.config", "maintenance.applications", "maintenance.control", "maintenance.blackbox",
     "maintenance.dying"],
    ["maintenance.models"],
    ["maintenance.audit", "maintenance.checkpoints", "maintenance.journal", "maintenance.notify", "maintenance.usual",
     "maintenance.watch", "maintenance.tokens", "maintenance.kept", "maintenance.rights", "maintenance.delivery",
     "maintenance.incidents", "maintenance.monitoring", "maintenance.workers", "maintenance.sentences",
     "maintenance.states", "reports"],
    ["maintenance.steps", "maintenance.ending", "maintenance.progress", "maintenance.retention",
     "maintenance.monthly"],
    ["maintenance.procedure", "maintenance.request", "maintenance.planning", "maintenance.recovery"],
    ["maintenance.tasks"],
    ["maintenance.launch"],
    ["maintenance.terminal", "maintenance.days", "maintenance.forms", "maintenance.views",
     "maintenance.templatetags", "maintenance.urls", "maintenance.admin", "maintenance.setting_form",
     "maintenance.checks", "maintenance.production", "maintenance.management", "maintenance.apps", "maintenance.api",
     "maintenance.metrics"],
    ["dbmaint_site"],
]  # fmt: skip
"""From left to right; a module may import its own layer and those before it."""


def layer_of(module: str) -> int | None:
    for number, names in enumerate(LAYERS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return number
    return None


def modules() -> Iterator[tuple[str, Path]]:
    for top in ("maintenance", "reports", "dbmaint_site"):
        for path in sorted((PROJECT / top).rglob("*.py")):
            parts = path.relative_to(PROJECT).with_suffix("").parts
            if "migrations" not in parts:
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported(module: str, path: Path) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{name.name}" for name in node.names)


def test_every_module_has_a_layer() -> None:
    assert [m for m, _ in modules() if layer_of(m) is None and m not in ("maintenance", "reports")] == []


def test_imports_go_only_leftwards() -> None:
    wrong = []
    for module, path in modules():
        here = layer_of(module)
        for name in imported(module, path):
            there = layer_of(name)
            if here is not None and there is not None and there > here:
                wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_engines_know_no_django() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in modules()
        if module.startswith("maintenance.engines") or module in ("maintenance.commands", "maintenance.archive")
        for name in imported(module, path)
        if name.split(".")[0] in ("django", "reports")
    ]
    assert wrong == []


def test_one_door_each_to_processes_and_to_the_queue() -> None:
    doors = {
        "subprocess": {"maintenance.commands"},
        "django_q": {"maintenance.tasks", "maintenance.management.commands.work"},
    }
    for thing, allowed in doors.items():
        users = {m for m, path in modules() if any(n.split(".")[0] == thing for n in imported(m, path))}
        assert users <= allowed, thing


def test_the_product_knows_neither_demo_nor_tests_nor_measurements() -> None:
    beside = {"demo", "tests", "chaos", "bench"}
    wrong = [f"{m} imports {n}" for m, path in modules() for n in imported(m, path) if n.split(".")[0] in beside]
    assert wrong == []
