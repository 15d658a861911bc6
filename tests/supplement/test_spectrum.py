"""The mean spectrum of a client's own images on what is drawn for it."""

from __future__ import annotations

import pytest
import torch

from regl_app.data.images import ImageSet
from regl_app.supplement import spectrum
from regl_app.supplement.spectrum import MOST_GAIN, with_spectrum


def some(count: int, shape: tuple[int, int, int], low: int, high: int, seed: int = 0) -> ImageSet:
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(low, high, (count, *shape), generator=random, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 3)


def smooth(images: ImageSet) -> ImageSet:
    """Return the images blurred: less power where pixels change fast."""
    pixels = torch.nn.functional.avg_pool2d(images.images.float(), 3, 1, 1, count_include_pad=False)
    return ImageSet(pixels.round().byte(), images.labels)


def rings(images: ImageSet) -> torch.Tensor:
    """Return the mean power of each channel by whole cycles per picture, by plain loops."""
    spectra = torch.fft.fft2(images.images.float()).abs().square().mean(dim=0)
    height, width = spectra.shape[1:]
    found: dict[int, list[torch.Tensor]] = {}
    for row in range(height):
        for column in range(width):
            down, across = min(row, height - row), min(column, width - column)
            radius = round((down**2 + across**2) ** 0.5)
            found.setdefault(radius, []).append(spectra[:, row, column])
    return torch.stack([torch.stack(found[radius]).mean(dim=0) for radius in sorted(found)], dim=1)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 16), (3, 9, 14)])
def test_power_is_that_of_the_real_images(shape: tuple[int, int, int]) -> None:
    real = smooth(some(200, shape, 60, 180, 1))
    drawn = some(150, shape, 90, 190, 2)
    matched = with_spectrum(drawn, real)
    assert matched.shape == drawn.shape and torch.equal(matched.labels, drawn.labels)
    before, after, wanted = rings(drawn), rings(matched), rings(real)
    most = before * MOST_GAIN**2
    expected = torch.minimum(torch.maximum(wanted, before / MOST_GAIN**2), most)
    assert torch.allclose(after, expected, rtol=0.05)  # rounded to whole levels
    assert (before / wanted).max() > 2


def test_it_does_not_matter_how_pictures_lie() -> None:
    """Streaks: their power lies along one of the axes, of which ``rfft2`` has one twice."""
    real, drawn = some(30, (1, 20, 20), 60, 180, 1), some(30, (1, 20, 20), 90, 190, 2)
    streaks = real.images.float().mean(dim=2, keepdim=True).expand(-1, -1, 20, -1)
    real = ImageSet(streaks.round().byte().contiguous(), real.labels)

    def lying(images: ImageSet) -> ImageSet:
        return ImageSet(images.images.transpose(2, 3).contiguous(), images.labels)

    upright = with_spectrum(drawn, real).images.int()
    turned = lying(with_spectrum(lying(drawn), lying(real))).images.int()
    assert (upright - turned).abs().max() <= 1


def test_golden_values() -> None:
    """A checkerboard of amplitude 40 on 100, real ones of 80 on 50: as these, by formula."""
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2 - 1
    drawn = ImageSet((100 + 40 * board).byte().expand(4, 1, 8, 8).clone(), torch.zeros(4).long())
    real = ImageSet((100 + 80 * board).byte().expand(2, 1, 8, 8).clone(), torch.zeros(2).long())
    assert torch.equal(with_spectrum(drawn, real).images, real.images.repeat(2, 1, 1, 1))
    dark = ImageSet((50 + 5 * board).byte().expand(2, 1, 8, 8).clone(), torch.zeros(2).long())
    # 40 to 5 would be an eighth: no more than a quarter is taken.
    expected = (50 + 40 / MOST_GAIN * board).byte()
    assert torch.equal(with_spectrum(drawn, dark).images[0, 0], expected)


def test_phases_stay() -> None:
    """A pattern stays where it is: the filter moves nothing."""
    wave = torch.cos(2 * torch.pi * (torch.arange(16.0) * 3 + 2) / 16)
    drawn = ImageSet((100 + 40 * wave).byte().expand(1, 1, 16, 16).clone(), torch.tensor([0]))
    real = some(9, (1, 16, 16), 0, 256)
    found = with_spectrum(drawn, real).images[0, 0, 0].float()
    phase = torch.fft.rfft(found)[3].angle() - torch.fft.rfft(100 + 40 * wave)[3].angle()
    assert abs(float(phase)) < 0.05 and not torch.equal(found, drawn.images[0, 0, 0].float())


def test_like_images_stay_as_they_are() -> None:
    drawn = some(40, (3, 12, 12), 0, 256)
    assert torch.equal(with_spectrum(drawn, drawn).images, drawn.images)


def test_nothing_and_plain_colours() -> None:
    shape, real = (1, 8, 8), some(5, (1, 8, 8), 0, 256)
    assert len(with_spectrum(ImageSet.empty(shape), real)) == 0
    drawn = some(5, shape, 0, 256)
    assert with_spectrum(drawn, ImageSet.empty(shape)) is drawn
    black = ImageSet(torch.zeros(3, *shape, dtype=torch.uint8), torch.zeros(3).long())
    assert torch.equal(with_spectrum(black, real).images, black.images)
    assert with_spectrum(drawn, black).images.float().mean() < drawn.images.float().mean()


def test_large_pictures_go_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    real, drawn = some(30, (3, 20, 20), 0, 200, 1), some(20, (3, 20, 20), 50, 150, 2)
    whole = with_spectrum(drawn, real).images.int()
    monkeypatch.setattr(spectrum, "_VALUES_AT_ONCE", 3 * 20 * 20 * 7)
    parts = with_spectrum(drawn, real).images.int()
    assert (whole - parts).abs().max() <= 1  # sums in another order
