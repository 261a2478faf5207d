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
from ..values import Load, Sample
from .stopping import raise_if_stopping

Rows = list[tuple[object, ...]]
Measure = Callable[[str, int], Sample]
"""Measure a query: one discarded warm-up, then so many repeats."""


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
    def measuring(self, query: str) -> AbstractContextManager[Measure]:
        """Open a read-only session with pinned settings, first for `query`, and yield what measures in it.

        That raises what goes wrong, Interrupted included.
        """

    def measure(self, query: str, repeats: int) -> Sample:
        """Measure one query; an error is in the sample. Raises Interrupted."""
        return self.measure_all([query], repeats)[0]

    def measure_all(self, queries: Sequence[str], repeats: int) -> list[Sample]:
        """Measure one query after the other, in one session until a query fails. Raises Interrupted."""
        samples: list[Sample] = []
        while len(samples) < len(queries):
            query = queries[len(samples)]
            try:
                with self.measuring(query) as measure:
                    for query in queries[len(samples) :]:
                        raise_if_stopping(self.stopping, "measuring", query[:80])
                        samples.append(measure(query, repeats))
            except Interrupted:
                raise
            except EngineError as error:
                samples.append(Sample(query, (), None, self.cost_unit, error=str(error.guarded)))
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
