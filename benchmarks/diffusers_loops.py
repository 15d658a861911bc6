"""The loops of diffusers' example scripts, in our words: what `benchmarks/gpu.py` is held against.

`train_text_to_image_lora.py` (and its `_sdxl` sister) and `train_diffusion_dpo.py` of diffusers'
examples, per optimizer step: pictures and prompts are encoded anew, the base weights are in half
precision with LoRA weights in float32 under autocast, the loss is read each step. Left out is what
reads files and writes logs, so that only the steps are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the community's name for it

from regl_app.config.supplement_sections import LoraConfig
from regl_app.data.images import to_float
from regl_app.generator.families.unet import UNET

_ENCODED_AT_ONCE = 8  # as the scripts for preferences have it


class _Loop:
    """What both scripts have in common: a pipeline with LoRA layers, an optimizer, encoders.

    Args:
        pipeline: whose denoiser is tuned; it is changed.
        lora: rank, scale, layers and batch size, as ours are tuned with.
        lr: learning rate.
        dtype: of the frozen weights, and of autocast.
    """

    def __init__(self, pipeline: Any, lora: LoraConfig, lr: float, dtype: torch.dtype) -> None:
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import cast_training_params
        from peft import LoraConfig as PeftConfig

        self.pipeline, self.dtype, self.device = pipeline, dtype, pipeline.device
        self.large = hasattr(pipeline, "text_encoder_2")
        self.noising = DDPMScheduler.from_config(pipeline.scheduler.config)
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False)
        if self.large:  # as the scripts do it for an XL: its VAE overflows in fp16
            pipeline.vae.to(torch.float32)
        pipeline.unet.add_adapter(
            PeftConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,
                init_lora_weights="gaussian",
                target_modules=UNET.adapted_layers(pipeline.unet, lora.layers),
            )
        )
        cast_training_params(pipeline.unet, dtype=torch.float32)
        self.parameters = [each for each in pipeline.unet.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr, weight_decay=1e-2)
        self.schedule = get_scheduler("constant", self.optimizer)
        self.random = torch.Generator().manual_seed(0)

    @property
    def tuned(self) -> int:
        """Return how many weights are tuned."""
        return sum(each.numel() for each in self.parameters)

    @torch.no_grad()
    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Return scaled latents of uint8 images ``(N, 3, H, W)``, each half the time mirrored."""
        mirrored = torch.rand(len(images), generator=self.random) < 0.5
        shown = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        vae = self.pipeline.vae
        pixels = to_float(shown).to(self.device, vae.dtype)
        parts = torch.split(pixels, _ENCODED_AT_ONCE)
        latents = torch.cat([vae.encode(part).latent_dist.sample() for part in parts])
        scaled: torch.Tensor = latents * vae.config.scaling_factor
        return scaled.to(self.dtype)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], times: int = 1) -> dict[str, Any]:
        """Return what the denoiser is told of all ``texts``, ``times`` over."""
        # By name: an XL's second argument is its second prompt.
        encoded = self.pipeline.encode_prompt(
            prompt=list(texts),
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        told: dict[str, Any] = {"encoder_hidden_states": encoded[0].repeat(times, 1, 1)}
        if self.large:
            side = self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor
            sizes = torch.tensor([[side, side, 0, 0, side, side]], dtype=self.dtype)
            told["added_cond_kwargs"] = {
                "text_embeds": encoded[2].repeat(times, 1),
                "time_ids": sizes.to(self.device).repeat(times * len(texts), 1),
            }
        return told

    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, told: dict[str, Any]
    ) -> torch.Tensor:
        """Return the denoiser's prediction in float32."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            output: torch.Tensor = self.pipeline.unet(noisy, timesteps, **told, return_dict=False)[
                0
            ]
        return output.float()

    def target(
        self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Return what the denoiser should predict."""
        if self.noising.config.prediction_type == "v_prediction":
            velocity: torch.Tensor = self.noising.get_velocity(latents, noise, timesteps)
            return velocity.float()
        return noise.float()

    def timesteps(self, count: int) -> torch.Tensor:
        """Return random timesteps of training, ``(count,)``."""
        steps = self.noising.config.num_train_timesteps
        return torch.randint(0, steps, (count,), device=self.device).long()

    def descend(self, loss: torch.Tensor) -> None:
        """Take a step of the optimizer."""
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()


class TextToImageLora(_Loop):
    """Steps of ``train_text_to_image_lora``."""

    def step(self, images: torch.Tensor, texts: Sequence[str]) -> float:
        """Tune on uint8 ``images`` (B, 3, H, W) of ``texts`` (B,); return the loss."""
        latents, told = self.encode_images(images), self.encode_texts(texts)
        noise = torch.randn_like(latents)
        timesteps = self.timesteps(len(latents))
        noisy = self.noising.add_noise(latents, noise, timesteps)
        target = self.target(latents, noise, timesteps)
        loss = F.mse_loss(self.predict(noisy, timesteps, told), target)
        told_loss = float(loss.detach().repeat(len(latents)).mean())
        self.descend(loss)
        return told_loss


class DiffusionDpo(_Loop):
    """Steps of ``train_diffusion_dpo``."""

    def step(
        self, winners: torch.Tensor, losers: torch.Tensor, texts: Sequence[str], beta: float
    ) -> float:
        """Tune on pairs of uint8 images, ``(B, 3, H, W)`` each, of ``texts`` (B,)."""
        latents = self.encode_images(torch.cat([winners, losers]))
        noise = torch.randn_like(latents).chunk(2)[0].repeat(2, 1, 1, 1)
        timesteps = self.timesteps(len(winners)).repeat(2)
        noisy = self.noising.add_noise(latents, noise, timesteps)
        told = self.encode_texts(texts, 2)
        target = self.target(latents, noise, timesteps)

        def gap() -> tuple[torch.Tensor, torch.Tensor]:
            errors = (self.predict(noisy, timesteps, told) - target).square().mean((1, 2, 3))
            won, lost = errors.chunk(2)
            return won - lost, errors.detach().mean()

        tuned, raw = gap()
        self.pipeline.unet.disable_adapters()
        with torch.no_grad():
            reference, raw_reference = gap()
        self.pipeline.unet.enable_adapters()
        inside = -0.5 * beta * (tuned - reference)
        loss = -F.logsigmoid(inside).mean()
        self.descend(loss)
        # As the script: it reads four figures a step, one after the other.
        accuracy = (inside > 0).float().mean()
        told_loss, *_ = map(float, (loss.detach(), raw, raw_reference, accuracy))
        return told_loss
