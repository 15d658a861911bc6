"""What a family of denoisers says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regl_app.core.types import Tensors
from regl_app.generator.families.settings import Settings

TIMESTEPS = 1000
"""Training timesteps of flow-matching checkpoints, whose denoisers may count from 0 to 1."""

Predict = Callable[[Any, torch.Tensor, torch.Tensor, Tensors], torch.Tensor]
"""(denoiser, latents (N, c, h, w), timesteps () or (N,), conditioning (N, ...)) -> (N, c, h, w)."""


@dataclass(frozen=True)
class Told:
    """What the denoiser is told beside the text.

    Args:
        image_size: side of the images, in pixels.
        guidance: scale, for a denoiser that was distilled to take it as an input.
        negative: which of the texts guidance leads away from; '' is the empty prompt.
        encoded_on: device of the text encoders.
    """

    image_size: int
    guidance: float
    negative: str = ""
    encoded_on: str = "cpu"


Encode = Callable[[Any, Sequence[str], Told], dict[str, torch.Tensor]]
"""(pipeline, N texts, what else is told) -> conditioning by name, ``(N, ...)`` each."""


def _latent_shape(denoiser: Any, side: int) -> tuple[int, int, int]:
    return int(denoiser.config.in_channels), side, side


def _one(_: Any) -> int:
    return 1


def _no(_: Any) -> bool:
    return False


def _as_the_pipeline(_: Any) -> None:
    return None


def _any_side(_: Any) -> None:
    return None


def _sample_size(pipeline: Any, part: str) -> Any:
    return getattr(pipeline, part).config.get("sample_size")


def shift_by_size(scheduler: Any, tokens: int, most: float = 1.16) -> float:
    """Return mu, by which dynamic shifting moves the noise levels of larger images up.

    A line through two lengths of the sequence (Esser et al. 2024, section 5.3.2, as diffusers has
    it); ``most`` is for a scheduler that does not say.
    """
    config = scheduler.config
    short, long = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", most)
    slope = (high - low) / (long - short)
    return float(tokens * slope + (low - slope * short))


def _steps(scheduler: Any, steps: int, tokens: int) -> dict[str, Any]:
    shifted = scheduler.config.get("use_dynamic_shifting")
    mu = {"mu": shift_by_size(scheduler, tokens)} if shifted else {}
    return {"num_inference_steps": steps, **mu}


@dataclass(frozen=True)
class Family:
    """What is special about one architecture.

    Args:
        part: the pipeline's attribute and folder of the denoiser, and the prefix of its layers in
            a LoRA file (as in diffusers' ``_lora_loadable_modules``).
        layers: per choice of ``lora.layers``, the ends of the names of the linear layers and
            convolutions that it means; 'all' means every group, also one that is no choice.
        encode: what the pipeline's text encoders make of prompts.
        predict: how the denoiser is called.
        latent_shape: ``(c, h, w)`` of a latent, of the denoiser and h.
        patch: latents are cut into squares of this side.
        most_side: of latents that the denoiser has places for; None: any.
        embeds_guidance: whether the denoiser takes the guidance scale as an input, so that it is
            called once a step and never without its prompt.
        text_tokens: how many the denoiser was trained to read, where that is fewer than its
            pipeline passes on unasked; None: as many.
        sample_size: side of a latent of the checkpoint's own, as its config has it, of the pipeline
            and ``part``.
        settings: what fits a checkpoint, of its denoiser's and its scheduler's configuration.
        solver: arguments of the scheduler's ``set_timesteps``, of the scheduler, the number of
            steps and how many squares a latent has.
    """

    part: str
    layers: Mapping[str, tuple[str, ...]]
    encode: Encode
    predict: Predict
    settings: Callable[[Mapping[str, Any], Mapping[str, Any]], Settings]
    latent_shape: Callable[[Any, int], tuple[int, int, int]] = _latent_shape
    patch: Callable[[Any], int] = _one
    most_side: Callable[[Any], int | None] = _any_side
    embeds_guidance: Callable[[Any], bool] = _no
    text_tokens: Callable[[Any], int | None] = _as_the_pipeline
    sample_size: Callable[[Any, str], Any] = _sample_size
    solver: Callable[[Any, int, int], dict[str, Any]] = _steps

    def layer_ends(self, choice: str) -> tuple[str, ...]:
        """Return the ends of the names of the layers that ``lora.layers`` = ``choice`` means."""
        chosen = self.layers if choice == "all" else (choice,)
        return tuple(end for group in chosen for end in self.layers[group])

    def adapted_layers(self, denoiser: Any, choice: str) -> list[str]:
        """Return the names of the denoiser's layers that ``lora.layers`` = ``choice`` means."""
        ends = self.layer_ends(choice)
        return [
            name
            for name, module in denoiser.named_modules()
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and name.endswith(ends)
        ]


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
TEXT_ATTENTION = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""Of the tokens of the text, where a joint transformer has a stream for them."""
TEXT_FEED_FORWARD = ("ff_context.net.0.proj", "ff_context.net.2")
"""Likewise. What a text means and no look: no choice but 'all' has them."""


def patch_size(denoiser: Any) -> int:
    """Return the side of the squares that a transformer's own configuration names."""
    return int(denoiser.config.patch_size)
