"""Before the first round: who is there, with which partition, and with the same code?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from regl_app.config import RunConfig
from regl_app.config.server_section import ServerConfig
from regl_app.core.errors import RunError
from regl_app.core.log import logger
from regl_app.core.types import Counts
from regl_app.data.federation import Federation
from regl_app.flower.messages.alike import agreed, difference
from regl_app.flower.messages.content import OURS, most_bytes, request_record
from regl_app.flower.messages.handshake import Handshake
from regl_app.flower.messages.hello import ClientInfo
from regl_app.flower.shared_files import alike_here
from server_app.exchange import exchange
from server_app.nodes import wait_for_nodes
from server_app.replies import check_replies, listed


@dataclass(frozen=True)
class Clients:
    """The clients that can take part: by partition, and which node holds which.

    ``alike`` are the digests of what all of them have alike, once that is known; ``left_out`` are
    the nodes that were asked and cannot take part.
    """

    clients: Mapping[int, ClientInfo]
    partitions: Mapping[int, int]
    num_partitions: int
    alike: Mapping[str, str] = field(default_factory=dict)
    left_out: frozenset[int] = frozenset()

    def counts(self) -> list[list[int] | None] | None:
        """Return the clients' label histograms, K x C; None if none are shared."""
        rows: list[list[int] | None] = [None] * self.num_partitions
        for partition_id, hello in self.clients.items():
            if hello.real_counts is not None:
                rows[partition_id] = hello.real_counts.tolist()
        return rows if any(row is not None for row in rows) else None

    def overall(self) -> Counts | None:
        """Return all clients' images per class, ``(C,)``; None unless every client shared its."""
        rows = self.counts() or [None]
        known = [row for row in rows if row is not None]
        return np.sum(known, axis=0, dtype=np.int64) if len(known) == len(rows) else None


def discover_clients(
    grid: Grid, config: ServerConfig, handshake: Handshake, num_classes: int
) -> Clients:
    """Ask every node which partition it holds; refuse those with other code or configuration.

    Where nodes disagree on their number, what most of them say holds, and the others are refused.

    Raises:
        RunError: too few nodes connect in time or can be used, or no number has a majority.
    """
    nodes = wait_for_nodes(grid, config.min_nodes, config.timeout)
    content = RecordDict({OURS: request_record(0, handshake)})
    requests = [Message(content, node_id, MessageType.QUERY) for node_id in nodes]
    replies = exchange(grid, requests, config)
    partitions: dict[int, int] = {}
    checked = check_replies(
        requests,
        replies,
        lambda reply: ClientInfo.read(reply, num_classes),
        partitions,
        "hello",
        most_bytes(num_classes),
    )
    usable, failures = dict(checked.replies), list(checked.failures)
    total = _most_say(usable)
    for partition_id, hello in checked.replies.items():
        if hello.num_partitions != total:
            del usable[partition_id]
            failure = (
                f"hello: client {partition_id}: refused: num-partitions must be {total} as in most "
                f"nodes' configuration, got {hello.num_partitions}"
            )
            logger.warning("%s", failure)
            failures.append(failure)
    _check_enough(usable, len(nodes), config, failures)
    known = _of(partitions, usable)
    return Clients(usable, known, total, left_out=frozenset(nodes) - known.keys())


def without_odd_ones(clients: Clients, config: RunConfig, federation: Federation) -> Clients:
    """Refuse clients that have other rows, generators or files than the server or most of them.

    Args:
        clients: those that answered.
        config: the run's, its paths absolute.
        federation: as the server deals the images.

    Raises:
        RunError: too few are left.
    """
    own = alike_here(config, federation)
    told = {client: info.alike for client, info in clients.clients.items()}
    wanted = agreed(told, own)
    usable, failures = dict(clients.clients), list[str]()
    for client, digests in told.items():
        if why := difference(digests, wanted, "at the server or most clients"):
            failures.append(f"hello: client {client}: refused: {why}")
            logger.warning("%s", failures[-1])
            del usable[client]
    _check_enough(usable, len(told), config.server, failures)
    known = _of(clients.partitions, usable)
    left_out = clients.left_out | (clients.partitions.keys() - known.keys())
    return Clients(usable, known, clients.num_partitions, wanted, left_out)


def _check_enough(
    usable: Mapping[int, ClientInfo], nodes: int, config: ServerConfig, failures: Sequence[str]
) -> None:
    if len(usable) < config.min_nodes or not usable:
        raise RunError(
            f"{len(usable)} of {nodes} nodes can take part, the run needs "
            f"server.min-nodes={config.min_nodes}{listed(failures)}"
        )


def _of(partitions: Mapping[int, int], usable: Mapping[int, ClientInfo]) -> dict[int, int]:
    return {node: partition for node, partition in partitions.items() if partition in usable}


def _most_say(replies: Mapping[int, ClientInfo]) -> int:
    """Return the ``num_partitions`` that most replies name; 0 if there is no reply."""
    votes = Counter(hello.num_partitions for hello in replies.values()).most_common(2)
    if len(votes) > 1 and votes[0][1] == votes[1][1]:
        raise RunError(
            "all nodes must have the same num-partitions, got "
            + ", ".join(f"{total} from {count} of them" for total, count in sorted(votes))
            + " (flower-supernode --node-config)"
        )
    return votes[0][0] if votes else 0
