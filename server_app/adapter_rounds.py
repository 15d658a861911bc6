"""Before round 1: the clients tune one adapter for all, and the server averages it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from regl_app.config import RunConfig
from regl_app.config.paths import with_absolute_paths
from regl_app.core.errors import ProtocolError, RunError
from regl_app.core.formats import format_seconds, size
from regl_app.core.log import logger
from regl_app.core.types import Tensors
from regl_app.flower.messages.adapter import AdapterReply, AdapterRequest
from regl_app.flower.messages.content import most_bytes
from regl_app.flower.messages.handshake import Handshake
from regl_app.generator.adaptation.shared import up_template
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.fitting import fitted
from regl_app.rounds.shared_adapter import SharedTuning
from server_app.exchange import exchange
from server_app.replies import Replies, check_replies, listed

_TYPE = f"{MessageType.TRAIN}.adapter"


def tune_together(
    grid: Grid,
    config: RunConfig,
    handshake: Handshake,
    partitions: Mapping[int, int],
    left_out: Collection[int] = (),
) -> tuple[SharedTuning, list[Replies[AdapterReply]]]:
    """Let every client that is there tune, ``lora.rounds`` times, and average what comes back.

    Args:
        grid: asks every node but those left out, whatever ``server.fraction`` says.
        config: the run.
        handshake: code, configuration and number of clients.
        partitions: node id -> partition, as introduced.
        left_out: nodes that were refused at hello.

    Returns:
        What came of it, and each round's replies.

    Raises:
        RunError: fewer than ``server.min-replies`` answered.
        GeneratorError: the server has not the generator, by which it knows what to expect.
    """
    local = with_absolute_paths(config)
    template = up_template(resolve_generator(local.generator.path), fitted(local).lora)
    tuning, rounds, known = SharedTuning(), list[Replies[AdapterReply]](), dict(partitions)
    for number in range(1, config.lora.rounds + 1):
        content = AdapterRequest(number, tuning.up).to_content(handshake)
        nodes = sorted(set(grid.get_node_ids()).difference(left_out))
        requests = [Message(content, node_id, _TYPE) for node_id in nodes]
        replies = exchange(grid, requests, config.server)
        checked = check_replies(
            requests,
            replies,
            partial(_read, number=number, template=template, handshake=handshake),
            known,
            "adapter",
            most_bytes(0, template),
            lambda: set(grid.get_node_ids()),
        )
        if len(checked.replies) < config.server.min_replies:
            raise RunError(
                f"adapter round {number}: {len(checked.replies)} of {len(requests)} replies were "
                f"usable, the run needs server.min-replies={config.server.min_replies}"
                + listed(checked.failures)
            )
        tuning.add(checked.replies)
        rounds.append(checked)
        _tell(config, number, checked, template)
    if not tuning.up:
        logger.warning(
            "no client has lora.min-images=%d images to tune an adapter on: the generator stays "
            "frozen",
            config.lora.min_images,
        )
    return tuning, rounds


def _read(
    content: RecordDict, number: int, template: Tensors, handshake: Handshake
) -> AdapterReply:
    reply = AdapterReply.read(content, number=number, template=template)
    if reply.partition_id >= handshake.num_partitions:
        raise ProtocolError(
            f"partition-id must be < {handshake.num_partitions}, got {reply.partition_id}"
        )
    return reply


def _tell(
    config: RunConfig, number: int, checked: Replies[AdapterReply], template: Tensors
) -> None:
    parts = [reply for reply in checked.replies.values() if reply.up]
    longest = max((reply.seconds.get("adapt", 0.0) for reply in parts), default=0.0)
    logger.info(
        "adapter round %d/%d: %d of %d clients tuned it on %d images (%s each, the slowest in %s)",
        number,
        config.lora.rounds,
        len(parts),
        len(checked.replies),
        sum(reply.images for reply in parts),
        size(sum(value.numel() * value.element_size() for value in template.values())),
        format_seconds(longest),
    )
