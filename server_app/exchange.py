"""Sending requests and waiting for the replies, also over a link that goes away for a while."""

from __future__ import annotations

import time
from collections.abc import Iterable

from flwr.app import Message, MessageType
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.superlink.grid.http_grid import HttpGrid

from regl_app.config.server_section import ServerConfig
from regl_app.core.formats import format_seconds
from regl_app.core.log import logger
from server_app.nodes import wait_for_these

_LOOK_SECONDS = 0.25
_MARGIN_SECONDS = 600.0
"""How long a request outlives its deadline: a reply has to end with it by the node's clock."""
_LONGEST_SECONDS = 1e8
"""Flower takes no request that ends beyond the calendar."""
_BESIDE_SECONDS = 5.0
"""How long those who are only asked who they are may answer after all others."""
_GRACE_SECONDS = 60.0
"""How long those that are back wait for the others: Flower's nodes look every 20 s at most."""


def exchange(grid: Grid, requests: Iterable[Message], server: ServerConfig) -> list[Message]:
    """Return the replies to ``requests`` that arrive within ``server.timeout`` seconds.

    What a link has cost is asked for again within the same time, where it can be told from what a
    node has:

    * A reply whose upload was torn, of a node that is there: once.
    * Of nodes that were given up, as nothing was heard of them for a minute, where too few others
      answered for a round (``server.min-replies``): it is rather the server's own link that was
      gone. They are waited for.

    Clients keep what a round begins from, so the second answer is the first one's. A list of
    requests then holds the second ones. Who is only asked who he is, beside other requests, is
    neither waited for, but for a moment, nor asked again.
    """
    asked = requests if isinstance(requests, list) else list(requests)
    deadline = time.monotonic() + server.timeout
    replies = _exchange(grid, asked, deadline)
    torn: set[int] = set()
    while time.monotonic() < deadline:
        work = apart(asked)[0] or asked
        _, answers = of_requests(replies, work)
        if len(answers) < len(work):
            break
        again = _torn(grid, work, answers, torn) or _back(grid, work, answers, server, deadline)
        if not again:
            break
        torn |= {request.metadata.dst_node_id for request in again}
        new = {request.metadata.message_id: _copy(request) for request in again}
        asked[:] = [new.get(request.metadata.message_id, request) for request in asked]
        replies = [r for r in replies if r.metadata.reply_to_message_id not in new]
        replies += _exchange(grid, list(new.values()), deadline)
    return replies


def _torn(
    grid: Grid, asked: list[Message], replies: list[Message], before: set[int]
) -> list[Message]:
    """Return requests whose reply is known to be there and did not arrive, each node's once."""
    found = [
        request
        for request in _with_error(asked, replies, ErrorCode.MESSAGE_UNAVAILABLE)
        if request.metadata.dst_node_id not in before
    ]
    connected = set(grid.get_node_ids()) if found else set()
    found = [request for request in found if request.metadata.dst_node_id in connected]
    if found:
        logger.warning(
            "%d of %d replies were lost on their way: asks for them again", len(found), len(asked)
        )
    return found


def _back(
    grid: Grid,
    asked: list[Message],
    replies: list[Message],
    server: ServerConfig,
    deadline: float,
) -> list[Message]:
    """Wait for nodes that were given up, if they are needed; return the requests to who came."""
    lost = {r.metadata.dst_node_id: r for r in _with_error(asked, replies)}
    training = any(request.metadata.message_type.startswith(MessageType.TRAIN) for request in asked)
    answered = sum(not reply.has_error() for reply in replies)
    needed = (server.min_replies if training else 1) - answered
    if not lost or needed <= 0:
        return []
    logger.warning(
        "%d of %d nodes were given up, and %d answered: waits for them to come back and asks them "
        "again; gives up in %s",
        len(lost),
        len(asked),
        answered,
        format_seconds(deadline - time.monotonic()),
    )
    enough = min(len(lost), max(needed, server.min_nodes - answered))
    here = wait_for_these(grid, set(lost), enough, deadline, _GRACE_SECONDS)
    return [request for node_id, request in lost.items() if node_id in here]


def _with_error(
    asked: list[Message], replies: list[Message], code: int = ErrorCode.NODE_UNAVAILABLE
) -> list[Message]:
    """Return the requests that were answered by an error of ``code``."""
    ids = {
        reply.metadata.reply_to_message_id
        for reply in replies
        if reply.has_error() and reply.error.code == code
    }
    return [request for request in asked if request.metadata.message_id in ids]


def _copy(request: Message) -> Message:
    return Message(
        request.content,
        request.metadata.dst_node_id,
        request.metadata.message_type,
        group_id=request.metadata.group_id,
    )


def _end_with(deadline: float, requests: Iterable[Message]) -> None:
    """Let ``requests`` end when nobody waits for them any more.

    A node works through what is there for it one after the other: one that has hung would first
    answer all that it has missed.
    """
    left = max(0.0, deadline - time.monotonic()) + _MARGIN_SECONDS
    until = time.time() + min(left, _LONGEST_SECONDS)
    for request in requests:
        request.metadata.ttl = until - request.metadata.created_at


def _exchange(grid: Grid, requests: list[Message], deadline: float) -> list[Message]:
    """Look for replies without Flower's three seconds in between."""
    _end_with(deadline, requests)
    if not isinstance(grid, HttpGrid):  # the grids in memory wait well by themselves
        left = max(0.0, deadline - time.monotonic())
        return list(grid.send_and_receive(requests, timeout=left))
    missing = set(grid.push_messages(requests))
    work, beside = apart(requests)
    needed = {request.metadata.message_id for request in work or beside}
    replies: list[Message] = []
    while missing:
        arrived = list(grid.pull_messages(missing))
        missing -= {reply.metadata.reply_to_message_id for reply in arrived}
        replies += arrived
        now = time.monotonic()
        if not missing & needed:
            deadline = min(deadline, now + _BESIDE_SECONDS)
        if now >= deadline:
            break
        if missing and not arrived:
            time.sleep(_LOOK_SECONDS)
    return replies


def apart(requests: Iterable[Message]) -> tuple[list[Message], list[Message]]:
    """Return the requests to work, and those that only ask a node who it is."""
    parts: tuple[list[Message], list[Message]] = ([], [])
    for request in requests:
        parts[request.metadata.message_type == MessageType.QUERY].append(request)
    return parts


def of_requests(
    replies: Iterable[Message], requests: Iterable[Message]
) -> tuple[list[Message], list[Message]]:
    """Return the replies to other requests, and those to ``requests``."""
    ids = {request.metadata.message_id for request in requests}
    parts: tuple[list[Message], list[Message]] = ([], [])
    for reply in replies:
        parts[reply.metadata.reply_to_message_id in ids].append(reply)
    return parts
