"""Waiting for the nodes of a run, at its start and when some have gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from flwr.serverapp import Grid

from regl_app.core.errors import RunError
from regl_app.core.formats import format_seconds
from regl_app.core.log import logger

_POLL_SECONDS, _TELL_SECONDS = 0.25, 30.0


def wait_for_nodes(
    grid: Grid,
    at_least: int,
    timeout: float,
    without: Collection[int] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> list[int]:
    """Return the nodes' ids, ascending, once there are enough and no more arrive.

    A simulation registers its nodes one by one while the ServerApp already runs. Those in
    ``without`` count for nothing; ``meanwhile`` is called at once and now and then where others are
    waited for, and may take some out of it.

    Raises:
        RunError: fewer than ``at_least`` are there after ``timeout`` seconds.
    """
    able = "nodes that can take part" if without else "nodes"
    started = time.monotonic()
    told, nodes = started - _TELL_SECONDS, _connected(grid, without)
    while True:
        time.sleep(_POLL_SECONDS)
        before, nodes = nodes, _connected(grid, without)
        if len(nodes) >= at_least and nodes == before:
            return nodes
        tell = len(nodes) < at_least and time.monotonic() - told >= _TELL_SECONDS
        if tell:
            meanwhile()
            nodes = _connected(grid, without)
            if len(nodes) >= at_least:
                continue
        waited = time.monotonic() - started
        if waited > timeout:
            raise RunError(
                f"{len(nodes)} {able} connected within server.timeout={timeout:g} s, the run "
                f"needs server.min-nodes={at_least}"
            )
        if tell:
            told = time.monotonic()
            logger.info(
                "%d %s connected, waiting for %d (server.min-nodes); gives up in %s",
                len(nodes),
                able,
                at_least,
                format_seconds(timeout - waited),
            )


def require_nodes(
    grid: Grid,
    at_least: int,
    timeout: float,
    without: Collection[int],
    meanwhile: Callable[[], None],
) -> None:
    """Wait until enough nodes are connected, some having gone since the last round.

    Those in ``without`` cannot take part, and so count for nothing; ``meanwhile`` as above.

    Raises:
        RunError: fewer than ``at_least`` are there after ``timeout`` seconds.
    """
    if len(_connected(grid, without)) < at_least:
        wait_for_nodes(grid, at_least, timeout, without, meanwhile)


def _connected(grid: Grid, without: Collection[int]) -> list[int]:
    return sorted(set(grid.get_node_ids()).difference(without))


def wait_for_these(
    grid: Grid, nodes: set[int], enough: int, deadline: float, grace: float
) -> set[int]:
    """Return who of ``nodes`` has come by ``deadline``, nobody if fewer than ``enough``.

    Once there are enough, the others get ``grace`` seconds more.
    """
    patience = deadline
    while True:
        here, now = nodes & set(grid.get_node_ids()), time.monotonic()
        if len(here) < enough:
            patience = deadline
        elif patience == deadline:
            patience = min(deadline, now + grace)
        if here == nodes or now >= patience:
            return here if len(here) >= enough else set()
        time.sleep(_POLL_SECONDS)
