"""Replies as they come in: who sent them, which can be used, and why the others cannot."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from flwr.app import Message, RecordDict

from regl_app.core.errors import ProtocolError, ReglError
from regl_app.core.log import logger
from regl_app.flower.messages.content import METRICS, check_size, count_bytes
from regl_app.flower.messages.fields import one_line, shown

_MOST_REASON = 500
_MOST_LISTED = 20
# How Flower sends an exception.
_WRAPPED = re.compile(r"<class '(?P<kind>[\w.]+)'>:<'(?P<text>.*)'>", re.DOTALL)


class FromPartition(Protocol):
    """Any reply that says which partition it is about."""

    @property
    def partition_id(self) -> int:
        """Return the sender's partition."""
        ...


ReplyT = TypeVar("ReplyT", bound=FromPartition)


@dataclass(frozen=True)
class Replies(Generic[ReplyT]):
    """The usable replies of one phase by partition, ascending, with the messages they came in."""

    replies: Mapping[int, ReplyT]
    messages: Mapping[int, Message]
    failures: tuple[str, ...]
    bytes_down: Mapping[int, int]
    """By partition; -1 gathers the nodes of which none is known."""
    bytes_up: Mapping[int, int]


def listed(failures: Sequence[str]) -> str:
    """Return the first of ``failures`` for the end of an error's message, each on its own line."""
    return "".join(f"\n  {failure}" for failure in failures[:_MOST_LISTED])


def check_replies(
    requests: Iterable[Message],
    replies: Iterable[Message],
    read: Callable[[RecordDict], ReplyT],
    partitions: dict[int, int],
    phase: str,
    most: int,
    connected: Callable[[], Container[int]] | None = None,
) -> Replies[ReplyT]:
    """Check every reply; refuse and log those that are errors, malformed or not the sender's.

    The result does not depend on the order in which replies arrived.

    Args:
        requests: the messages sent, with the ids they got on the way.
        replies: what came back.
        read: parses and checks one reply's content, raising ``ProtocolError``.
        partitions: node id -> partition as far as known; senders not in it are added, in place of
            another node only if that one is not connected any more.
        phase: for log lines, e.g. ``train``.
        most: bytes that a reply may have.
        connected: tells which nodes are; without it, all that are in ``partitions``.
    """
    sent = {request.metadata.message_id: request for request in requests}
    used: dict[int, ReplyT] = {}
    messages: dict[int, Message] = {}
    failures: list[str] = []
    answered: set[str] = set()
    bytes_up: Counter[int] = Counter()

    def refuse(node_id: int, why: str) -> None:
        failures.append(f"{phase}: {_name(node_id, partitions)}: {why}")

    # Sorted, so that of two claims to one partition the same one wins in every run.
    for message in sorted(replies, key=lambda m: _sort_key(m, sent, partitions)):
        request = sent.get(message.metadata.reply_to_message_id)
        if request is None:
            failures.append(f"{phase}: a reply to no request of this round was dropped")
            continue
        # An error reply written by the SuperLink carries the SuperLink's id, not the node's.
        node_id = request.metadata.dst_node_id
        answered.add(request.metadata.message_id)
        if message.has_error():
            reason = _last_line(message.error.reason).removeprefix(
                f"{_name(node_id, partitions)}: "
            )
            refuse(node_id, f"failed: {reason}")
            continue
        try:
            bytes_up[node_id] += check_size(message.content, most)
            reply = read(message.content)
        except ProtocolError as error:
            refuse(node_id, f"refused: {error}")
            continue
        known = partitions.get(node_id, reply.partition_id)
        holder = _holder(reply.partition_id, partitions)
        twice = f"refused: two nodes claim to be client {reply.partition_id}"
        if reply.partition_id != known:
            refuse(node_id, f"refused: it now claims to be client {reply.partition_id}")
        elif reply.partition_id in used:
            refuse(node_id, twice)
        elif holder not in (None, node_id) and (connected is None or holder in connected()):
            # Its own reply could not be used, which is no reason to take another's for it.
            refuse(node_id, f"{twice} (that is node {holder})")
        else:
            if holder not in (None, node_id):
                del partitions[holder]
                logger.warning(
                    "client %d is now node %d: node %d, which was, is not connected any more",
                    reply.partition_id,
                    node_id,
                    holder,
                )
            partitions[node_id] = reply.partition_id
            used[reply.partition_id], messages[reply.partition_id] = reply, message
    for message_id, request in sent.items():
        if message_id not in answered:
            refuse(request.metadata.dst_node_id, "no reply in time (server.timeout)")
    for partition_id, why in _odd_metrics(messages):
        del used[partition_id], messages[partition_id]
        failures.append(f"{phase}: client {partition_id}: refused: {why}")
    for failure in failures:
        logger.warning("%s", failure)
    return Replies(
        dict(sorted(used.items())),
        dict(sorted(messages.items())),
        tuple(sorted(failures)),
        _by_partition(
            {
                request.metadata.dst_node_id: count_bytes(request.content)
                for request in sent.values()
            },
            partitions,
        ),
        _by_partition(bytes_up, partitions),
    )


def _holder(partition_id: int, partitions: Mapping[int, int]) -> int | None:
    """Return the node that is known as this client, None if none is."""
    return next((node for node, held in partitions.items() if held == partition_id), None)


def _by_partition(sizes: Mapping[int, int], partitions: Mapping[int, int]) -> dict[int, int]:
    found: Counter[int] = Counter()
    for node_id, size in sizes.items():
        found[partitions.get(node_id, -1)] += size
    return dict(sorted(found.items()))


def _odd_metrics(messages: Mapping[int, Message]) -> list[tuple[int, str]]:
    """Return whose metrics differ in keys from most others': Flower's strategies need equal ones.

    Client-side mods may add keys, so which are right is only known by majority.
    """
    keys = {
        partition_id: tuple(sorted(message.content.metric_records.get(METRICS, {})))
        for partition_id, message in messages.items()
    }
    if len(set(keys.values())) <= 1:
        return []
    usual = max(Counter(keys.values()).items(), key=lambda item: (item[1], item[0]))[0]
    return [
        (partition_id, f"metrics must be {list(usual)}, got {shown(list(seen))}")
        for partition_id, seen in keys.items()
        if seen != usual
    ]


def _sort_key(
    message: Message, sent: Mapping[str, Message], partitions: Mapping[int, int]
) -> tuple[int, int]:
    request = sent.get(message.metadata.reply_to_message_id)
    node_id = request.metadata.dst_node_id if request else -1
    return partitions.get(node_id, len(partitions) + 1_000_000), node_id


def _name(node_id: int, partitions: Mapping[int, int]) -> str:
    return f"client {partitions[node_id]}" if node_id in partitions else f"node {node_id}"


def _last_line(reason: str | None) -> str:
    """Return the last line of what went wrong: of a traceback it is the error."""
    text = reason or ""
    if wrapped := _WRAPPED.fullmatch(text):
        text = wrapped["text"]
        if not wrapped["kind"].startswith(f"{ReglError.__module__}."):
            text = f"{wrapped['kind'].rpartition('.')[2]}: {text}".rstrip(": ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return one_line(lines[-1], _MOST_REASON) if lines else "no reason given"
