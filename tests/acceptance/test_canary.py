"""Canary passwords: planted by every way in, then looked for in everything that the system wrote or showed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from pypdf import PdfReader

from tests.acceptance.conftest import QUICK, Console
from tests.engines.lab import Lab

CANARIES = {
    "target": "Kanarien-Ziel-905x",
    "wrong target": "Kanarien-Falsch-905x",
    "mail": "Kanarien-Post-905x",
    "environment": "Kanarien-Umgebung-905x",
}


@contextmanager
def arguments_watched(found: set[str]) -> Iterator[None]:
    """Whatever our processes and theirs show in their arguments meanwhile."""
    over, us = threading.Event(), psutil.Process()

    def watch() -> None:
        while not over.wait(0.1):
            for process in us.children(recursive=True):
                with suppress(psutil.Error):
                    line = " ".join(process.cmdline())
                    found.update(name for name, word in CANARIES.items() if word in line)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def written(folders: list[Path]) -> Iterator[tuple[Path, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and path.name != "config.json":
                yield path, path.read_bytes()
                if path.suffix == ".pdf":
                    yield path, "".join(page.extract_text() for page in PdfReader(path).pages).encode()


@pytest.mark.every(3, 2)
def test_no_password_comes_out_anywhere(lab: Lab, console: Console) -> None:
    if lab.url.get_backend_name() == "sqlite":
        pytest.skip("SQLite has no passwords")
    lab.fill()
    notifications = {"dba": [f"mailto://u:{CANARIES['mail']}@127.0.0.1:1?to=dba@example.com"]}
    console.configure(notifications=notifications)
    planted = {
        "shop": lab.url.set(password=CANARIES["target"]),
        "away": lab.url.set(password=CANARIES["wrong target"], host="127.0.0.1", port=1, query={}),
    }
    said = ""
    for name, url in planted.items():
        done = console.run(
            "register_target", name, url.render_as_string(hide_password=False), "--backup-dir", str(lab.folder),
            "--alternate-backup-dir", str(console.home / "alternate"), *(f"--set={pair}" for pair in QUICK),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    secret = {"DBMAINT_TARGET_PASSWORD": CANARIES["environment"], "PGPASSWORD": CANARIES["environment"]}
    shown: set[str] = set()
    with arguments_watched(shown):
        maintain = (
            "maintain",
            "--type",
            "rebuild",
            "--severity",
            "high",
            "--reason",
            "x",
            "--foreground",
            "--database",
        )
        for words in (
            ("diagnose", "shop", "--json"),
            ("diagnose", "away", "--json"),
            (*maintain, "shop"),
            (*maintain, "away"),
            ("release", "shop"),
            ("dumpdata",),
        ):
            done = console.run(*words, **secret)
            said += done.stdout + done.stderr
    assert shown == set()
    assert [name for name, word in CANARIES.items() if word in said] == []
    found = [
        (name, str(path))
        for path, data in written([console.home, lab.folder])
        for name, word in CANARIES.items()
        if word.encode() in data
    ]
    assert found == []
    if lab.url.get_backend_name() == "postgresql":
        # Its server takes any password, so that a whole maintenance went by; the other refused this one.
        assert any((console.home / "logs").glob("maintenance-*.jsonl"))
