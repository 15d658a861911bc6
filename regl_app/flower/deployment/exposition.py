"""Showing metrics: as a file for node_exporter's textfile collector, and over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from regl_app.core.files import write_bytes
from regl_app.core.log import logger

FILE = "metrics.prom"


class Snapshot(Collector):
    """The metrics shown at this moment, replaced as a whole."""

    def __init__(self, families: Iterable[Metric] = ()) -> None:
        self.families = tuple(families)

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        yield from self.families


def write_metrics(path: Path, families: Iterable[Metric]) -> None:
    """Write a metrics file; one that cannot be written is a warning, as no run depends on it."""
    registry = CollectorRegistry()
    registry.register(Snapshot(families))
    try:
        write_bytes(path, generate_latest(registry))
        path.chmod(0o644)  # node_exporter is another user
    except OSError as error:
        logger.warning("%s: metrics cannot be written: %s", path, error)


class HttpExposition:
    """Serves a :class:`Snapshot` at ``http://address:port/metrics`` until it is closed.

    A port that cannot be had is a warning: no run depends on it.
    """

    def __init__(self, snapshot: Snapshot, address: str, port: int) -> None:
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None
        registry = CollectorRegistry()
        registry.register(snapshot)
        try:
            self._server, self._thread = start_http_server(port, address, registry)
        except OSError as error:
            logger.warning(
                "no metrics over HTTP: metrics-port=%d on metrics-address=%r: %s",
                port,
                address,
                error,
            )
        else:
            logger.info("metrics at http://%s:%d/metrics", address, port)

    def close(self) -> None:
        """Give the port back."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
