"""What a client does with each kind of message: read it, do a part of the round, write the reply.

The round itself is in ``regl_app.rounds``: here messages are only translated.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from flwr.app import Context, RecordDict

from client_app.monitoring import Handler, monitored
from client_app.node import Node
from client_app.samples import leave_samples
from regl_app.core.log import is_deployed, logger
from regl_app.flower.messages.adapter import AdapterReply, AdapterRequest
from regl_app.flower.messages.content import arrays_of, read_request, run_of
from regl_app.flower.messages.evaluate import EvaluateReply
from regl_app.flower.messages.hello import ClientInfo
from regl_app.flower.messages.train import TrainReply, TrainRequest
from regl_app.flower.messages.weights import weights_from_record
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.compatibility import check_public_part, check_source
from regl_app.generator.readers import check_readers
from regl_app.rounds.client_round import evaluate_round, train_round
from regl_app.rounds.client_supplement import own_pool
from regl_app.rounds.disclosure import shared_counts
from regl_app.rounds.shared_adapter import tune_part
from regl_app.supplement.distance_features import check_distance


def hello(content: RecordDict, context: Context) -> RecordDict:
    """Introduce this client; refuse to take part in another code's or configuration's run."""
    node = Node.of(context, run_of(content))
    if is_deployed():
        logger.info("%s: %s", node.settings.name, node.limits)
    read_request(content, node.handshake)
    if node.config.uses_generator:
        check_distance(node.config.supplement.distance)
    if node.config.data.local:
        _announce_own(node)
    if node.config.generates_at_client:
        # What is absent or unfit fails now, not after data.
        check_source(node.config, node.source)
        check_public_part(resolve_generator(node.config.generator.path), node.config.data)
        check_readers(node.config)
    shared = shared_counts(node.config, node.client.real_counts)
    return ClientInfo(
        node.partition_id, node.num_partitions, shared, own_pool(node.client), node.alike
    ).to_content()


def tune(content: RecordDict, context: Context) -> RecordDict:
    """Do one round of tuning the adapter of all clients on the local images."""
    node = Node.of(context, run_of(content))
    request = AdapterRequest.read(content, node.handshake, node.adapter_template)
    return AdapterReply.of(tune_part(node.client, request)).to_content()


def train(content: RecordDict, context: Context) -> RecordDict:
    """Do one round: supplement the local data, train on it, measure what is still lacking."""
    node = Node.of(context, run_of(content))
    request = TrainRequest.read(
        content,
        node.handshake,
        node.num_classes,
        node.payload_limits,
        node.method_template,
        node.adapter_template,
    )
    weights = weights_from_record(arrays_of(content), node.template)
    samples = partial(leave_samples, node, Path(request.run_dir))
    result = train_round(node.client, request, weights, on_first=samples)
    return TrainReply.of(result).to_content()


def evaluate(content: RecordDict, context: Context) -> RecordDict:
    """Measure the global model on this client's own test set: personalization."""
    node = Node.of(context, run_of(content))
    server_round = read_request(content, node.handshake)
    weights = weights_from_record(arrays_of(content), node.template)
    result = evaluate_round(node.client, server_round, weights, run=run_of(content))
    return EvaluateReply.of(result).to_content()


HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {
        "query": monitored("hello", hello),
        "adapter": monitored("adapter", tune),
        "train": monitored("train", train),
        "evaluate": monitored("evaluate", evaluate),
    }
)
"""What a client does with a request's content, by the kind of message."""


def _announce_own(node: Node) -> None:
    """Log what this node's folder holds; it is read here first, so that it fails before a round."""
    client = node.client
    names = client.source.class_names
    held = [
        f"{name} {count}" for name, count in zip(names, client.real_counts, strict=True) if count
    ]
    logger.info(
        "%s: %d training and %d test images of %d of %d classes: %s",
        client.label,
        len(client.data.train),
        len(client.data.test),
        len(held),
        len(names),
        ", ".join(held),
    )
