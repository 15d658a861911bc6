"""Train text encoder and UNet of the bundled generator on cached latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regl_app.generator.noise_schedule import DiffusionProcess
from regl_app.generator.pretraining.optimizer import LossProgress, one_cycle_step, optimizer_for
from regl_app.generator.pretraining.tokenizer import MAX_TOKENS

NOISE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
}
_WIDTH = 64
_PROMPT_DROP = 0.1
_MIN_SNR = 5.0
_EMA_DECAY = 0.999


@dataclass(frozen=True)
class Denoiser:
    """The trained UNet and the text encoder it listens to, with averaged weights."""

    unet: Any
    text_encoder: Any


def train_denoiser(
    latents: torch.Tensor,
    labels: torch.Tensor,
    prompts: Sequence[Sequence[str]],
    tokenizer: Any,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    generator: torch.Generator,
    progress: LossProgress,
) -> Denoiser:
    """Return a ``UNet2DConditionModel`` and a ``CLIPTextModel``, trained together.

    v-prediction with min-SNR weights (Hang et al. 2023: ``min(SNR, 5) / (SNR + 1)``); every tenth
    prompt is empty, for classifier-free guidance; the result is an exponential moving average.

    Args:
        latents: scaled, ``(N, 4, 8, 8)``.
        labels: class of each latent, ``(N,)``.
        prompts: per class, the phrasings among which each sample draws.
        tokenizer: turns prompts into ids.
        steps: optimizer steps.
        batch_size: latents per step.
        lr: peak learning rate of the one-cycle schedule.
        generator: source of all randomness but the initial weights.
        progress: called after each step.
    """
    unet, text_encoder = _new_models(len(tokenizer), latents.shape[-1])
    batches = _Batches(latents, labels, prompts, tokenizer, batch_size, generator)
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    averaged = [parameter.detach().clone() for parameter in parameters]
    optimizer = optimizer_for(parameters, lr)
    for step in range(steps):
        noisy, timesteps, rows, target, weight = batches.draw()
        with torch.autocast("cpu", torch.bfloat16):
            states = text_encoder(batches.ids).last_hidden_state[rows]
            noisy = noisy.contiguous(memory_format=torch.channels_last)
            prediction = unet(noisy, timesteps, states).sample.float()
        loss = (weight * (prediction - target).square().mean((1, 2, 3))).mean()
        one_cycle_step(optimizer, loss, step, steps, lr)
        decay = min(_EMA_DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_(averaged, [p.detach() for p in parameters], 1 - decay)
        progress("denoiser", step + 1, steps, loss.item())
    with torch.no_grad():
        for parameter, mean in zip(parameters, averaged, strict=True):
            parameter.copy_(mean)
    return Denoiser(unet.eval(), text_encoder.eval())


class _Batches:
    """Noisy latents with a phrasing of their class each, or with the empty prompt."""

    def __init__(
        self,
        latents: torch.Tensor,
        labels: torch.Tensor,
        prompts: Sequence[Sequence[str]],
        tokenizer: Any,
        size: int,
        generator: torch.Generator,
    ) -> None:
        from diffusers import DDPMScheduler

        texts = [text for group in prompts for text in group] + [""]
        self.ids = tokenizer(
            texts, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt"
        ).input_ids
        scheduler = DDPMScheduler(**NOISE)
        self._process = DiffusionProcess.of(scheduler, torch.device("cpu"), _MIN_SNR)
        self._latents, self._labels, self._phrasings = latents, labels, len(prompts[0])
        self._size, self._generator = size, generator

    def draw(self) -> tuple[torch.Tensor, ...]:
        """Return noisy latents, timesteps, rows of ``ids``, targets and loss weights of a batch."""
        size, generator = self._size, self._generator
        chosen = torch.randint(len(self._latents), (size,), generator=generator)
        rows = self._labels[chosen] * self._phrasings
        rows = rows + torch.randint(self._phrasings, (size,), generator=generator)
        empty = torch.rand(size, generator=generator) < _PROMPT_DROP
        rows = torch.where(empty, len(self.ids) - 1, rows)
        steps = len(self._process.alphas_cumprod)
        timesteps = torch.randint(steps, (size,), generator=generator)
        clean = self._latents[chosen]
        noise = torch.randn(clean.shape, generator=generator)
        noisy, target = self._process.apply(clean, timesteps, noise)
        return noisy, timesteps, rows, target, self._process.weights(timesteps)


def _new_models(vocabulary: int, side: int) -> tuple[Any, Any]:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=_WIDTH,
            intermediate_size=2 * _WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=_WIDTH,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=side,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 64),
        # Attention only at the lower resolution: at the upper one it costs more than it gives.
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        # Groups of 16 channels: with fewer, PyTorch's bf16 channels_last kernel is not vectorized.
        norm_num_groups=4,
        attention_head_dim=1,  # the number of heads, despite its name
        cross_attention_dim=_WIDTH,
    )
    return unet.to(memory_format=torch.channels_last), text_encoder
