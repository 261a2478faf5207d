"""Asks an advisory service for known vulnerabilities of the pinned packages; `make lint` runs it.

pip-audit does the asking (`PIP_AUDIT_VULNERABILITY_SERVICE` and `PIP_AUDIT_OSV_URL` choose the service). It ends with
"No known vulnerabilities" also where the service knew none of the packages, so its answer is read package by package:
what was not audited is said to be so. Exit code 1 where a package has a known vulnerability; not where nobody could be
asked, or a line that is down would keep a correction from being released.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TITLE = "Known vulnerabilities of the dependencies:"
PINNED = ("requirements.txt", "requirements-dev.txt")


def main() -> int:
    """Prints one line, or one a vulnerability; returns the exit code."""
    files = [word for name in PINNED if Path(name).exists() for word in ("-r", name)]
    program = str(Path(sys.executable).with_name("pip-audit"))
    options = ["--disable-pip", "--no-deps", "--format=json", "--progress-spinner=off", "--timeout=10"]
    asked = subprocess.run([program, *options, *files], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(asked.stdout)["dependencies"]
    except ValueError:
        said = asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"]
        print(f"{TITLE} NOT checked, the advisory service did not answer: {said[-1]}")
        return 0
    unknown = sorted({x["name"] for x in packages if "skip_reason" in x})
    known = {(x["name"], x["version"]): x["vulns"] for x in packages if "vulns" in x}
    found = [(*package, one["id"], one["fix_versions"]) for package, vulns in known.items() for one in vulns]
    for name, version, advisory, fixed in sorted(found):
        print(f"{name} {version}: {advisory}, mended in {', '.join(fixed) or 'no version yet'}")
    if not known:
        print(f"{TITLE} NOT checked, the service knew none of {len(unknown)} packages.")
    else:
        print(f"{TITLE} {len(found)} in {len(known)} packages.")
        if unknown:
            print(f"NOT checked, unknown to the service: {', '.join(unknown)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
