"""Sending requests and waiting for the replies, also over a link that goes away for a while."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.superlink.grid.http_grid import HttpGrid

from regl_app.config.sections import ServerConfig
from regl_app.core.errors import RunError
from regl_app.core.formats import format_seconds
from regl_app.core.log import logger
from server_app.nodes import wait_for_nodes

_LOOK_SECONDS = 0.25
_GRACE_SECONDS = 60.0
"""How long those that are back wait for the others: Flower's nodes look every 20 s at most."""


def exchange(grid: Grid, requests: Iterable[Message], server: ServerConfig) -> list[Message]:
    """Return the replies to ``requests`` that arrive within ``server.timeout`` seconds.

    Where every node was given up, it is the server's own link that was gone, and not the nodes:
    they are asked again once they are back, within the same time. They keep what a round begins
    from, so the second answer is the first one's. A list of requests then holds the second ones.
    """
    asked = requests if isinstance(requests, list) else list(requests)
    deadline = time.monotonic() + server.timeout
    while True:
        replies = _exchange(grid, asked, deadline)
        left = deadline - time.monotonic()
        if len(replies) < len(asked) or not all(map(_given_up, replies)) or not asked or left <= 0:
            return replies
        logger.warning(
            "all %d nodes were given up at once: waits for them to come back and asks them again; "
            "gives up in %s",
            len(asked),
            format_seconds(left),
        )
        try:
            wait_for_nodes(grid, max(1, server.min_nodes), left)
        except RunError:
            return replies
        with suppress(RunError):
            wait_for_nodes(grid, len(asked), min(_GRACE_SECONDS, deadline - time.monotonic()))
        asked[:] = [
            Message(
                request.content,
                request.metadata.dst_node_id,
                request.metadata.message_type,
                group_id=request.metadata.group_id,
            )
            for request in asked
        ]


def _given_up(reply: Message) -> bool:
    return reply.has_error() and reply.error.code == ErrorCode.NODE_UNAVAILABLE


def _exchange(grid: Grid, requests: list[Message], deadline: float) -> list[Message]:
    """Look for replies without Flower's three seconds in between."""
    if not isinstance(grid, HttpGrid):  # the grids in memory wait well by themselves
        left = max(0.0, deadline - time.monotonic())
        return list(grid.send_and_receive(requests, timeout=left))
    missing = set(grid.push_messages(requests))
    replies: list[Message] = []
    while missing:
        arrived = list(grid.pull_messages(missing))
        missing -= {reply.metadata.reply_to_message_id for reply in arrived}
        replies += arrived
        if time.monotonic() >= deadline:
            break
        if missing and not arrived:
            time.sleep(_LOOK_SECONDS)
    return replies
