"""What a generator learns from: pictures of its own size, or images as classifiers see them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regl_app.config import RunConfig
from regl_app.core.types import Scalar
from regl_app.data import picture_store
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet, to_uint8
from regl_app.data.resize import to_square
from regl_app.generator.adaptation.shared import SharedAdapter
from regl_app.generator.foundation import Foundation
from regl_app.supplement import own_pictures
from regl_app.supplement.synthesizer import Synthesizer

Start = Callable[..., tuple[Synthesizer, ImageSet]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Return where the pixels end up that enter the VAE, uint8."""
    found: list[torch.Tensor] = []
    encode = Foundation.encode

    def told(self: Foundation, images: torch.Tensor) -> torch.Tensor:
        found.append(to_uint8(images.cpu()))
        return encode(self, images)

    monkeypatch.setattr(Foundation, "encode", told)
    return found


@pytest.fixture
def start(second_pipeline: Path, tmp_path: Path) -> Start:
    """Return what loads the first client of a folder's images and its door to the generator."""

    def make(folder: Path, **changes: Scalar) -> tuple[Synthesizer, ImageSet]:
        config = RunConfig.from_flat(
            {
                "method": "regl",
                "data.source": "folder",
                "data.path": str(folder),
                "partition.scheme": "iid",
                "generator.path": str(second_pipeline),
                "generator.image-size": 64,
                "generator.steps": 2,
                "lora.steps": 2,
                **{name.replace("__", ".").replace("_", "-"): v for name, v in changes.items()},
            }
        )
        federation = Federation.load(config, 1)
        cache = tmp_path / "cache"
        return Synthesizer.of(config, federation.source, "cpu", cache), federation.client(0).train

    return make


def photo(folder: Path, name: str, size: int) -> torch.Tensor:
    with Image.open(folder / name) as image:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return to_square(pixels[None], size)[0]


def names(real: ImageSet) -> list[str]:
    assert real.originals is not None
    paths = [Path(real.originals.files.open(int(place))[0]) for place in real.originals.places]
    return [f"{path.parent.name}/{path.name}" for path in paths]


def test_an_adapter_is_tuned_on_the_photos_not_on_their_thumbnails(
    photos: Callable[..., Path], start: Start, seen: list[torch.Tensor], tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos", {"cat": 10, "dog": 10}, width=512, height=512)
    synthesizer, real = start(folder)
    assert real.shape == (3, 32, 32)
    assert synthesizer.adapt("a", real).path is not None
    tuned_on, judged_by = torch.cat(seen).split([len(real), 8])
    assert tuned_on.shape == (len(real), 3, 64, 64)
    for name, thumbnail, pixels in zip(names(real), real.images, tuned_on, strict=True):
        assert torch.equal(thumbnail, photo(folder, name, 32))
        assert torch.equal(pixels, photo(folder, name, 64))
    assert torch.equal(judged_by, tuned_on[torch.arange(8) * len(real) // 8])


def test_so_is_a_part_of_the_adapter_of_all_clients(
    photos: Callable[..., Path], start: Start, seen: list[torch.Tensor], tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos", {"cat": 10, "dog": 10}, width=100, height=80)
    synthesizer, real = start(folder, supplement__adapter="shared")
    synthesizer.tune_part("a", real, 1, SharedAdapter(""))
    wanted = torch.stack([photo(folder, name, 64) for name in names(real)])
    assert torch.equal(torch.cat(seen)[: len(real)], wanted)


def test_images_start_from_the_photos_too(
    photos: Callable[..., Path], start: Start, seen: list[torch.Tensor], tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos", {"cat": 10, "dog": 10}, width=100, height=80)
    synthesizer, real = start(folder, generator__image_share=1.0)
    adapted = synthesizer.adapt("a", real)
    seen.clear()
    synthesizer.generate(np.array([3, 2]), adapted, real)
    dogs = [name for name in names(real) if name.startswith("dog")][:2]
    cats = [name for name in names(real) if name.startswith("cat")][:3]
    wanted = torch.stack([photo(folder, name, 64) for name in cats + dogs])
    assert torch.equal(torch.cat(seen), wanted)


def test_an_adapter_from_the_cache_decodes_nothing(
    photos: Callable[..., Path], start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(tmp_path / "photos", {"cat": 10, "dog": 10}, width=100, height=80)
    synthesizer, real = start(folder)
    first = synthesizer.adapt("a", real)
    monkeypatch.setattr(picture_store, "decode_images", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(Foundation, "load", lambda *_: pytest.fail("loaded"))
    again = start(folder)[0].adapt("a", real)
    assert again.cached and again.digest == first.digest


def test_an_adapter_of_thumbnails_is_not_taken_for_one_of_photos(
    photos: Callable[..., Path], start: Start, tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos", {"cat": 10, "dog": 10}, width=100, height=80)
    synthesizer, real = start(folder)
    thumbnails = ImageSet(real.images, real.labels)
    assert synthesizer.adapt("a", thumbnails).digest != synthesizer.adapt("a", real).digest
    assert not synthesizer.adapt("b", real).cached and synthesizer.adapt("b", real).cached


def test_a_generator_no_larger_than_the_classifier_sees_its_images(
    photos: Callable[..., Path], start: Start, seen: list[torch.Tensor], tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos", {"cat": 10, "dog": 10}, width=100, height=80)
    synthesizer, real = start(folder, data__image_size=64)
    synthesizer.adapt("a", real)
    assert torch.equal(torch.cat(seen)[: len(real)], real.images)
    assert not (tmp_path / "cache" / "pictures").exists()


@pytest.mark.parametrize(
    ("sides", "changes", "said"),
    [
        ({"big": 70}, {}, ""),
        ({"big": 70, "small": 50}, {}, "28 of 56 pictures, of 50 pixels and more"),
        ({"big": 20}, {}, "pictures of at most 32 pixels are enlarged to 64"),
        ({"big": 20}, {"generator.image-size": 32}, ""),
    ],
)
def test_pictures_are_not_enlarged_in_silence(
    photos: Callable[..., Path],
    start: Start,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    sides: dict[str, int],
    changes: dict[str, Scalar],
    said: str,
) -> None:
    own_pictures._warn_once.cache_clear()
    for name, side in sides.items():
        photos(tmp_path / "photos", {name: 20, f"{name} too": 20}, width=side, height=side)
    with caplog.at_level(logging.WARNING, "regl"):
        synthesizer, real = start(tmp_path / "photos", **{"partition.test-fraction": 0}, **changes)
        for client in "ab":
            synthesizer.adapt(client, real)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == bool(said)
    assert not said or (said in warnings[0] and "generator.image-size" in warnings[0])
