"""Large pictures: how many pixels are in memory at once, and that nothing else comes of it."""

from __future__ import annotations

import io
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regl_app.core.errors import DataError
from regl_app.data import decode, deep_pixels, resize
from regl_app.data.resize import fit, to_square

RNG = np.random.default_rng(0)


def encoded(pixels: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def photo(height: int, width: int) -> bytes:
    return encoded(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


class Watch:
    """Counts the pixels of pictures from their decoding until they are squares."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.most = 0
        lock, shallow, square = threading.Lock(), decode.shallow_pixels, decode.to_square

        def decoded(*args: Any) -> Any:
            pixels = shallow(*args)
            with lock:
                self.now += pixels.shape[0] * pixels.shape[1]
                self.most = max(self.most, self.now)
            time.sleep(0.01)
            return pixels

        def squared(images: torch.Tensor, *args: Any) -> torch.Tensor:
            with lock:
                self.now -= images.shape[2] * images.shape[3]
            return square(images, *args)

        monkeypatch.setattr(decode, "shallow_pixels", decoded)
        monkeypatch.setattr(decode, "to_square", squared)


def test_threads_hold_a_bounded_number_of_pixels_and_a_larger_picture_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [(str(n), photo(20, 30 + n % 2)) for n in range(24)]
    files[7:7] = [("large", photo(60, 70)), ("bad", photo(60, 70)[:-40]), ("none", b"x")]
    plain = decode.decode_images(files, 8, unreadable="skip")
    monkeypatch.setattr(decode, "usable_processors", lambda: 8)
    monkeypatch.setattr(decode, "_MOST_PIXELS", 2000)
    watch = Watch(monkeypatch)
    bounded = decode.decode_images(files, 8, unreadable="skip")
    assert watch.most == 60 * 70 and watch.now == 0
    assert torch.equal(plain.images, bounded.images) and len(bounded.problems) == 2
    del files[7:10]
    watch.most = 0
    decode.decode_images(files, 8)
    assert 620 < watch.most <= 2000
    with pytest.raises(DataError, match="not a readable"):
        decode.decode_images([("bad", photo(60, 70)[:-40])] * 30, 8)


@pytest.mark.parametrize("rule", ["crop", "pad", "stretch"])
def test_one_large_picture_is_resized_a_colour_at_a_time_to_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, rule: Any
) -> None:
    pixels = torch.from_numpy(RNG.integers(0, 256, (301, 407, 3), dtype=np.uint8))
    whole = to_square(pixels.permute(2, 0, 1)[None], 32, rule)
    widths, resized = [], resize._resized

    def seen(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
        widths.append(images.shape[1])
        return resized(images, height, width)

    monkeypatch.setattr(resize, "_CHUNK", 1000)
    monkeypatch.setattr(resize, "_resized", seen)
    assert torch.equal(to_square(pixels.permute(2, 0, 1)[None], 32, rule), whole)
    assert widths == [1, 1, 1]


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 16, 16), (1, 40, 50), (3, 90, 80)])
def test_many_are_fitted_some_at_a_time_to_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]
) -> None:
    images = torch.from_numpy(RNG.integers(0, 256, (7, 3, 40, 50), dtype=np.uint8))
    whole, counts, floats = fit(images, shape), [], resize.fit_floats

    def seen(images: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
        counts.append(len(images))
        return floats(images, shape)

    monkeypatch.setattr(resize, "_CHUNK", 2 * 3 * 40 * 50)
    monkeypatch.setattr(resize, "fit_floats", seen)
    assert torch.equal(fit(images, shape), whole)
    assert len(counts) > 1 and sum(counts) == 7


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_greyscale_is_held_as_it_is_stored_and_read_some_rows_at_a_time(
    monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    values = RNG.integers(0, 60000, (40, 50)).astype(kind)
    if kind is np.float32:
        values[3, 4], values[5, 6] = np.nan, np.inf
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "TIFF")
    whole = decode.decode_images([("x", stream.getvalue())], 40, depth="auto")
    monkeypatch.setattr(deep_pixels, "_AT_ONCE", 120)
    sizes, to_8_bit = [], deep_pixels.to_8_bit

    def seen(part: Any, scale: Any) -> Any:
        sizes.append(part.size)
        return to_8_bit(part, scale)

    monkeypatch.setattr(deep_pixels, "to_8_bit", seen)
    parts = decode.decode_images([("x", stream.getvalue())], 40, depth="auto")
    assert torch.equal(whole.images, parts.images) and whole.depth == parts.depth
    assert set(sizes) == {100}
    with Image.open(io.BytesIO(stream.getvalue())) as image:
        read = deep_pixels.deep_pixels("x", image)
        image.load()
        held = read().values
    assert held is not None and held.itemsize == np.dtype(kind).itemsize
