"""The operator's statements and the measuring loop."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import cycle
from statistics import quantiles

from ..errors import EngineError, Interrupted
from ..measuring import NO_TIME, UNHURRIED_SECONDS, Block, Meter
from ..values import Load, Sample
from .stopping import raise_if_stopping

Rows = list[tuple[object, ...]]


class Benchmark(ABC):
    """The operator's statements, read-only: functional checks, measured queries, a short load."""

    stopping: threading.Event

    @property
    @abstractmethod
    def cost_unit(self) -> str:
        """What `Sample.cost` counts."""

    @abstractmethod
    def query(self, sql: str) -> Rows:
        """Run an operator's functional check, in a transaction that cannot write."""

    @contextmanager
    def asking(self) -> Iterator[Callable[[str], Rows]]:
        """Ask as `query` does, many times; in one session where opening one takes longer than a question does."""
        yield self.query

    @abstractmethod
    def queries(self, tables: Sequence[str] | None) -> list[str]:
        """Return queries for the largest tables when TBL-098 names none; the same list for the same data."""

    @abstractmethod
    def measuring(self, query: str, seconds: float) -> AbstractContextManager[Meter]:
        """Open a read-only session with pinned settings, first for `query`, and yield what measures in it.

        A statement is ended by the server after `seconds`. The meter raises what goes wrong, Interrupted included.
        """

    def measure(self, query: str, repeats: int) -> Sample:
        """Measure one query; an error is in the sample. Raises Interrupted."""
        return self.measure_all([query], repeats)[0]

    def measure_all(self, queries: Sequence[str], repeats: int, seconds: float = UNHURRIED_SECONDS) -> list[Sample]:
        """Measure one query after the other in `seconds`, in one session until a query fails. Raises Interrupted."""
        block = Block(seconds, repeats)
        samples: list[Sample] = []
        while len(samples) < len(queries):
            query, begun = queries[len(samples)], time.monotonic()
            if block.is_over:
                samples.append(Sample(query, (), None, self.cost_unit, error=NO_TIME))
                continue
            try:
                with self.measuring(query, block.statement_seconds) as meter:
                    while len(samples) < len(queries) and not block.is_over:
                        query, begun = queries[len(samples)], time.monotonic()
                        raise_if_stopping(self.stopping, "measuring", query[:80])
                        samples.append(block.sample(meter, query, len(queries) - len(samples)))
            except Interrupted:
                raise
            except EngineError as error:
                samples.append(block.failed(query, self.cost_unit, str(error.guarded), begun))
        return samples

    def load_test(self, queries: Sequence[str], seconds: float, clients: int) -> Load:
        """Let `clients` threads ask the queries in turn for `seconds`. Our own sessions, gate still closed.

        A client keeps its session, as an application's pool does, until a question fails.
        """
        until = time.monotonic() + seconds
        times: list[float] = []
        errors: list[str] = []

        def client(first: int) -> None:
            turn = cycle([*queries[first:], *queries[:first]])
            while time.monotonic() < until and not self.stopping.is_set():
                try:
                    with self.asking() as ask:
                        for query in turn:
                            begun = time.perf_counter()
                            ask(query)
                            times.append((time.perf_counter() - begun) * 1000)
                            if time.monotonic() >= until or self.stopping.is_set():
                                break
                except EngineError as error:
                    errors.append(str(error))

        begun = time.monotonic()
        if queries and clients:
            with ThreadPoolExecutor(clients) as pool:
                for future in [pool.submit(client, i % len(queries)) for i in range(clients)]:
                    future.result()
        cuts = quantiles(times, n=20) if len(times) > 1 else []
        return Load(
            clients=clients,
            seconds=time.monotonic() - begun,
            requests=len(times) + len(errors),
            errors=len(errors),
            p50_ms=cuts[9] if cuts else None,
            p95_ms=cuts[18] if cuts else None,
        )
