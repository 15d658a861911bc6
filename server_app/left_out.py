"""Nodes that were refused at hello: they are asked again who they are, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from flwr.app import Message, MessageType, RecordDict

from regl_app.core.errors import ProtocolError
from regl_app.core.log import logger
from regl_app.flower.messages.content import OURS, most_bytes, request_record
from regl_app.flower.messages.handshake import Handshake
from regl_app.flower.messages.hello import ClientInfo
from server_app.replies import Replies, check_replies


@dataclass
class LeftOut:
    """The nodes that were refused, until they can take part.

    They are drawn for no round and get no model. A site that is put right, restarted or not, keeps
    its node id where nodes have keys, so only its answer tells.

    Args:
        nodes: their ids.
        handshake: what they must share with the run, its number of clients included.
        num_classes: C.
        partitions: node id -> partition of those that take part; who is put right is added.
    """

    nodes: set[int]
    handshake: Handshake
    num_classes: int
    partitions: dict[int, int]

    def requests(self, connected: Collection[int]) -> list[Message]:
        """Return the question to those that are connected."""
        content = RecordDict({OURS: request_record(0, self.handshake)})
        return [
            Message(content, node_id, MessageType.QUERY)
            for node_id in sorted(self.nodes.intersection(connected))
        ]

    def take_back(
        self, requests: Iterable[Message], replies: Iterable[Message]
    ) -> Replies[ClientInfo]:
        """Return the checked answers; who gave a usable one is left out no more.

        A client's place is free only if no node has it, connected or not: who copied another's
        configuration shall not wait for that one to lose its connection.
        """
        most = most_bytes(self.num_classes)
        checked = check_replies(requests, replies, self._read, self.partitions, "hello", most)
        for node_id in sorted(self.nodes & self.partitions.keys()):
            client = self.partitions[node_id]
            logger.info("node %d is client %d: it takes part from now on", node_id, client)
        self.nodes.difference_update(self.partitions)  # in place: who waits looks at it
        return checked

    def _read(self, content: RecordDict) -> ClientInfo:
        info, total = ClientInfo.read(content, self.num_classes), self.handshake.num_partitions
        if info.num_partitions != total:
            raise ProtocolError(f"num-partitions must be {total}, got {info.num_partitions}")
        return info
