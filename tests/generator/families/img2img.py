"""What a checkpoint draws from pictures, held against its own image-to-image pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.seeding import torch_generator
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import sample


def check_img2img(
    pipeline: Any,
    foundation: Foundation,
    config: GeneratorConfig,
    labels: Sequence[int],
    indices: Sequence[int],
    **told: int,
) -> None:
    """Assert that ours are ``pipeline``'s images, and others than without pictures."""
    starts = torch.randn((len(labels), *foundation.latent_shape), generator=torch_generator(0))
    pipeline.set_progress_bar_config(disable=True)
    # Whose first numbers are the noise of an image.
    noise = [torch_generator(7, *which) for which in zip(labels, indices, strict=True)]
    expected = pipeline(
        [foundation.prompts[label] for label in labels],
        image=starts,
        strength=config.image_strength,
        num_inference_steps=config.steps,
        guidance_scale=config.guidance,
        output_type="pt",
        generator=noise,
        **told,
    ).images
    images = sample(foundation, labels, indices, config, stream=7, starts=starts)
    assert ((expected * 255) - images).abs().max() <= 1.0
    assert not torch.equal(images, sample(foundation, labels, indices, config, stream=7))
