"""How many images go through the denoiser or the VAE at once, and where memory ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import GeneratorError
from regl_app.data.images import ImageSet
from regl_app.generator import portions, vae_tiles
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.pool import sample_pool
from regl_app.generator.portions import AT_ONCE, VAE_PIXELS, in_portions
from regl_app.generator.sampling import sample
from regl_app.supplement.synthesizer import Synthesizer

CONCEPTS = ("the digit zero", "the digit one", "the digit two")
Watch = Callable[..., list[tuple[str, int]]]


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    portions._fits.clear()


@pytest.fixture(scope="module")
def config(second_pipeline: Path) -> GeneratorConfig:
    return GeneratorConfig(path=str(second_pipeline), steps=2, guidance=1.0, precision="fp32")


@pytest.fixture(scope="module")
def foundation(config: GeneratorConfig) -> Foundation:
    return Foundation.load(config, CONCEPTS)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Return what makes a list of all (method, images) to come; above ``memory`` there is none."""

    def start(**memory: int) -> list[tuple[str, int]]:
        asked: list[tuple[str, int]] = []

        def wrap(name: str) -> None:
            plain = getattr(Foundation, name)

            def spy(self: Foundation, first: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
                asked.append((name, len(first)))
                if len(first) > memory.get(name, 10**9):
                    raise torch.OutOfMemoryError("CUDA out of memory")
                result: torch.Tensor = plain(self, first, *rest)
                return result

            monkeypatch.setattr(Foundation, name, spy)

        for name in ("predict", "decode", "encode"):
            wrap(name)
        return asked

    return start


def draw(foundation: Foundation, config: GeneratorConfig, count: int = 9) -> torch.Tensor:
    labels, indices = [n % 3 for n in range(count)], [n // 3 for n in range(count)]
    return sample(foundation, labels, indices, config, stream=7)


def test_no_part_of_a_client_s_turn_takes_more_than_the_batch_size(
    second_pipeline: Path, watch: Watch, tmp_path: Path
) -> None:
    config = RunConfig.from_flat(
        {
            "method": "regl",
            "generator.path": str(second_pipeline),
            "generator.batch-size": 4,
            "generator.guidance": 1.0,
            "generator.steps": 2,
            "generator.image-share": 1.0,
            "lora.steps": 1,
            "lora.batch-size": 2,
            "pool.per-class": 3,
            "probe.per-class": 3,
        }
    )
    real = ImageSet(torch.full((40, 3, 20, 20), 90, dtype=torch.uint8), torch.arange(40) % 2)
    synthesizer = Synthesizer(
        config, CONCEPTS, (3, 20, 20), seed=0, device="cpu", cache_dir=tmp_path
    )
    asked = watch()
    adapted = synthesizer.adapt("client-0", real)
    synthesizer.generate(np.array([6, 6, 6]), adapted, real)
    synthesizer.pool(adapted)
    synthesizer.probe()
    assert {name for name, _ in asked} == {"predict", "decode", "encode"}
    assert max(images for _, images in asked) == 4


def test_large_images_go_through_the_vae_by_pixels(
    foundation: Foundation, config: GeneratorConfig, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "VAE_PIXELS", 3 * 48 * 48 + 5)
    asked = watch()
    draw(foundation, config, 7)
    encode_latents(foundation, torch.zeros(4, 3, 48, 48, dtype=torch.uint8))
    assert [count for name, count in asked if name == "predict"] == [7, 7]
    assert [count for name, count in asked if name == "decode"] == [3, 3, 1]
    assert [count for name, count in asked if name == "encode"] == [3, 1]


def test_the_bundled_generator_s_portions_are_its_batches(foundation: Foundation) -> None:
    assert GeneratorConfig().batch_size == AT_ONCE
    assert AT_ONCE * 32 * 32 < VAE_PIXELS  # nothing changes for it
    assert VAE_PIXELS // 512**2 == 8
    assert portions.decoded_at_once(replace(foundation, image_size=10**6)) == 1


@pytest.mark.parametrize(
    ("part", "work"), [("predict", "denoising"), ("decode", "decoding"), ("encode", "encoding")]
)
def test_what_does_not_fit_is_halved_and_remembered(
    foundation: Foundation,
    config: GeneratorConfig,
    watch: Watch,
    part: str,
    work: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pictures = torch.randint(0, 256, (9, 3, 48, 48), dtype=torch.uint8)

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        return draw(foundation, config), encode_latents(foundation, pictures)

    expected = both()
    caplog.set_level(logging.WARNING, logger="regl")
    asked = watch(**{part: 2})
    found = both()
    assert (found[0].int() - expected[0].int()).abs().max() <= 1  # rounding, no other noise
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=1e-4)
    counts = [count for name, count in asked if name == part]
    steps = config.steps if part == "predict" else 1
    assert counts == [9, 4, *[2] * 4 * steps, *[1] * steps]
    asked.clear()
    both()  # for the rest of the process
    assert max(count for name, count in asked if name == part) == 2
    assert len(caplog.messages) == 1
    assert f"{work} of 48 x 48 pixels: the memory of cpu holds 2 images at once" in caplog.text


def test_noise_drawn_in_the_steps_is_the_same_again(
    foundation: Foundation, config: GeneratorConfig, watch: Watch
) -> None:
    from diffusers import EulerAncestralDiscreteScheduler

    kind = EulerAncestralDiscreteScheduler.from_config(foundation.scheduler.config)
    stochastic = replace(foundation, scheduler=kind)
    expected = draw(stochastic, config)
    watch(predict=3)
    assert (draw(stochastic, config).int() - expected.int()).abs().max() <= 1


def test_a_pool_is_halved_too(
    foundation: Foundation, config: GeneratorConfig, watch: Watch, tmp_path: Path
) -> None:
    def pool(name: str) -> torch.Tensor:
        path = tmp_path / name
        made = sample_pool(foundation, config, (1, 16, 16), per_class=2, stream=1, path=path)
        return made.images.images

    expected = pool("a")
    watch(decode=4, predict=4)
    assert (pool("b").int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize(("precision", "remedy"), [("fp32", True), ("bf16", False)])
def test_a_single_image_that_does_not_fit_is_our_error(
    foundation: Foundation, precision: str, remedy: bool
) -> None:
    def never(part: slice) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    here = replace(foundation, precision=precision)
    with pytest.raises(GeneratorError) as error:
        in_portions(here, "decoding", 5, 5, never)
    text = str(error.value)
    assert f"decoding of a single image of 48 x 48 pixels in {precision} does not fit into" in text
    assert "lower generator.image-size" in text
    assert ("generator.precision=bf16 or fp16" in text) == remedy


def test_the_device_s_memory_is_named(
    foundation: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(part: slice) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    emptied: list[int] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * 10**8, 8 * 10**9))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    card = replace(foundation, device=torch.device("cuda", 0))
    with pytest.raises(GeneratorError, match=r"cuda:0 with 8\.0 GB of memory, 0\.5 of them free"):
        in_portions(card, "encoding", 4, 4, never)
    assert len(emptied) == 3  # 4, 2, 1: what the failed tries held is free before the next


def test_other_errors_pass(foundation: Foundation) -> None:
    def wrong(part: slice) -> torch.Tensor:
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        in_portions(foundation, "decoding", 4, 4, wrong)
    assert in_portions(foundation, "decoding", 0, 4, wrong) == []


@pytest.mark.parametrize("work", ["decode", "encode"])
def test_a_picture_that_a_vae_cannot_hold_is_gone_over_in_tiles(
    config: GeneratorConfig, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vae_tiles, "LEAST_TILE", 32)
    found = Foundation.load(config.model_copy(update={"image_size": 64}), CONCEPTS)
    latents = torch.randn(3, *found.latent_shape, generator=torch.Generator().manual_seed(0))
    pictures = found.decode(latents)
    given, call = (latents, found.decode) if work == "decode" else (pictures, found.encode)
    inner = found.vae.decoder if work == "decode" else found.vae.encoder
    plain, seen, expected = inner.forward, set(), call(given)

    def tight(part: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        if len(part) > 1 or part.shape[-1] > given.shape[-1] // 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.add(part.shape[-1])
        result: torch.Tensor = plain(part, *rest)
        return result

    monkeypatch.setattr(inner, "forward", tight)
    name: portions.Work = "decoding" if work == "decode" else "encoding"
    made = torch.cat(in_portions(found, name, 3, 3, lambda part: call(given[part])))
    assert max(seen) == given.shape[-1] // 2
    assert made.shape == expected.shape and made.isfinite().all()
    # Each tile is normalised by itself: alike, not equal.
    assert (made - expected).abs().mean() < 0.5 * expected.std()


def test_tiles_end_somewhere(config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_tiles, "LEAST_TILE", 16)
    found = Foundation.load(config.model_copy(update={"image_size": 64}), CONCEPTS)
    tried: list[int] = []

    def never(part: slice) -> torch.Tensor:
        tried.append(found.vae.tile_sample_min_size if found.vae.use_tiling else 0)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(GeneratorError, match="does not fit"):
        in_portions(found, "decoding", 1, 1, never)
    assert tried == [0, 32, 16]


def test_a_processor_that_runs_out_holds_fewer_as_well(foundation: Foundation) -> None:
    tried = []

    def make(part: slice) -> torch.Tensor:
        tried.append(part.stop - part.start)
        # Of the processor's memory torch tells by a plain RuntimeError.
        return torch.zeros(1) if tried[-1] <= 2 else torch.empty(10**15)

    assert len(in_portions(foundation, "denoising", 4, 4, make)) == 2
    assert tried == [4, 2, 2]

    def fail(_: slice) -> torch.Tensor:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        in_portions(foundation, "denoising", 4, 4, fail)
