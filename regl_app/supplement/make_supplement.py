"""One client's supplement of one round, wherever it is made: adapt, generate, select."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from regl_app.config import RunConfig
from regl_app.config.choices import ADAPTERS
from regl_app.config.supplement_sections import SupplementConfig
from regl_app.core.activity import Span, phase
from regl_app.core.log import logger
from regl_app.core.types import Counts, Fact, Indices
from regl_app.data.images import ImageSet
from regl_app.supplement.adapter_state import AdapterState
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.generated import GeneratedImages
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.selection import first, reward, select
from regl_app.supplement.spectrum import with_spectrum
from regl_app.supplement.synthesizer import Synthesizer


@dataclass(frozen=True)
class Supplement:
    """The images that fill a client's quotas, how they were made and what that cost.

    As ``supplement.match`` has them, where they are made by who has the client's own.
    ``candidates`` are what they were chosen from: the same images, if nothing selects.
    ``adapter_state`` is what later rounds go on with. ``indices`` (M,) say where the images are in
    the shared pool or, if ``candidates.sequence`` is set, in the client's own sequences; None where
    nobody else can make them again.
    """

    images: ImageSet
    client_generator: ClientGenerator
    candidates: GeneratedImages
    adapter_state: AdapterState
    indices: Indices | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)


def make_supplement(
    config: RunConfig,
    synthesizer: Synthesizer,
    client_name: str,
    quotas: Counts,
    real: ImageSet,
    pair: ModelPair | None,
    adapter_state: AdapterState,
    shared: ClientGenerator | None = None,
) -> Supplement:
    """Return the supplement of client ``client_name``: images that fill ``quotas`` (C,).

    Args:
        config: the run, whose supplement keys and ``dpo.rounds`` matter here.
        synthesizer: the door to the generator.
        client_name: whose random streams are used.
        quotas: images per class, ``(C,)``.
        real: the client's own images; empty where it is not the client who makes them.
        pair: global and local model; None before there is a local one: then images are taken as
            they come.
        adapter_state: what earlier rounds left.
        shared: the generator with the adapter of all clients, where they have one.
    """
    started = Span()
    phase("adapt")
    client_generator = shared or synthesizer.adapt(client_name, real)
    client_generator, adapter_state = _adapt(
        config, synthesizer, client_generator, pair, adapter_state
    )
    seconds = {"adapt": started.seconds}
    selects = config.supplement.selects
    generate = synthesizer.candidates if selects else synthesizer.generate
    phase("generate")
    candidates = generate(quotas, client_generator, real)
    seconds["generate"] = candidates.seconds
    started = Span()
    images, facts = candidates.images, _facts(client_generator, candidates)
    indices = candidates.indices
    if indices is None and candidates.sequence is not None:
        indices = np.arange(len(images))
    if selects:
        phase("select")
        chosen, selection_facts = _select(config.supplement, candidates, quotas, pair)
        images = images.subset(chosen)
        indices = None if indices is None else indices[chosen]
        seconds["select"] = started.seconds
        facts |= selection_facts
    if config.matches_images and len(real):
        started = Span()
        images = with_spectrum(images, real)
        seconds["match"] = started.seconds
    return Supplement(images, client_generator, candidates, adapter_state, indices, seconds, facts)


def _adapt(
    config: RunConfig,
    synthesizer: Synthesizer,
    client_generator: ClientGenerator,
    pair: ModelPair | None,
    state: AdapterState,
) -> tuple[ClientGenerator, AdapterState]:
    """Return ``client_generator`` as of this round, and what the next one goes on with.

    Preferences are tuned in the first ``dpo.rounds`` rounds in which there are models to compare,
    and again where the cache has lost what came of it.
    """
    adapter = ADAPTERS[config.supplement.adapter]
    if pair is None or not adapter.compares_models:
        return client_generator, state
    if not adapter.uses_pool:  # steered in the sampler
        return ClientGenerator.frozen(client_generator.client, pair), state
    tuned = state.tuned
    if tuned >= config.dpo.rounds:
        if not state.preferred:  # frozen, as tuning ruined it
            return client_generator, state
        preferred = synthesizer.preferred(client_generator.client, state.preferred)
        if preferred is not None:
            return preferred, state
        logger.warning(
            "%s: its preference-tuned adapter %s is lost (cache-dir or state-dir cleared, its file "
            "damaged, or cache-limit=%g GB too low): it is tuned again by this round's models, so "
            "the run goes on with another one",
            client_generator.client,
            state.preferred,
            config.cache_limit,
        )
        tuned -= 1
    client_generator = synthesizer.prefer(client_generator, pair)
    name = client_generator.path.name if client_generator.path else ""
    return client_generator, AdapterState(name, tuned + 1)


def _select(
    keys: SupplementConfig,
    candidates: GeneratedImages,
    quotas: Counts,
    pair: ModelPair | None,
) -> tuple[Indices, dict[str, Fact]]:
    """Return where the quotas' images are among the candidates, and how the choice went."""
    facts: dict[str, Fact] = {"candidates": len(candidates.images)}
    if pair is None or len(candidates.images) == 0:
        return first(candidates.images.labels.numpy(), quotas), facts
    predictions = (
        pair.predictions(candidates.images)
        if candidates.indices is None
        else pair.of_pool(candidates.images, candidates.indices)
    )
    chosen = select(predictions, quotas, disagreement=keys.disagreement, filtered=keys.filter)
    facts["discrepant"] = chosen.discrepant
    rewards = reward(predictions, keys.disagreement)
    if len(chosen.indices):
        facts["reward"] = float(rewards[chosen.indices].mean())
        facts["reward_of_candidates"] = float(rewards.mean())
    return chosen.indices, facts


def _facts(client_generator: ClientGenerator, candidates: GeneratedImages) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "adapted": client_generator.path is not None,
        "adapter_steps": client_generator.steps,
        "adapter_cached": client_generator.cached,
        "generated": candidates.generated,
        "reused": candidates.reused,
    }
    if client_generator.loss is not None:
        facts["adapter_loss"] = client_generator.loss
    return facts | {f"adapter_{name}": value for name, value in client_generator.facts.items()}
