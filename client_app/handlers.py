"""One client's part in a round, in the order of the paper: supplement, train, probe, reply."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from flwr.app import Context, RecordDict

from client_app.monitoring import Handler, monitored
from client_app.node import Node
from client_app.supplement import Supplement, make_supplement, own_pool, remember
from regl_app.core.activity import note, phase
from regl_app.core.log import LOGGER
from regl_app.core.types import Floats
from regl_app.data.images import ImageSet
from regl_app.flower.messages.content import arrays_of, read_request
from regl_app.flower.messages.evaluate import EvaluateReply
from regl_app.flower.messages.hello import ClientInfo
from regl_app.flower.messages.train import TrainReply, TrainRequest
from regl_app.flower.messages.weights import weights_from_record
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.compatibility import check_public_part
from regl_app.learning.evaluation.confusion import confusion_counts
from regl_app.learning.evaluation.metrics import evaluate as evaluate_model
from regl_app.learning.evaluation.metrics import predict_log_probs, score
from regl_app.learning.methods.registry import make_objective
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.training.loop import train_local
from regl_app.supplement.discrepancy import class_discrepancy
from regl_app.supplement.privacy import is_released, privatize

_logger = logging.getLogger(LOGGER)


def hello(content: RecordDict, context: Context) -> RecordDict:
    """Introduce this client; refuse to take part in another code's or configuration's run."""
    node = Node.of(context)
    read_request(content, node.handshake)
    if node.config.data.source == "site":
        _announce_own(node)
    if node.config.generates_at_client:
        # What is absent or unfit fails now, not after data.
        check_public_part(resolve_generator(node.config.generator.path), node.config.data)
    shared = node.real_counts if node.config.share_diagnostics else None
    return ClientInfo(node.partition_id, node.num_partitions, shared, own_pool(node)).to_content()


def train(content: RecordDict, context: Context) -> RecordDict:
    """Do one round: supplement the local data, train on it, measure what is still lacking."""
    node = Node.of(context)
    request = TrainRequest.read(content, node.handshake, node.num_classes, node.payload_limits)
    weights = weights_from_record(arrays_of(content), node.model().state_dict())
    if len(node.data.train) == 0:
        return _nothing_to_train_on(node, request).to_content()

    # 1. Supplement: the planned synthetic images of the classes this client lacks.
    phase("supplement")
    supplement = make_supplement(node, request, weights)
    note(real_images=len(node.data.train), synthetic_images=len(supplement.images))

    # 2. Train the local model L_t from the global model G_{t-1} on real and synthetic images.
    phase("train")
    local = node.model(weights)
    trained = train_local(
        local,
        ImageSet.concat([node.data.train, supplement.images]),
        node.config,
        objective=make_objective(node.config),
        seed=node.seed("train", request.round),
        device=node.device,
    )

    # 3. Probe: where is the global model surer than the local one?
    phase("probe")
    started = time.perf_counter()
    discrepancy = _discrepancy(node, supplement, node.model(weights), local)
    own_test = evaluate_model(local, node.data.test, node.num_classes, node.device)

    remember(node, request, local.state_dict(), supplement, discrepancy)
    config = node.config
    planned_by_server = config.supplement.policy == "discrepancy" and config.generates_at_client
    tells_plan = planned_by_server and not config.plans_at_client and config.privacy.noise == 0
    diagnostics = config.share_diagnostics
    return TrainReply(
        partition_id=node.partition_id,
        round=request.round,
        num_examples=len(node.data.train) + len(supplement.images),
        real_images=len(node.data.train),
        loss=trained.loss,
        weights=local.state_dict(),
        discrepancy=_shared(node, request, discrepancy),
        held=supplement.quotas if tells_plan else None,
        real_counts=node.real_counts if diagnostics else None,
        synthetic_counts=supplement.images.counts(node.num_classes) if diagnostics else None,
        adapter=supplement.adapter,
        seconds={
            **supplement.seconds,
            "train": trained.seconds,
            "probe": time.perf_counter() - started,
        },
        facts={
            # How many candidates there were tells how many classes were wanted.
            **({} if config.hides_discrepancy else supplement.facts),
            "loss": trained.loss,
            **({"local_accuracy": own_test.accuracy} if own_test.images else {}),
        },
    ).to_content()


def evaluate(content: RecordDict, context: Context) -> RecordDict:
    """Measure the global model on this client's own test set: personalization."""
    node = Node.of(context)
    server_round = read_request(content, node.handshake)
    weights = weights_from_record(arrays_of(content), node.model().state_dict())
    test, confusion = node.data.test, None
    log_probs = predict_log_probs(node.model(weights), test.images, node.device)
    if len(test) == 0:
        return EvaluateReply(node.partition_id, server_round, 0).to_content()
    found = score(log_probs, test.labels, node.num_classes)
    if node.config.data.source == "site" and node.config.share_diagnostics:
        predicted = log_probs.argmax(dim=1).numpy()
        confusion = confusion_counts(test.labels.numpy(), predicted, node.num_classes)
    return EvaluateReply(
        node.partition_id,
        server_round,
        found.images,
        found.accuracy,
        found.macro_f1,
        found.loss,
        confusion,
    ).to_content()


HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {
        "query": monitored("hello", hello),
        "train": monitored("train", train),
        "evaluate": monitored("evaluate", evaluate),
    }
)
"""What a client does with a request's content, by the kind of message."""


def _announce_own(node: Node) -> None:
    """Log what this node's folder holds; it is read here first, so that it fails before a round."""
    names = node.source.class_names
    held = [f"{name} {count}" for name, count in zip(names, node.real_counts, strict=True) if count]
    _logger.info(
        "%s: %d training and %d test images of %d of %d classes: %s",
        node.settings.name,
        len(node.data.train),
        len(node.data.test),
        len(held),
        len(names),
        ", ".join(held),
    )


def _discrepancy(
    node: Node, supplement: Supplement, global_model: Classifier, local: Classifier
) -> Floats | None:
    """Return d_k, ``(C,)``: FedDPD's comparison of both models on the shared probe set."""
    if supplement.probe is None:
        return None
    return class_discrepancy(
        predict_log_probs(global_model, supplement.probe.images, node.device).numpy(),
        predict_log_probs(local, supplement.probe.images, node.device).numpy(),
        supplement.probe.labels.numpy(),
        node.num_classes,
    )


def _shared(node: Node, request: TrainRequest, discrepancy: Floats | None) -> Floats | None:
    """Return what the server learns of the discrepancy."""
    if discrepancy is None or not is_released(node.config, request.round):
        return None
    config = node.config.privacy
    # The run's seed is no secret: noise drawn from it hides nothing.
    random = np.random.default_rng(
        node.seed("privacy", request.round) if config.reproducible else secrets.randbits(128)
    )
    return privatize(discrepancy, config, random)


def _nothing_to_train_on(node: Node, request: TrainRequest) -> TrainReply:
    shared = node.real_counts if node.config.share_diagnostics else None
    return TrainReply(
        partition_id=node.partition_id,
        round=request.round,
        num_examples=0,
        real_images=0,
        loss=0.0,
        weights=None,
        real_counts=shared,
        synthetic_counts=shared,
    )
