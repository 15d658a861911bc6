"""Image tokens: how a client's own pictures look, told to the denoiser beside the prompt.

ReGL conditions on text and image features. Here, as in Real-Fake (Yuan et al., ICLR 2024), image
features are projected to a few more text tokens, and the projection is tuned with the LoRA. Each
picture's features are taken relative to the mean of its class at the client: the prompt says which
class, the tokens how it looks. So the look of one class's pictures can be told for another class,
of which the client has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from regl_app.core.types import Tensors
from regl_app.generator.turns import classes_of, drawn_after, in_turns

PREFIX = "image_tokens."
"""Of the names of these tensors among an adapter's."""
FILE = "image_tokens.safetensors"
"""In an adapter's folder, beside the LoRA weights, which other programs read without it."""
_REACH = 4.0
"""Root mean square of looks: the longer they are, the further a step of tuning moves the tokens. A
client's few steps at the LoRA's rate must take them from zero to where text is."""


@dataclass(frozen=True)
class ImageTokens:
    """The projection of looks to tokens, and the looks of one client's pictures.

    Args:
        weight: ``(K * D, F)``, of K tokens of the text embeddings' width D.
        bias: ``(K, D)``: the tokens where no look is told.
        looks: features ``(M, F)`` relative to their class, of root mean square ``_REACH``.
        labels: the classes ``(M,)`` of the pictures that ``looks`` are of.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    looks: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def new(cls, features: torch.Tensor, labels: torch.Tensor, count: int, width: int) -> Self:
        """Return tokens of zeros, which tell nothing yet, for all pictures.

        Args:
            features: of the client's pictures, ``(N, F)``.
            labels: their classes, ``(N,)``.
            count: K, >= 1.
            width: D.
        """
        looks = features.float().clone()
        for label in classes_of(labels):
            looks[labels == label] -= looks[labels == label].mean(0)
        looks *= _REACH / looks.square().mean().sqrt().clamp_min(1e-6)
        weight = torch.zeros(count * width, looks.shape[1], device=looks.device)
        bias = torch.zeros(count, width, device=looks.device)
        parameters = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
        return cls(*parameters, looks, labels.to(looks.device))

    @classmethod
    def of(cls, adapter: Tensors) -> Self | None:
        """Return the tokens among the tensors of ``adapter``, if it has any."""
        if f"{PREFIX}weight" not in adapter:
            return None
        return cls(**{name: adapter[f"{PREFIX}{name}"] for name in cls.__annotations__})

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors as an adapter has them, on the CPU.

        With a few looks of each class, the classes in turn.
        """
        kept = in_turns(self.labels)
        tensors = {
            "weight": self.weight,
            "bias": self.bias,
            "looks": self.looks[kept],
            "labels": self.labels[kept],
        }
        return {
            f"{PREFIX}{name}": tensor.detach().cpu().contiguous().clone()
            for name, tensor in tensors.items()
        }

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        """Return what is tuned, of :meth:`new` tokens."""
        return [each for each in (self.weight, self.bias) if isinstance(each, torch.nn.Parameter)]

    def to(self, device: torch.device) -> ImageTokens:
        """Return the same on ``device``."""
        return ImageTokens(*(getattr(self, name).to(device) for name in self.__annotations__))

    def told(self, looks: torch.Tensor) -> torch.Tensor:
        """Return the tokens ``(N, K, D)`` of ``looks`` (N, F); zeros tell nothing."""
        return (looks @ self.weight.T).view(len(looks), *self.bias.shape) + self.bias

    def untold(self, count: int) -> torch.Tensor:
        """Return ``count`` times the tokens that tell no look, ``(count, K, D)``."""
        return self.bias.expand(count, *self.bias.shape)

    def of_images(self, labels: Sequence[int], indices: Sequence[int]) -> torch.Tensor:
        """Return tokens ``(N, K, D)`` for images to be drawn: of which look is each image's matter.

        A class that the client has takes the looks of its own pictures in turn; one that it lacks
        those of all its others.

        Args:
            labels: classes of the images, ``(N,)``.
            indices: place of each in its class's sequence, ``(N,)``.
        """
        chosen = drawn_after(self.labels, labels, indices)
        return self.told(self.looks[chosen])


def beside_text(told: Tensors, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the conditioning ``told`` of N images with ``tokens`` (N, K, D) after the text's."""
    joined = dict(told)
    joined["embeddings"] = torch.cat([told["embeddings"], tokens.to(told["embeddings"])], dim=1)
    if "mask" in told:
        heard = told["mask"].new_ones((len(tokens), tokens.shape[1]))
        joined["mask"] = torch.cat([told["mask"], heard], dim=1)
    return joined
