"""deploy/audit.py: a vulnerable package fails, and what nobody could look up is called not checked."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

AUDIT = Path(__file__).resolve().parents[2] / "deploy/audit.py"
ADVISORY = {
    "id": "PYSEC-2000-1",
    "summary": "a hole",
    "affected": [
        {
            "package": {"name": "leaky", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        }
    ],
}


class Advisories(http.server.BaseHTTPRequestHandler):
    """Speaks as OSV's query API does and knows one vulnerability."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"vulns": [ADVISORY]} if asked["package"]["name"] == "leaky" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def _audit(folder: Path, url: str, *pins: str) -> subprocess.CompletedProcess[str]:
    (folder / "requirements.txt").write_text("\n".join(pins))
    asked = {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": url}
    return subprocess.run(
        [sys.executable, str(AUDIT)], cwd=folder, env={**os.environ, **asked}, capture_output=True, text=True
    )


@pytest.mark.long
def test_a_known_vulnerability_fails(service: str, tmp_path: Path) -> None:
    done = _audit(tmp_path, service, "leaky==1.0", "tight==2.0")
    assert done.returncode == 1
    assert "leaky 1.0: PYSEC-2000-1, mended in 1.1" in done.stdout
    assert "1 in 2 packages" in done.stdout


@pytest.mark.long
def test_none_is_told_with_how_many_were_asked_about(service: str, tmp_path: Path) -> None:
    done = _audit(tmp_path, service, "tight==2.0")
    assert (done.returncode, done.stdout.strip()) == (
        0,
        "Known vulnerabilities of the dependencies: 0 in 1 packages.",
    )


@pytest.mark.long
def test_silence_is_not_called_clean(tmp_path: Path) -> None:
    done = _audit(tmp_path, "http://127.0.0.1:9/", "leaky==1.0")
    assert done.returncode == 0
    assert "NOT checked, the advisory service did not answer" in done.stdout
