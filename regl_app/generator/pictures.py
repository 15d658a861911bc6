"""Pictures of a generator, for a notebook or a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from regl_app.config import RunConfig
from regl_app.core.devices import resolve_device
from regl_app.core.seeding import derive_seed
from regl_app.core.torch_defaults import plain_torch
from regl_app.data.prompt_table import run_source
from regl_app.generator.compatibility import check_source


@plain_torch()
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
    from regl_app.generator.fitting import fitted
    from regl_app.generator.foundation import shared_foundation
    from regl_app.generator.identity import checkpoint_digest
    from regl_app.generator.sampling import sample

    config = fitted(config)
    source = run_source(config)
    check_source(config, source)
    foundation = shared_foundation(
        config.generator,
        source.concepts,
        resolve_device(config.device),
        checkpoint_digest(config),
    )
    labels = [label for label in classes for _ in range(count)]
    indices = [index for _ in classes for index in range(count)]
    stream = derive_seed(config.seed, "grid")
    with foundation.adapter(adapter):
        images = sample(foundation, labels, indices, config.generator, stream=stream)
    return images.view(len(classes), count, *images.shape[1:])
