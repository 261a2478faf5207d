"""DB状態情報 from a Prometheus server: what is kept, and that nothing is lost in silence."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connections
from django.utils import timezone

from maintenance.conf import config
from maintenance.models import DatabaseState, Feed, MaintenanceSetting
from maintenance.observation import prometheus as monitoring

Register = Callable[..., MaintenanceSetting]
Series = list[tuple[dict[str, str], str]]


class Prometheus:
    """Answers instant queries with what a test gives it."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)["query"][0]
                outer.asked.append((query, self.headers["Authorization"]))
                found = outer.answers.get(query, [])
                status, body = found if isinstance(found, tuple) else (200, vector(found))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", body)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def vector(series: Series) -> str:
    result = [{"metric": labels, "value": [1, value]} for labels, value in series]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    made = Prometheus()
    threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def told(prometheus: Prometheus, settings: Any) -> Callable[..., None]:
    """config.json with the given queries; other keys by name."""

    def write(queries: dict[str, str], **more: Any) -> None:
        entry = {"url": prometheus.url, "queries": queries, **more}
        settings.CONFIG_FILE.write_text(json.dumps({"prometheus": entry}))

    return write


Told = Callable[..., None]
SHOP = {"datname": "shop", "instance": "db1:9187"}


@pytest.mark.django_db
class TestPulling:
    def test_measures_and_findings_become_a_state(self, fake: Register, prometheus: Prometheus, told: Told) -> None:
        fake("shop"), fake("crm")
        told(
            {"up": "pg_up", "connections": "backends", "size_bytes": "size"},
            databases={"shop": SHOP, "crm": {**SHOP, "datname": "crm"}},
            findings={"dead_rows": {"query": "dead > 0.2", "severity": "high", "hint": "autovacuum is behind"}},
        )
        crm = {**SHOP, "datname": "crm"}
        prometheus.answers = {
            "pg_up": [({"instance": "db1:9187", "job": "pg"}, "1"), ({"instance": "db2:9187"}, "0")],
            "backends": [
                ({"instance": "db1:9187", "datid": "0"}, "7"),
                (SHOP, "12"),
                (crm, "3"),
                ({"datname": "shop", "instance": "db2:9187"}, "99"),
            ],
            "size": [(SHOP, "6.1e3"), (crm, "10")],
            "dead > 0.2": [({**SHOP, "schemaname": "public", "relname": "orders"}, "0.45")],
        }
        assert monitoring.pull() == 2
        shop = DatabaseState.objects.get(setting__name="shop")
        assert (shop.source, shop.state, shop.connections, shop.size_bytes) == ("monitoring", "degraded", 12, 6100)
        assert shop.findings == [
            {
                "code": "dead_rows",
                "severity": "high",
                "object": "public.orders",
                "evidence": "dead > 0.2 = 0.45",
                "hint": "autovacuum is behind",
            }
        ]
        assert DatabaseState.objects.get(setting__name="crm").state == "well"
        feed = Feed.objects.get()
        assert (feed.error, feed.problems) == ("", {})
        assert feed.read_at is not None

    def test_a_server_that_is_down(self, fake: Register, prometheus: Prometheus, told: Told) -> None:
        fake("shop")
        told({"up": "pg_up"})
        prometheus.answers = {"pg_up": [({"database": "shop"}, "0")]}
        monitoring.pull()
        assert DatabaseState.objects.get().state == "unreachable"

    @pytest.mark.parametrize(
        ("series", "problem"),
        [
            ([], "connections: no series is about this database"),
            ([({"database": "crm"}, "1")], "connections: no series is about this database"),
            ([({"database": "shop"}, "1"), ({"database": "shop", "x": "y"}, "2")], "connections: 2 series are about"),
            ([({"database": "shop"}, "NaN")], "connections: nan cannot be"),
            ([({"database": "shop"}, "-1")], "connections: -1 cannot be"),
            ([({"database": "shop"}, "1e10")], "connections: 1e+10 cannot be"),
        ],
    )
    def test_what_cannot_be_measured_is_told(
        self, fake: Register, prometheus: Prometheus, told: Told, series: Series, problem: str
    ) -> None:
        fake("shop")
        told({"connections": "c", "size_bytes": "s"})
        prometheus.answers = {"c": series, "s": [({"database": "shop"}, "7")]}
        assert monitoring.pull() == 1
        state = DatabaseState.objects.get()
        assert (state.connections, state.size_bytes) == (None, 7)
        assert state.error.startswith(problem)
        assert Feed.objects.get().problems["shop"][0].startswith(problem)

    def test_nothing_at_all_is_no_state_but_a_problem(self, fake: Register, prometheus: Prometheus, told: Told) -> None:
        fake("shop")
        told({"connections": "c"}, databases={"shop": {"datname": "shop"}, "gone": {"datname": "gone"}})
        assert monitoring.pull() == 0
        assert not DatabaseState.objects.exists()
        assert Feed.objects.get().problems == {
            "shop": ["connections: no series is about this database"],
            "gone": ["config.json names it, but no such database is registered"],
        }

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            ((400, '{"status": "error", "error": "parse error: unexpected end of input"}'), "q: parse error: unexp"),
            ((502, "<html>"), "q: 502 Bad Gateway"),
            ((200, "<html>"), "q: the answer is no JSON"),
            ((200, '{"status": "success"}'), "q: the answer is no instant vector"),
            ((200, '{"data": {"resultType": "matrix", "result": [{"metric": {}, "values": []}]}}'), "q: the answer is"),
        ],
    )
    def test_an_answer_that_is_none(
        self, fake: Register, prometheus: Prometheus, told: Told, answer: tuple[int, str], error: str
    ) -> None:
        fake("shop")
        told({"connections": "q"})
        prometheus.answers = {"q": answer}
        assert monitoring.pull() == 0
        assert Feed.objects.get().error.startswith(error)
        prometheus.answers = {"q": [({"database": "shop"}, "1")]}
        monitoring.pull()
        assert Feed.objects.get().error == ""

    def test_nobody_answers(self, fake: Register, told: Told) -> None:
        fake("shop")
        told({"connections": "q"}, url="http://127.0.0.1:1")
        assert monitoring.pull() == 0
        assert "refused" in Feed.objects.get().error

    def test_an_answer_that_breaks_off_is_kept_too(
        self, fake: Register, told: Told, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake("shop")
        told({"connections": "q"})

        def torn(*args: Any, **more: Any) -> None:
            raise IncompleteRead(b"{")

        monkeypatch.setattr(monitoring, "urlopen", torn)
        assert monitoring.pull() == 0
        assert "IncompleteRead" in Feed.objects.get().error

    def test_sizes_alone_do_not_make_a_database_well(self, fake: Register, prometheus: Prometheus, told: Told) -> None:
        fake("shop")
        told({"connections": "q", "up": "u"})
        prometheus.answers = {"q": [({"database": "shop"}, "7")]}
        assert monitoring.pull() == 1
        state = DatabaseState.objects.get()
        assert (state.state, state.connections) == ("unknown", 7)
        assert "up: no series" in state.error

    def test_the_token_is_sent_and_not_told(
        self, fake: Register, prometheus: Prometheus, told: Told, tmp_path: Path
    ) -> None:
        fake("shop")
        (tmp_path / "token").write_text("canary-token\n")
        told({"connections": "q"}, token_file=str(tmp_path / "token"))
        prometheus.answers = {"q": (403, "canary")}
        monitoring.pull()
        assert prometheus.asked == [("q", "Bearer canary-token")]
        assert Feed.objects.get().error == "q: 403 Forbidden"
        prometheus.answers = {"q": (302, f"{prometheus.url}/elsewhere?query=other")}
        monitoring.pull()
        assert prometheus.asked[-1] == ("other", None)
        told({"connections": "q"}, token_file=str(tmp_path / "no-such-file"))
        monitoring.pull()
        assert "No such file" in Feed.objects.get().error


@pytest.mark.django_db(transaction=True)
def test_one_of_many_clusters_asks_in_each_interval(told: Told) -> None:
    assert not monitoring.due()
    told({"up": "pg_up"}, interval_seconds=60)
    Feed.objects.create(name="prometheus")

    def ask() -> bool:
        try:
            return monitoring.due()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sum(f.result() for f in [pool.submit(ask) for _ in range(4)]) == 1
    assert not monitoring.due()
    Feed.objects.update(tried_at=timezone.now() - timedelta(seconds=61))
    assert monitoring.due()


def test_a_broken_configuration_stops_only_this(settings: Any, db: None) -> None:
    settings.CONFIG_FILE.write_text("{")
    assert not monitoring.due()


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ([], "prometheus must be an object"),
        ({"url": "file:///etc/passwd", "queries": {"up": "x"}}, "prometheus.url must begin with http:// or https://"),
        ({"url": "http://x"}, "prometheus.queries must be an object"),
        ({"url": "http://x", "queries": {}}, "prometheus.queries is empty"),
        ({"url": "http://x", "queries": {"upp": "x"}}, "prometheus.queries.upp is not known"),
        ({"url": "http://x", "queries": {"up": 1}}, "every value of prometheus.queries must be a string"),
        ({"url": "http://x", "queries": {"up": "x"}, "interval": 5}, "prometheus.interval is not known"),
        ({"url": "http://x", "queries": {"up": "x"}, "interval_seconds": 0}, "interval_seconds must be a number above"),
        ({"url": "http://x", "queries": {"up": "x"}, "databases": {"a": {}}}, "databases.a names no label"),
        (
            {"url": "http://x", "queries": {"up": "x"}, "findings": {"a": {"query": "x"}}},
            "prometheus.findings.a must have query and severity",
        ),
        (
            {"url": "http://x", "queries": {"up": "x"}, "findings": {"a": {"query": "x", "severity": "bad"}}},
            "prometheus.findings.a.severity is 'bad'",
        ),
        (
            {"url": "http://x", "queries": {"up": "x"}, "findings": {"A b": {"query": "x", "severity": "low"}}},
            "is no code",
        ),
    ],
)
def test_what_config_json_may_not_say(settings: Any, entry: Any, told: str) -> None:
    settings.CONFIG_FILE.write_text(json.dumps({"prometheus": entry}))
    with pytest.raises(config.ConfigError, match=told.replace(".", r"\.").replace("(", r"\(")):
        config.load()
