"""One client's supplement of one round, wherever it is made: adapt, generate, select."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from regl_app.core.activity import phase
from regl_app.core.types import Counts, Fact
from regl_app.data.images import ImageSet
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.generated import GeneratedImages
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.selection import Labels, first, reward, select
from regl_app.supplement.synthesizer import Synthesizer


@dataclass(frozen=True)
class Supply:
    """The images that fill a client's quotas, how they were made and what that cost.

    ``places`` (M,) say where the images are in the shared pool or, if ``made.sequence`` is set, in
    the client's own sequences; None where nobody else can make them again.
    ``preferred`` names the preference-tuned adapter that later rounds go on with, '' if none;
    ``tuned`` says whether it was tuned now.
    """

    images: ImageSet
    adaptation: ClientGenerator
    made: GeneratedImages
    places: Labels | None = None
    preferred: str = ""
    tuned: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)


def supply(
    synthesizer: Synthesizer,
    client_name: str,
    quotas: Counts,
    real: ImageSet,
    judges: ModelPair | None,
    *,
    preferred: str = "",
    tuning: bool = False,
) -> Supply:
    """Return the images of ``quotas`` (C,) that client ``client_name`` is to be given.

    Args:
        synthesizer: the door to the generator.
        client_name: whose random streams are used.
        quotas: images per class, ``(C,)``.
        real: the client's own images; empty where it is not the client who makes them.
        judges: global and local model; None before there is a local one: then images are taken as
            they come.
        preferred: the adapter that an earlier round preferred, '' if none.
        tuning: whether preferences are tuned, if they can be: there are models to compare.
    """
    config, tuned = synthesizer.config, False
    started = time.perf_counter()
    phase("adapt")
    adaptation = synthesizer.adapt(client_name, real)
    kind = config.supplement.adapter
    if judges is not None and kind == "guidance":
        adaptation = ClientGenerator.frozen(client_name, judges)
    elif judges is not None and kind == "dpo":
        if tuning:
            adaptation = synthesizer.prefer(adaptation, judges)
            preferred, tuned = adaptation.path.name if adaptation.path else "", True
        else:
            adaptation = synthesizer.preferred(client_name, preferred) or adaptation
    seconds = {"adapt": time.perf_counter() - started}
    selecting = config.supplement.selection != "none"
    make = synthesizer.candidates if selecting else synthesizer.generate
    phase("generate")
    made = make(quotas, adaptation, real)
    seconds["generate"] = made.seconds
    started = time.perf_counter()
    images, facts = made.images, _facts(adaptation, made)
    places = made.places
    if places is None and made.sequence is not None:
        places = np.arange(len(images))
    if selecting:
        phase("select")
        chosen, found = _choose(synthesizer, made, quotas, judges)
        images = images.subset(chosen)
        places = None if places is None else places[chosen]
        seconds["select"] = time.perf_counter() - started
        facts |= found
    return Supply(images, adaptation, made, places, preferred, tuned, seconds, facts)


def _choose(
    synthesizer: Synthesizer, made: GeneratedImages, quotas: Counts, judges: ModelPair | None
) -> tuple[Labels, dict[str, Fact]]:
    """Return where the quotas' images are among the candidates, and how the choice went."""
    keys = synthesizer.config.supplement
    facts: dict[str, Fact] = {"candidates": len(made.images)}
    if judges is None or len(made.images) == 0:
        return first(made.images.labels.numpy(), quotas), facts
    predictions = (
        judges.predictions(made.images)
        if made.places is None
        else judges.of_pool(made.images, made.places)
    )
    chosen = select(predictions, quotas, disagreement=keys.disagreement, filtered=keys.filter)
    facts["discrepant"] = chosen.discrepant
    rewards = reward(predictions, keys.disagreement)
    if len(chosen.indices):
        facts["reward"] = float(rewards[chosen.indices].mean())
        facts["reward_of_candidates"] = float(rewards.mean())
    return chosen.indices, facts


def _facts(adaptation: ClientGenerator, made: GeneratedImages) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "adapted": adaptation.path is not None,
        "adapter_steps": adaptation.steps,
        "adapter_cached": adaptation.cached,
        "generated": made.generated,
        "reused": made.reused,
    }
    if adaptation.loss is not None:
        facts["adapter_loss"] = adaptation.loss
    return facts | {f"adapter_{name}": value for name, value in adaptation.facts.items()}
