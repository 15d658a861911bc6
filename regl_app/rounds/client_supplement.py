"""Step 1 of a client's round: make what is planned, or take what the server made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from regl_app.config.choices import SITES
from regl_app.core.activity import Span
from regl_app.core.errors import GeneratorError, ProtocolError
from regl_app.core.formats import format_seconds
from regl_app.core.log import logger
from regl_app.core.types import Counts, Fact, Weights
from regl_app.data.images import ImageSet
from regl_app.generator.checkpoint import resolve_generator
from regl_app.rounds.client import Client
from regl_app.rounds.client_state import Memory
from regl_app.rounds.disclosure import shares_samples
from regl_app.rounds.exchange import RoundTask
from regl_app.supplement.adapter_state import AdapterState
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.make_supplement import Supplement, make_supplement
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.payload import Payload, PoolReference, unpack
from regl_app.supplement.plan import client_quotas, measured_quotas
from regl_app.supplement.spectrum import with_spectrum
from regl_app.supplement.synthesizer import Synthesizer


@dataclass(frozen=True)
class ClientSupplement:
    """A client's synthetic images, the quotas ``(C,)`` they fill, and the shared probe set.

    ``opinion`` ``(M, C)`` is what the class experts take the images for, where the server told.
    ``adapter_state`` is what later rounds go on with; ``adapter`` is the digest of one that the
    server sent, or of all clients'.
    """

    images: ImageSet
    quotas: Counts
    probe: ImageSet | None = None
    opinion: torch.Tensor | None = None
    adapter_state: AdapterState = field(default_factory=AdapterState)
    adapter: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)


OnFirst = Callable[[Synthesizer, Supplement, ImageSet], None]
"""Told of a client's supplement and the probe set, in its first round."""


def make_client_supplement(
    client: Client,
    task: RoundTask,
    weights: Weights,
    memory: Memory,
    *,
    on_first: OnFirst | None = None,
) -> ClientSupplement:
    """Return the images planned for this round: by the server if it sent quotas, else by rule.

    Adapter and images are cached by content, so later rounds only add what is new. Where models
    are compared, it is the global one, ``weights``, with what this client trained last; in its
    first round a client has nothing to compare and takes the first images of a sequence. Where the
    server makes the supplement, what it sent is all there is.
    """
    config, real = client.config, client.data.train
    if not config.generates_at_client:
        return _received(client, task)
    quotas = _quotas(client, task, memory)
    synthesizer, adapter = client.synthesizer, task.adapter
    made = make_supplement(
        config,
        synthesizer,
        client.name,
        quotas,
        real,
        _models(client, weights, memory),
        AdapterState(memory.preferred, memory.tuned),
        None if adapter is None else synthesizer.shared(client.name, adapter),
    )
    started = Span()
    probe = synthesizer.probe()
    seconds = {**made.seconds, "probe_images": started.seconds}
    if task.round == 1:
        _report(client, made)
        if on_first is not None and shares_samples(config):
            on_first(synthesizer, made, probe)
    return ClientSupplement(
        images=made.images,
        quotas=quotas,
        probe=probe,
        adapter_state=made.adapter_state,
        adapter="" if adapter is None else adapter.digest,
        seconds=seconds,
        facts=made.facts,
    )


def own_pool(client: Client) -> str:
    """Return the digest of the shared pool that this client could make; '' without a generator."""
    keys = client.config.supplement
    if not SITES[keys.site].sends_images or keys.transport != "seeds":
        return ""
    try:
        # Only to say that it has it, no client fetches a checkpoint.
        resolve_generator(client.config.generator.path, fetch=False)
        return client.synthesizer.pool_digest
    except GeneratorError as error:
        logger.info("%s: images have to be sent: %s", client.label, error)
        return ""


def _received(client: Client, task: RoundTask) -> ClientSupplement:
    """Return what came with the task, if anything did."""
    shape, payload = client.data.train.shape, task.payload
    if payload is None:
        return ClientSupplement(ImageSet.empty(shape), np.zeros_like(client.real_counts))
    started = Span()
    made = None if payload.reference is None else _made_again(client, payload, payload.reference)
    images = unpack(payload, shape, made)
    seconds = {"receive": started.seconds}
    if client.config.matches_images:
        started = Span()
        images = with_spectrum(images, client.data.train)
        seconds["match"] = started.seconds
    facts: dict[str, Fact] = {"received": len(images), "by_reference": made is not None}
    return ClientSupplement(
        images,
        images.counts(client.num_classes),
        opinion=payload.probabilities(client.num_classes),
        adapter=payload.reference.adapter if payload.reference else "",
        seconds=seconds,
        facts=facts,
    )


def _made_again(client: Client, payload: Payload, reference: PoolReference) -> ImageSet:
    """Return what this client's generator makes of a reference."""
    synthesizer = client.synthesizer
    if reference.pool != synthesizer.pool_digest:
        raise ProtocolError(
            f"payload-pool must be {synthesizer.pool_digest!r}, got {reference.pool!r} "
            "(the generators differ: set supplement.transport='images')"
        )
    if reference.sequence is None:
        return synthesizer.pool(ClientGenerator.frozen(client.name)).images
    config = synthesizer.config  # fitted to the checkpoint
    most = max(config.supplement.cap, config.pool.per_class)
    if reference.sequence.max() > most:
        raise ProtocolError(
            f"payload-sequence must be at most {most} images of a class "
            f"(supplement.cap, pool.per-class), got {reference.sequence.max()}"
        )
    client_generator: ClientGenerator | None = ClientGenerator.frozen(client.name)
    if reference.adapter:
        client_generator = synthesizer.received(
            client.name, reference.adapter, payload.adapter_file
        )
    if client_generator is None:
        raise ProtocolError(
            f"payload-adapter {reference.adapter!r} is no longer in this client's cache; the "
            "server sends it again in the next round"
        )
    nothing = ImageSet.empty(client.data.train.shape)
    return synthesizer.generate(reference.sequence, client_generator, nothing).images


def _quotas(client: Client, task: RoundTask, memory: Memory) -> Counts:
    if task.quotas is not None:
        return task.quotas
    if memory.held is not None and memory.discrepancy is not None:
        images = len(client.data.train)
        return measured_quotas(
            client.config,
            memory.held,
            memory.discrepancy,
            images,
            task.round,
            client.name,
            measured_round=memory.round,
        )
    return client_quotas(client.config, client.real_counts, task.round, client.name)


def _models(client: Client, weights: Weights, memory: Memory) -> ModelPair | None:
    if not memory.weights:
        return None
    return ModelPair(
        client.model(weights, memory.kept), client.model(memory.weights), client.device
    )


def _report(client: Client, made: Supplement) -> None:
    client_generator, candidates = made.client_generator, made.candidates
    if client_generator.path is None:
        adapter = "frozen generator"
    elif client.config.shares_adapter:
        adapter = "adapter of all clients"
    elif client_generator.cached:
        adapter = "adapter from the cache"
    else:
        adapter = (
            f"adapter {client_generator.steps} steps in {format_seconds(client_generator.seconds)}"
        )
    used = len(made.images)
    source = (
        f"{candidates.reused} of them stored"
        if candidates.reused
        else format_seconds(candidates.seconds)
    )
    made_of = len(candidates.images)
    chosen = "" if used == made_of else f" of {made_of} candidates"
    real = len(client.data.train)
    logger.info(
        "%s: %d real image%s, %s, %d synthetic images%s (%s)",
        client.label,
        real,
        "" if real == 1 else "s",
        adapter,
        used,
        chosen,
        source,
    )
