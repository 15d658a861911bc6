"""Step 1 of a client's round: make what is planned, or take what the server made."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from client_app.node import Node
from client_app.state import ClientState, Memory
from regl_app.core.errors import GeneratorError, ProtocolError
from regl_app.core.files import atomic_path
from regl_app.core.formats import format_seconds
from regl_app.core.log import LOGGER
from regl_app.core.types import Counts, Fact, Floats, Weights
from regl_app.data.images import ImageSet
from regl_app.flower.messages.train import TrainRequest
from regl_app.generator.checkpoint import resolve_generator
from regl_app.runs.samples import PER_CLASS, save_samples
from regl_app.supplement.adapter_state import AdapterState
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.make_supplement import Supplement as Made
from regl_app.supplement.make_supplement import make_supplement as make
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.payload import Payload, PoolReference, unpack
from regl_app.supplement.plan import client_quotas, measured_quotas
from regl_app.supplement.synthesizer import Synthesizer

_logger = logging.getLogger(LOGGER)


@dataclass(frozen=True)
class Supplement:
    """A client's synthetic images, the quotas ``(C,)`` they fill, and the shared probe set.

    ``preferred`` names the preference-tuned adapter that later rounds go on with, '' if none;
    ``tuned`` counts the rounds that tuned it; ``adapter`` is the digest of one the server sent.
    """

    images: ImageSet
    quotas: Counts
    probe: ImageSet | None = None
    preferred: str = ""
    tuned: int = 0
    adapter: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)


def make_supplement(node: Node, request: TrainRequest, weights: Weights) -> Supplement:
    """Return the images planned for this round: by the server if it sent quotas, else by rule.

    Adapter and images are cached by content, so later rounds only add what is new. Where models
    are compared, it is the global one, ``weights``, with what this client trained last; in its
    first round a client has nothing to compare and takes the first images of a sequence. Where the
    server makes the supplement, what it sent is all there is.
    """
    config, real = node.config, node.data.train
    if not config.generates_at_client:
        return _received(node, request)
    memory = _memory(node, request, weights)
    quotas = _quotas(node, request, memory)
    synthesizer = node.synthesizer()
    made = make(
        config,
        synthesizer,
        node.name,
        quotas,
        real,
        _judges(node, weights, memory),
        AdapterState(memory.preferred, memory.tuned),
    )
    started = time.perf_counter()
    probe = synthesizer.probe()
    seconds = {**made.seconds, "probe_images": time.perf_counter() - started}
    if request.round == 1:
        _report(node, made)
        if config.share_diagnostics:
            _leave_samples(node, Path(request.run_dir), synthesizer, made.client_generator, probe)
    return Supplement(
        images=made.images,
        quotas=quotas,
        probe=probe,
        preferred=made.adapter_state.preferred,
        tuned=made.adapter_state.tuned,
        seconds=seconds,
        facts=made.facts,
    )


def own_pool(node: Node) -> str:
    """Return the digest of the shared pool that this client could make; '' without a generator."""
    if node.config.supplement.site != "download" or node.config.supplement.transport != "seeds":
        return ""
    try:
        # Only to say that it has it, no client fetches a checkpoint.
        resolve_generator(node.config.generator.path, fetch=False)
        return node.synthesizer().pool_digest
    except GeneratorError as error:
        _logger.info("%s: images have to be sent: %s", node.settings.name, error)
        return ""


def _received(node: Node, request: TrainRequest) -> Supplement:
    """Return what came with the request, if anything did."""
    shape, payload = node.data.train.shape, request.payload
    if payload is None:
        return Supplement(ImageSet.empty(shape), np.zeros_like(node.real_counts))
    started = time.perf_counter()
    made = None if payload.reference is None else _made_again(node, payload, payload.reference)
    images = unpack(payload, shape, made)
    facts: dict[str, Fact] = {"received": len(images), "by_reference": made is not None}
    return Supplement(
        images,
        images.counts(node.num_classes),
        adapter=payload.reference.adapter if payload.reference else "",
        seconds={"receive": time.perf_counter() - started},
        facts=facts,
    )


def _made_again(node: Node, payload: Payload, reference: PoolReference) -> ImageSet:
    """Return what this client's generator makes of a reference."""
    synthesizer = node.synthesizer()
    if reference.pool != synthesizer.pool_digest:
        raise ProtocolError(
            f"payload-pool must be {synthesizer.pool_digest!r}, got {reference.pool!r} "
            "(the generators differ: set supplement.transport='images')"
        )
    if reference.sequence is None:
        return synthesizer.pool(ClientGenerator.frozen(node.name)).images
    most = max(node.config.supplement.cap, node.config.pool.per_class)
    if reference.sequence.max() > most:
        raise ProtocolError(
            f"payload-sequence must be at most {most} images of a class "
            f"(supplement.cap, pool.per-class), got {reference.sequence.max()}"
        )
    adaptation: ClientGenerator | None = ClientGenerator.frozen(node.name)
    if reference.adapter:
        adaptation = synthesizer.received(node.name, reference.adapter, payload.adapter_file)
    if adaptation is None:
        raise ProtocolError(
            f"payload-adapter {reference.adapter!r} is no longer in this client's cache; the "
            "server sends it again in the next round"
        )
    nothing = ImageSet.empty(node.data.train.shape)
    return synthesizer.generate(reference.sequence, adaptation, nothing).images


def remember(
    node: Node,
    request: TrainRequest,
    local: Weights,
    supplement: Supplement,
    discrepancy: Floats | None,
) -> None:
    """Keep what the next round needs: the local model to compare, its own plan if it makes one."""
    if not _remembers(node):
        return
    state = ClientState.of(node, request.run)
    if request.round == node.config.rounds:
        state.finish()
        return
    compared, planned = node.config.compares_models, node.config.plans_at_client
    state.save(
        Memory(
            request.round,
            local if compared else {},
            supplement.preferred,
            supplement.tuned,
            supplement.quotas if planned else None,
            discrepancy if planned else None,
        )
    )


def _remembers(node: Node) -> bool:
    return node.config.compares_models or node.config.plans_at_client


def _memory(node: Node, request: TrainRequest, weights: Weights) -> Memory:
    if not _remembers(node):
        return Memory()
    memory = ClientState.of(node, request.run).before(request.round, weights)
    if request.round > 1 and memory.round == 0:
        _logger.warning(
            "%s: nothing of an earlier round is kept here, so round %d goes as a first one",
            node.settings.name,
            request.round,
        )
    return memory


def _quotas(node: Node, request: TrainRequest, memory: Memory) -> Counts:
    if request.quotas is not None:
        return request.quotas
    if memory.held is not None and memory.discrepancy is not None:
        images = len(node.data.train)
        return measured_quotas(
            node.config,
            memory.held,
            memory.discrepancy,
            images,
            request.round,
            measured_round=memory.round,
        )
    return client_quotas(node.config, node.real_counts, request.round)


def _judges(node: Node, weights: Weights, memory: Memory) -> ModelPair | None:
    if not memory.weights:
        return None
    return ModelPair(node.model(weights), node.model(memory.weights), node.device)


def _report(node: Node, supplied: Made) -> None:
    adaptation, made = supplied.client_generator, supplied.candidates
    if adaptation.path is None:
        adapter = "frozen generator"
    elif adaptation.cached:
        adapter = "adapter from the cache"
    else:
        adapter = f"adapter {adaptation.steps} steps in {format_seconds(adaptation.seconds)}"
    used = len(supplied.images)
    source = f"{made.reused} of them stored" if made.reused else format_seconds(made.seconds)
    candidates = "" if used == len(made.images) else f" of {len(made.images)} candidates"
    real = len(node.data.train)
    _logger.info(
        "%s: %d real image%s, %s, %d synthetic images%s (%s)",
        node.settings.name,
        real,
        "" if real == 1 else "s",
        adapter,
        used,
        candidates,
        source,
    )


def _leave_samples(
    node: Node,
    run_dir: Path,
    synthesizer: Synthesizer,
    adaptation: ClientGenerator,
    probe: ImageSet,
) -> None:
    """Write a few pictures and the adapter into the run folder, if it is on this machine."""
    if not node.settings.roots.holds(run_dir) or not (run_dir / "config.json").is_file():
        return
    # A prefix of the client's own sequence: later rounds reuse what is made here.
    few = np.full(node.num_classes, PER_CLASS, dtype=np.int64)
    adapted = adaptation.path is not None
    save_samples(
        run_dir,
        node.partition_id,
        real=node.data.train,
        frozen=probe,
        adapted=synthesizer.generate(few, adaptation, node.data.train).images if adapted else None,
        class_names=node.source.class_names,
    )
    if adaptation.path is not None:
        with atomic_path(run_dir / "adapters" / f"client-{node.partition_id:02d}") as temporary:
            shutil.copytree(adaptation.path, temporary)
