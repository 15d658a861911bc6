"""Rendered digits of printed fonts, in many geometric variations: what the generator learns from.

The variations are generic (slant, rotation, aspect, weight, mild warp, blur, contrast); none of
them is taken from handwriting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # PyTorch's own name for it
from PIL import Image, ImageDraw, ImageFont

from regl_app.data.concepts import DIGIT_WORDS

CONCEPTS = tuple(f"the digit {word}" for word in DIGIT_WORDS)

_CANVAS = 64
_HEIGHT = 46
_WIDTH = 50
_CHUNK = 500


@dataclass(frozen=True)
class GlyphBank:
    """Masters ``(fonts, 10, weights, 64, 64)`` float32 in [0, 1], white on black.

    The weights are regular, slightly bolder and bolder strokes.
    """

    masters: torch.Tensor

    @classmethod
    def render(cls, fonts: Sequence[Path]) -> GlyphBank:
        """Render every digit of every font at one height, centred."""
        regular = torch.stack(
            [torch.stack([_master(font, str(digit)) for digit in range(10)]) for font in fonts]
        )
        flat = regular.flatten(0, 1)[:, None]
        bold = F.max_pool2d(flat, 3, 1, 1)
        half = (flat + bold) / 2
        weights = torch.cat([flat, half, bold], dim=1)
        return cls(weights.reshape(len(fonts), 10, *weights.shape[1:]))

    def sample(
        self, count: int, generator: torch.Generator, size: int = 32
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return varied glyphs, uint8 ``(count, 3, size, size)``, and digits ``(count,)`` int64."""
        digits = torch.randint(10, (count,), generator=generator)
        parts = [
            self._vary(chunk, generator, size).mul(255).round().to(torch.uint8)
            for chunk in torch.split(digits, _CHUNK)
        ]
        return torch.cat(parts).expand(-1, 3, -1, -1).contiguous(), digits

    def _vary(self, digits: torch.Tensor, generator: torch.Generator, size: int) -> torch.Tensor:
        n = len(digits)

        def uniform(low: float, high: float) -> torch.Tensor:
            return torch.rand(n, generator=generator) * (high - low) + low

        font = torch.randint(len(self.masters), (n,), generator=generator)
        weight = torch.randint(self.masters.shape[2], (n,), generator=generator)
        images = self.masters[font, digits, weight][:, None]

        angle, slant = uniform(-0.22, 0.22), uniform(-0.35, 0.35)
        # Inverse scales: below 1 enlarges. Heights span 60 % to 100 % of the frame.
        wide, high = uniform(0.8, 1.5), uniform(0.76, 1.2)
        cos, sin = angle.cos(), angle.sin()
        affine = torch.stack(
            [
                torch.stack([cos * wide, -sin * high + slant, uniform(-0.1, 0.1)], 1),
                torch.stack([sin * wide, cos * high, uniform(-0.1, 0.1)], 1),
            ],
            1,
        )
        grid = F.affine_grid(affine, [n, 1, size, size], align_corners=False)
        warp = torch.randn(n, 2, 4, 4, generator=generator) * uniform(0, 0.07)[:, None, None, None]
        warp = F.interpolate(warp, (size, size), mode="bicubic", align_corners=True)
        images = F.grid_sample(images, grid + warp.permute(0, 2, 3, 1), align_corners=False)

        blur = uniform(0, 1)
        medium = F.interpolate(F.avg_pool2d(images, 2), size, mode="bilinear")
        coarse = F.interpolate(F.avg_pool2d(images, size // 8), size, mode="bilinear")
        images = torch.where(blur[:, None, None, None] > 0.5, medium, images)
        images = torch.where(blur[:, None, None, None] > 0.75, coarse, images)
        # Stretch to full contrast after the blur, then vary it.
        images = images / images.amax((1, 2, 3), keepdim=True).clamp(min=0.2)
        gamma, gain = uniform(0.7, 1.4), uniform(0.8, 1.3)
        return (images ** gamma[:, None, None, None] * gain[:, None, None, None]).clamp(0, 1)


def _master(font: Path, character: str) -> torch.Tensor:
    probe = ImageFont.truetype(str(font), 100)
    left, top, right, bottom = probe.getbbox(character)
    scale = min(_HEIGHT / max(bottom - top, 1), _WIDTH / max(right - left, 1))
    face = ImageFont.truetype(str(font), max(8, round(100 * scale)))
    left, top, right, bottom = face.getbbox(character)
    image = Image.new("L", (_CANVAS, _CANVAS), 0)
    origin = ((_CANVAS - right - left) / 2, (_CANVAS - bottom - top) / 2)
    ImageDraw.Draw(image).text(origin, character, font=face, fill=255)
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)
    # Sampling at half the masters' resolution needs a low-pass first.
    return F.avg_pool2d(F.pad(pixels[None, None], (1, 1, 1, 1)), 3, 1)[0, 0]
