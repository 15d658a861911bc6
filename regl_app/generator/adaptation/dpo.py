"""Preference optimization of a client's adapter (FedDPD, after Diffusion-DPO, Wallace et al. 2023).

The reference model is the same denoiser with the new layers switched off: whatever was merged
before, the client's LoRA or nothing, is where preference tuning starts from and is pulled back to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812  # the community's name for it

from regl_app.config.supplement_sections import DpoConfig, LoraConfig
from regl_app.core.activity import Span
from regl_app.core.errors import GeneratorError
from regl_app.core.seeding import torch_generator
from regl_app.core.transfer import to_device
from regl_app.core.types import StepProgress, Tensors
from regl_app.generator.adaptation.fit import fit_layers, gradient_scaler, refuse_divergence
from regl_app.generator.adaptation.layers import (
    lora_layers,
    lora_state,
    without_lora,
    wrapped_layers,
)
from regl_app.generator.adaptation.micro_batches import BatchLoss, MicroBatches
from regl_app.generator.foundation import Foundation
from regl_app.generator.noise_schedule import NoiseProcess


def dpo_loss(
    errors: torch.Tensor, reference_errors: torch.Tensor, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the Diffusion-DPO loss and the implicit reward margin, each ``(N,)``.

    With l the mean squared error of the prediction (Wallace et al. 2023, eq. 14)::

        margin = -0.5 * beta * [(l_w - l_l)_theta - (l_w - l_l)_ref];  loss = -log sigmoid(margin)

    Args:
        errors: of the tuned model: winners' and losers' l, ``(2, N)``.
        reference_errors: of the reference model, ``(2, N)``.
        beta: strength of the pull back to the reference.
    """
    gained = (errors - reference_errors)[0] - (errors - reference_errors)[1]
    margin = -0.5 * beta * gained
    return -F.logsigmoid(margin), margin


@dataclass(frozen=True)
class PreferenceTuned:
    """LoRA weights on top of what was merged, and how the tuning went.

    ``margins`` is the implicit reward margin of every step, averaged over its batch; it starts at
    zero and grows as the model comes to prefer the winners.
    """

    state: Tensors
    steps: int
    loss: float
    margins: tuple[float, ...]
    seconds: float


def tune_dpo(
    foundation: Foundation,
    latents: torch.Tensor,
    rows: torch.Tensor,
    pairs: torch.Tensor,
    config: DpoConfig,
    lora: LoraConfig,
    *,
    seed: int,
    progress: StepProgress | None = None,
) -> PreferenceTuned:
    """Tune new LoRA layers to make winners likelier than losers, and return them.

    Winner and loser of a pair get the same timestep and the same noise, and go through the model
    in one batch; the pool's latents are those kept from sampling, so nothing is encoded again.

    Args:
        foundation: the model, with the adapter to start from merged, if any.
        latents: the pool's scaled latents, ``(N, c, h, w)``.
        rows: of the prompts that the pool was drawn by, ``(N,)``.
        pairs: places of winners and losers in the pool, ``(2, M)``.
        config: strength, steps, learning rate.
        lora: rank, scale and layers of the update.
        seed: of initial weights, batches, timesteps and noise.
        progress: called with (steps done, steps).

    Raises:
        GeneratorError: there is no pair, the loss is not finite, or the device's memory does not
            hold one pair.
    """
    if pairs.shape[1] == 0:
        raise GeneratorError("preference tuning needs at least one pair, got none")
    began = Span()
    process = foundation.noise_process()
    random = torch_generator(seed, "dpo")
    margins: list[torch.Tensor] = []

    def draw() -> BatchLoss:
        chosen = torch.randint(pairs.shape[1], (config.batch_size,), generator=random)
        batch = PreferenceBatch.draw(
            latents, rows, pairs[:, chosen], process, random, foundation.device
        )
        found = torch.zeros(config.batch_size, device=foundation.device)
        margins.append(found)

        def each(part: slice) -> torch.Tensor:
            some = batch.part(part)
            with torch.no_grad(), without_lora(layers):
                reference = some.errors(foundation)
            losses, margin = dpo_loss(some.errors(foundation), reference, config.beta)
            found[part] = margin.detach()
            return losses

        return BatchLoss(config.batch_size, each)

    with lora_layers(foundation, lora, seed) as parameters:
        layers = wrapped_layers(foundation.denoiser)
        losses = fit_layers(
            parameters,
            draw,
            MicroBatches(
                foundation, "preference tuning", "pair", f"dpo.batch-size={config.batch_size}"
            ),
            steps=config.steps,
            lr=config.lr,
            scaler=gradient_scaler(foundation),
            progress=progress,
        )
        last = float(losses[-1])
        refuse_divergence(
            "preference tuning", last, config.steps, "dpo.lr", config.lr, foundation.precision
        )
        state = lora_state(foundation, lora)
    seconds = began.seconds
    means = tuple(float(margin.mean()) for margin in margins)
    return PreferenceTuned(state, config.steps, last, means, seconds)


@dataclass(frozen=True)
class PreferenceBatch:
    """Winners, then losers: noisy latents ``(2 B, c, h, w)`` and what to predict."""

    noisy: torch.Tensor
    timesteps: torch.Tensor
    rows: torch.Tensor
    target: torch.Tensor

    @classmethod
    def draw(
        cls,
        latents: torch.Tensor,
        rows: torch.Tensor,
        pairs: torch.Tensor,
        process: NoiseProcess,
        random: torch.Generator,
        device: torch.device,
    ) -> Self:
        places, count = pairs.flatten(), pairs.shape[1]
        clean = to_device(latents[places], device)
        timesteps = to_device(process.timesteps(count, random), device).repeat(2)
        noise = torch.randn(clean[:count].shape, generator=random)
        noise = to_device(noise, device).repeat(2, 1, 1, 1)
        noisy, target = process.apply(clean, timesteps, noise)
        return cls(noisy, timesteps, to_device(rows[places], device), target)

    def part(self, pairs: slice) -> Self:
        """Return some of the pairs."""

        def some(values: torch.Tensor) -> torch.Tensor:
            winners, losers = values.chunk(2)
            return torch.cat([winners[pairs], losers[pairs]])

        return type(self)(
            some(self.noisy), some(self.timesteps), some(self.rows), some(self.target)
        )

    def errors(self, foundation: Foundation) -> torch.Tensor:
        """Return the mean squared error of each prediction, ``(2, B)``."""
        predicted = foundation.predict(self.noisy, self.timesteps, self.rows)
        return (predicted - self.target).square().mean((1, 2, 3)).view(2, -1)
