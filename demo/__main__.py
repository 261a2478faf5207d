"""`make demo`: one emergency maintenance over embedded demo data, by a real worker, shown live.

Exits 0 when the maintenance of all demo databases succeeded and left its files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .stage import PROJECT, databases, msg, prepare, worker

HOME = Path(os.environ.get("DBMAINT_HOME", PROJECT / "var" / "demo")).resolve()


def main() -> int:
    shutil.rmtree(HOME, ignore_errors=True)
    prepare(HOME)
    with databases(HOME), worker(HOME):
        msg("")
        return maintain()


def maintain() -> int:
    begun = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "manage.py", "maintain", "--type", "rebuild", "--all", "--severity", "high"),
            *("--reason", "demonstration: everything has become slow", "--wait", "--json"),
        ],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    if not done.stdout:
        return done.returncode or 1
    told = json.loads(done.stdout)
    print(f"Report (PDF):      {told['report_pdf']}")
    print(f"Performance (CSV): {told['performance_csv']}")
    print(f"Outcome (JSON):    {write(told)}")
    print(f"{told['number']} {told['status']} after {time.monotonic() - begun:.0f} s.")
    files = [told["report_pdf"], told["performance_csv"]]
    return done.returncode or int(not all(f and Path(f).is_file() for f in files))


def write(told: object) -> Path:
    path = HOME / "outcome.json"
    path.write_text(json.dumps(told, ensure_ascii=False, indent=2))
    return path


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
