"""Waiting for the nodes of a run, at its start and when some have gone."""

from __future__ import annotations

import time

from flwr.serverapp import Grid

from regl_app.core.errors import RunError
from regl_app.core.formats import format_seconds
from regl_app.core.log import logger

_POLL_SECONDS, _TELL_SECONDS = 0.25, 30.0


def wait_for_nodes(grid: Grid, at_least: int, timeout: float) -> list[int]:
    """Return the nodes' ids, ascending, once there are enough and no more arrive.

    A simulation registers its nodes one by one while the ServerApp already runs.

    Raises:
        RunError: fewer than ``at_least`` are there after ``timeout`` seconds.
    """
    started = time.monotonic()
    told, nodes = started - _TELL_SECONDS, sorted(grid.get_node_ids())
    while True:
        time.sleep(_POLL_SECONDS)
        before, nodes = nodes, sorted(grid.get_node_ids())
        if len(nodes) >= at_least and nodes == before:
            return nodes
        waited = time.monotonic() - started
        if waited > timeout:
            raise RunError(
                f"{len(nodes)} nodes connected within server.timeout={timeout:g} s, the run "
                f"needs server.min-nodes={at_least}"
            )
        if len(nodes) < at_least and time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            logger.info(
                "%d nodes connected, waiting for %d (server.min-nodes); gives up in %s",
                len(nodes),
                at_least,
                format_seconds(timeout - waited),
            )


def require_nodes(grid: Grid, at_least: int, timeout: float) -> None:
    """Wait until enough nodes are connected, some having gone since the last round.

    Raises:
        RunError: fewer than ``at_least`` are there after ``timeout`` seconds.
    """
    if len(list(grid.get_node_ids())) < at_least:
        wait_for_nodes(grid, at_least, timeout)
