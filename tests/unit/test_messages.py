"""Japanese is complete: every message of code and templates is in the catalogue, translated."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maintenance.management.commands.makemessages import ERRORS

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = Path("locale/ja/LC_MESSAGES/django.po")
SOURCES = ("dbmaint_site", "maintenance", "reports", "templates", "locale")


def unfinished(text: str) -> list[str]:
    """Messages without a translation, or with one that gettext only guessed."""
    found = []
    for entry in text.split("\n\n")[1:]:
        message = re.search(r"^msgid (.*?)^msgstr", entry, re.MULTILINE | re.DOTALL)
        if message is None or entry.lstrip().startswith("#~"):
            continue
        empty = re.search(r'^msgstr(\[0\])? ""\s*\Z', entry, re.MULTILINE)
        if empty or re.search(r"^#,.*fuzzy", entry, re.MULTILINE):
            found.append(message[1].strip())
    return found


@pytest.mark.long
def test_every_message_is_translated(tmp_path: Path) -> None:
    for name in SOURCES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.mo"))
    shutil.copy(ROOT / "manage.py", tmp_path)
    subprocess.run(
        [sys.executable, "manage.py", "makemessages", "--locale=ja"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "DBMAINT_HOME": str(tmp_path / "var"), "DBMAINT_INSECURE": "1"},
    )
    assert unfinished((tmp_path / CATALOGUE).read_text()) == []


def test_translations_fit_their_messages() -> None:
    """Placeholders as in English; gettext checks them."""
    checked = subprocess.run(
        ["msgfmt", "--check", "--output-file=/dev/null", str(ROOT / CATALOGUE)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_what_errors_say_of_themselves_can_be_said_again() -> None:
    """Words with values in them are a Message: an f-string would stay English on every page."""
    wrong = []
    for folder in ("engines", "workflow"):
        for path in (ROOT / "maintenance" / folder).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text())):
                if not isinstance(call, ast.Call) or getattr(call.func, "id", "") not in ERRORS:
                    continue
                if any(isinstance(a, ast.JoinedStr) for a in call.args[2:3]):
                    wrong.append(f"{path.name}:{call.lineno}")
    assert wrong == []


@pytest.mark.long
def test_values_of_a_sentence_can_be_said_again() -> None:
    """A sentence joined into text before it becomes a value would stay English: that is what `listed` is for."""
    wrong = []
    for path in (ROOT / "maintenance").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "msg":
                continue
            for value in (keyword.value for keyword in call.keywords):
                texts = [x.value for x in ast.walk(value) if isinstance(x, ast.Constant) and isinstance(x.value, str)]
                own = not any(isinstance(x, ast.Call) and getattr(x.func, "id", "") == "msg" for x in ast.walk(value))
                if own and any(re.search(r"[a-z] [a-z]|^; $", text) for text in texts):
                    wrong.append(f"{path.name}:{call.lineno}")
    assert wrong == []
