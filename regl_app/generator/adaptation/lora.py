"""The client's adapter: LoRA fine-tuned on the client's own images (ReGL, stage 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from regl_app.config.supplement_sections import LoraConfig
from regl_app.core.activity import Span
from regl_app.core.errors import GeneratorError
from regl_app.core.seeding import torch_generator
from regl_app.core.transfer import to_device
from regl_app.core.types import StepProgress, Tensors
from regl_app.data.images import ImageSet
from regl_app.data.pictures import Pictures
from regl_app.generator.adaptation.batches import TuningBatches
from regl_app.generator.adaptation.fit import fit_layers, gradient_scaler, refuse_divergence
from regl_app.generator.adaptation.layers import lora_layers, lora_state
from regl_app.generator.adaptation.micro_batches import BatchLoss, MicroBatches
from regl_app.generator.adaptation.shared import SharedStart
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_encoder import ImageEncoder
from regl_app.generator.image_features import image_features
from regl_app.generator.image_tokens import ImageTokens
from regl_app.generator.pool import Pool
from regl_app.generator.portions import AT_ONCE

_LOOK_DROP = 0.1
"""Share of a batch that is not told how it looks, so that both can be drawn."""


@dataclass(frozen=True)
class TunedAdapter:
    """LoRA weights as ``save_adapter`` takes them, scale included, and how the tuning went."""

    state: Tensors
    steps: int
    loss: float
    seconds: float
    facts: Mapping[str, float] = field(default_factory=dict)


def tune_lora(
    foundation: Foundation,
    real: ImageSet,
    config: LoraConfig,
    *,
    seed: int,
    pictures: Pictures | None = None,
    prior: Pool | None = None,
    start: SharedStart | None = None,
    encoded_at_once: int = AT_ONCE,
    image_encoder: ImageEncoder | None = None,
    progress: StepProgress | None = None,
) -> TunedAdapter:
    """Fine-tune an adapter on ``real`` and return it; the foundation stays bit for bit the same.

    The loss is the min-SNR weighted denoising error on the client's latents (encoded once) plus,
    for classes the client lacks, ``prior_weight`` times the same error on the frozen model's own
    images (prior preservation), so that their prompts keep their meaning.

    Args:
        foundation: the frozen model; no adapter may be merged.
        real: the client's images, at least one, any size, grey or RGB.
        config: rank, steps, learning rate, weights.
        seed: of initial weights, batches, timesteps and noise.
        pictures: those of ``real`` at the generator's own size; None: its images, enlarged.
        prior: the frozen model's latents of all classes; None: no preservation.
        start: what all clients start from, if one adapter is tuned for all: A stays as it is, and
            only B is tuned (FFA-LoRA); None: an adapter of the client's own.
        encoded_at_once: images of ``real`` that the VAE encodes at once, at most.
        image_encoder: what reads the pictures for image tokens; None: the checkpoint's own, if any.
        progress: called with (steps done, steps).

    Raises:
        GeneratorError: no images, the loss became infinite, or the device's memory does not hold
            one of them.
    """
    if len(real) == 0:
        raise GeneratorError("an adapter needs at least one real image, got none")
    began = Span()
    encoder = image_encoder or foundation.image_encoder
    batches = TuningBatches(
        foundation,
        real,
        config,
        prior,
        seed,
        encoded_at_once,
        pictures,
        every=bool(config.image_tokens) and encoder is None,
    )
    process = foundation.noise_process(config.min_snr)
    noise = torch_generator(seed, "lora", "noise")

    tokens, drop = None, torch_generator(seed, "lora", "looks")
    if config.image_tokens:
        shown = real.pixels if pictures is None else pictures
        features = image_features(foundation, shown, batches.latents, encoded_at_once, encoder)
        width = foundation.text.tensors["embeddings"].shape[-1]
        tokens = ImageTokens.new(features, real.labels, config.image_tokens, width)

    def draw() -> BatchLoss:
        latents, rows, weights, places = batches.draw()
        noisy, timesteps, target, snr_weight = process.draw(latents, noise)
        looks = None if tokens is None else _dropped(tokens.looks, places, drop)

        def each(part: slice) -> torch.Tensor:
            seen = None if tokens is None or looks is None else tokens.told(looks[part])
            predicted = foundation.predict(noisy[part], timesteps[part], rows[part], seen)
            error = predicted.sub(target[part]).square().mean((1, 2, 3))
            return error * snr_weight[part] * weights[part]

        return BatchLoss(len(rows), each)

    first, up = (seed, None) if start is None else (start.seed, start.up)
    with lora_layers(foundation, config, first, up=up) as parameters:
        losses = fit_layers(
            parameters if tokens is None else [*parameters, *tokens.trained],
            draw,
            MicroBatches(foundation, "tuning", "image", f"lora.batch-size={config.batch_size}"),
            steps=config.steps,
            lr=config.lr,
            scaler=gradient_scaler(foundation),
            progress=progress,
        )
        late = losses[config.steps // 2 :]
        mean = float(sum((loss.cpu() for loss in late), torch.zeros(())) / len(late))
        refuse_divergence("tuning", mean, config.steps, "lora.lr", config.lr, foundation.precision)
        state = lora_state(foundation, config)
    if tokens is not None:
        state |= tokens.state()
    return TunedAdapter(state, config.steps, mean, began.seconds)


def _dropped(looks: torch.Tensor, places: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Return the ``looks`` (N, F) at ``places`` (B,), zeros at -1 and where one is dropped."""
    told = to_device(torch.rand(len(places), generator=random) >= _LOOK_DROP, looks.device)
    kept = told & (places >= 0)
    chosen: torch.Tensor = looks[places] * kept.to(looks)[:, None]
    return chosen
