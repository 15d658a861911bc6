"""The mean spectrum of a client's own images, put on what is drawn for it.

How bright, how smooth and how rich in contrast pictures are has no class, so it can be taken from
the classes that a client holds for those that it lacks. Nothing is tuned, and nothing leaves the
client. After the amplitudes that domain adaptation swaps (FDA, Yang and Soatto, CVPR 2020), here
their means by radius, as a filter that leaves every phase, so every shape, where it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch

from regl_app.data.images import ImageSet
from regl_app.data.pictures import Pictures, portions

MOST_GAIN = 4.0
"""No amplitude is changed by more than this factor, either way."""
_MEASURED = 1_000
_AT_ONCE = 128
_VALUES_AT_ONCE = 2**23
"""Of large pictures fewer: their spectra take eight bytes a value."""


def with_spectrum(images: ImageSet, real: ImageSet) -> ImageSet:
    """Return ``images`` with the mean power spectrum of ``real``, by channel and radius.

    ``F' = F * clip(sqrt(S_real(|f|) / S_images(|f|)), 1 / MOST_GAIN, MOST_GAIN)``, F the spectrum
    of an image whose black is 0, S the mean power over images and over the frequencies of a radius,
    in whole cycles per picture, 0 among them: the mean square of brightness is matched as well.
    That is before values are rounded and cut to 0..255, which bounds what dark pictures become.
    Labels stay. S is of these images: with others beside it, one of them comes out a little else.

    Args:
        images: synthetic, uint8 ``(N, C, H, W)``, of the shape of ``real``; none: they come back.
        real: uint8 ``(M, C, H, W)``; none: ``images`` come back. Of more than a thousand of either
            some are measured, evenly spaced.
    """
    if len(images) == 0 or len(real) == 0:
        return images
    radii = _radii(*images.shape[1:])
    wanted, found = _power(real, radii), _power(images, radii)
    gain = (wanted / found.clamp_min(1e-12)).sqrt().clamp(1 / MOST_GAIN, MOST_GAIN)[:, radii]

    def filtered(pixels: torch.Tensor) -> torch.Tensor:
        matched: torch.Tensor = torch.fft.irfft2(torch.fft.rfft2(pixels) * gain, s=images.shape[1:])
        return matched.mul(255).round().clamp(0, 255).to(torch.uint8)

    return ImageSet(torch.cat(list(_each(images.pixels, filtered))), images.labels)


def _radii(height: int, width: int) -> torch.Tensor:
    """Return the radius of each frequency of ``rfft2``, whole cycles per picture."""
    rows = torch.fft.fftfreq(height)[:, None] * height
    columns = torch.fft.rfftfreq(width)[None] * width
    radii: torch.Tensor = (rows.square() + columns.square()).sqrt().round().long()
    return radii


def _power(images: ImageSet, radii: torch.Tensor) -> torch.Tensor:
    """Return the mean power of each channel and radius, ``(C, radii)`` float32."""
    places = np.linspace(0, len(images) - 1, min(len(images), _MEASURED)).round().astype(np.int64)
    some = images.subset(places).pixels
    summed = sum(_each(some, lambda pixels: torch.fft.rfft2(pixels).abs().square().sum(dim=0)))
    assert isinstance(summed, torch.Tensor)
    # ``rfft2`` has one of two opposite frequencies, but both in column 0 and in that of Nyquist.
    width = images.shape[2]
    times = torch.full_like(radii, 2, dtype=torch.float32)
    times[:, 0] = 1
    if width % 2 == 0:
        times[:, -1] = 1
    flat, count = radii.flatten(), int(radii.max()) + 1
    mean = (summed / len(places) * times).flatten(1)
    rings = torch.zeros(len(mean), count).index_add(1, flat, mean)
    return rings / torch.zeros(count).index_add(0, flat, times.flatten())


def _each(
    pictures: Pictures, function: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[torch.Tensor]:
    """Yield what ``function`` makes of ``pictures``, some at a time, as float32 in [0, 1]."""
    most = max(1, min(_AT_ONCE, _VALUES_AT_ONCE // math.prod(pictures.shape[1:])))
    return (function(part.float().div(255)) for part in portions(pictures, most))
