"""docs/restore.md, followed: a backup of ours opens with Debian's `age` and `zstd`, without any code of ours."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pyrage
import pytest

from tests.acceptance.conftest import Console
from tests.engines.lab import Lab

pytestmark = pytest.mark.skipif(
    shutil.which("age") is None or shutil.which("zstd") is None, reason="needs Debian's age and zstd"
)


def test_an_encrypted_backup_opens_with_the_programs_of_debian(lab: Lab, console: Console) -> None:
    lab.fill()
    key = pyrage.x25519.Identity.generate()
    identity = console.home / "age.key"
    identity.write_text(f"# made by the test\n{key}\n")
    sealed = {"recipients": [str(key.to_public())], "identity_file": str(identity)}
    console.configure(encryption=sealed)
    console.register(lab)
    code, told = console.maintain("optimize", "--database", "shop")
    assert code == 0, told["ended_because"]
    target = told["targets"][0]
    backup = next(f for f in target["backup_files"] if f["verified"] and f["role"] == "primary")
    path = Path(backup["path"])
    assert path.name.endswith(".zst.age")
    assert path.read_bytes().startswith(b"age-encryption.org/v1")
    said = subprocess.run(["sha256sum", str(path)], check=True, capture_output=True, text=True).stdout
    assert said.startswith(backup["sha256"])
    opened = console.home / "opened"
    subprocess.run(
        ["sh", "-c", 'age -d -i "$1" "$2" | zstd -d > "$3"', "sh", str(identity), str(path), str(opened)], check=True
    )
    rows = _restored_rows(target["engine"], opened, console.home)
    assert rows == 8000
    stranger = console.home / "other.key"
    stranger.write_text(str(pyrage.x25519.Identity.generate()))
    refused = subprocess.run(["age", "-d", "-i", str(stranger), str(path)], capture_output=True)
    assert refused.returncode != 0


def _restored_rows(engine: str, opened: Path, folder: Path) -> int:
    """Of orders, counted with the product's own programs where they need no server."""
    if engine == "sqlite":
        import sqlite3

        with sqlite3.connect(opened) as database:
            found = int(database.execute("SELECT count(*) FROM orders").fetchone()[0])
        database.close()
        return found
    if engine == "postgresql":
        program = shutil.which("pg_restore")
        assert program is not None
        said = subprocess.run(
            [program, "--data-only", "--table=orders", "-f", "-", str(opened)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        data = said[said.index("COPY ") :].splitlines()[1:]
        return data.index("\\.")
    lines = opened.read_text().splitlines()
    rows = 0
    for number, line in enumerate(lines):
        if line.startswith("INSERT INTO `orders`") and line.endswith(";"):
            rows += line.count("'),(") + 1  # MySQL's tool writes them on one line; the last column is a string
        elif line.startswith("INSERT INTO `orders`"):
            rows += next(n for n, text in enumerate(lines[number + 1 :]) if not text.startswith("("))
    return rows
