"""Writing a backup file takes little memory, and what is read back is what was written."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest

from maintenance.engines import archive

WRITES = """
import random, sys
from pathlib import Path
from maintenance.engines import archive

class Rows:
    left = 60
    rows = "".join(f"{i}\\t{i * 7919 % 10000}\\tpaid\\t{random.random()}\\n" for i in range(60000)).encode()
    def read(self, most):
        self.left -= 1
        return self.rows[: 1 << 20] if self.left >= 0 else b""

def peak():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

before = peak()
written = archive.write(Rows(), Path(sys.argv[1]), archive.Seal())
archive.verify(written)
print(peak() - before)
"""
MOST_MB = 16
"""The compressor's threads with their buffers; with jobs of its own choice it took 35."""


@pytest.mark.long
def test_sixty_megabytes_are_written_with_little_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITES, str(tmp_path / "dump.zst")],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert float(done.stdout) < MOST_MB


@pytest.mark.parametrize("content", [b"other rows", b"the rowz"])
def test_a_file_that_reads_back_as_another_whole_file_is_no_backup(tmp_path: Path, content: bytes) -> None:
    """It decompresses without an error, so that nothing but the digest can tell."""
    written = archive.write(BytesIO(b"the rows"), tmp_path / "dump.zst", archive.Seal())
    archive.verify(written)
    other = archive.write(BytesIO(content), tmp_path / "other.zst", archive.Seal())
    written.path.write_bytes(other.path.read_bytes())
    with pytest.raises(
        archive.ArchiveError, match=f"reads back differently: sha256 {other.sha256}, written {written.sha256}"
    ):
        archive.verify(written)
