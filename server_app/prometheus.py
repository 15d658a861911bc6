"""The run's metrics as the server keeps them: rewritten after every round, served if asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from regl_app.config import RunConfig
from regl_app.flower.deployment.exposition import FILE, HttpExposition, Snapshot, write_metrics
from regl_app.flower.deployment.run_metrics import RunTotals, run_families
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import FederationFacts, RoundRecord, RunResult


class RunMetrics:
    """Writes ``<run>/metrics.prom``, and serves the same where ``metrics-port`` is set.

    Counters go on from the rounds that the folder's history already has.

    Args:
        folder: the run's.
        config: the run.
        nodes: tells how many nodes are connected.
    """

    def __init__(
        self, folder: RunFolder, config: RunConfig, nodes: Callable[[], int] | None = None
    ) -> None:
        self._folder = folder
        self._config = config
        self._nodes = nodes
        self._connected: int | None = None
        self._started = time.time()
        self._written: float | None = None
        self._totals = RunTotals()
        self._last: RoundRecord | None = None
        self._clients: int | None = None
        self._snapshot = Snapshot()
        self._http: HttpExposition | None = None

    def __enter__(self) -> Self:
        for record in self._folder.read_history():
            self._totals.add(record)
            self._last = record
        if self._last is not None:  # a run that hangs where it goes on shall look like one
            self._written = (self._folder.path / "history.jsonl").stat().st_mtime
        self._show("running")
        if self._config.metrics_port:
            config = self._config
            self._http = HttpExposition(self._snapshot, config.metrics_address, config.metrics_port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._http is not None:
            self._http.close()

    def federation(self, facts: FederationFacts) -> None:
        """Show who takes part."""
        self._clients = facts.num_clients
        self._look()
        self._show("running")

    def add(self, record: RoundRecord) -> None:
        """Show one more round, which the history has; one that is repeated counts once."""
        if self._last is not None and record.round <= self._last.round:
            self._totals = RunTotals()
            for each in self._folder.read_history():
                if each.round < record.round:
                    self._totals.add(each)
        self._totals.add(record)
        self._last, self._written = record, time.time()
        self._look()
        self._show("running")

    def end(self, result: RunResult) -> None:
        """Show how the run ended."""
        self._show(result.status)

    def _look(self) -> None:
        if self._nodes is not None:
            self._connected = self._nodes()

    def _show(self, state: str) -> None:
        families = run_families(
            self._config,
            self._folder.name,
            state,
            self._last,
            self._totals,
            started=self._started,
            written=self._written,
            clients=self._clients,
            nodes=self._connected,
        )
        self._snapshot.families = tuple(families)
        write_metrics(self._folder.path / FILE, self._snapshot.families)
