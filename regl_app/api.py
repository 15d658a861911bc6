"""Short ways for a notebook or script to get the library's parts ready for one configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from regl_app.config import RunConfig
from regl_app.config.paths import cache_dir
from regl_app.core.devices import resolve_device
from regl_app.core.seeding import derive_seed
from regl_app.data.federation import Federation
from regl_app.data.source import load_source
from regl_app.models.build import build_model
from regl_app.models.classifier import Classifier
from regl_app.supplement.synthesizer import Synthesizer


def make_model(config: RunConfig, federation: Federation) -> Classifier:
    """Return the untrained classifier that a run of ``config`` starts from."""
    channels, side, _ = federation.source.train.shape
    return build_model(config.model, federation.num_classes, channels, side, config.seed)


def make_synthesizer(
    config: RunConfig,
    federation: Federation,
    progress: Callable[[str, int, int], None] | None = None,
) -> Synthesizer:
    """Return what adapts the generator to a client and generates what the client lacks."""
    return Synthesizer(
        config,
        federation.source.concepts,
        federation.source.train.shape,
        seed=config.seed,
        device=resolve_device(config.device),
        cache_dir=cache_dir(config),
        progress=progress,
    )


def generate_images(
    config: RunConfig, classes: Sequence[int], count: int, *, adapter: Path | None = None
) -> torch.Tensor:
    """Return ``count`` generated images of each class, uint8 ``(len(classes), count, 3, H, W)``.

    Args:
        config: generator and data (whose classes are meant); the seed picks the images.
        classes: indices of the classes.
        count: images per class, >= 1.
        adapter: folder of LoRA weights, such as a run's ``adapters/client-03``; None: as shipped.

    Raises:
        GeneratorError: generator or adapter cannot be used.
    """
    from regl_app.generator.foundation import shared_foundation
    from regl_app.generator.sampling import sample

    concepts = load_source(config.data).concepts
    foundation = shared_foundation(config.generator, concepts, resolve_device(config.device))
    labels = [label for label in classes for _ in range(count)]
    indices = [index for _ in classes for index in range(count)]
    stream = derive_seed(config.seed, "grid")
    with foundation.adapter(adapter):
        images = sample(foundation, labels, indices, config.generator, stream=stream)
    return images.view(len(classes), count, *images.shape[1:])
