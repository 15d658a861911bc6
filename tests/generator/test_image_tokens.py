from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.seeding import torch_generator
from regl_app.core.types import Tensors
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.cache import AdapterCache
from regl_app.generator.adaptation.lora import TunedAdapter, tune_lora
from regl_app.generator.adapters import WEIGHTS, adapter_digest, load_adapter, save_adapter
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.image_encoder import OwnEncoder
from regl_app.generator.image_features import image_features
from regl_app.generator.image_tokens import FILE, ImageTokens, beside_text
from regl_app.generator.sampling import sample

LABELS, INDICES = [0, 1, 2], [0, 3, 1]
DIGITS = tuple(f"the digit {name}" for name in ("zero", "one", "two"))


def tokens(features: Sequence[Sequence[float]], labels: Sequence[int], count: int) -> ImageTokens:
    return ImageTokens.new(torch.tensor(features), torch.tensor(labels), count, width=2)


def tuned_by_hand(width: int) -> ImageTokens:
    """Return three tokens of ``width`` that differ by image, of four pictures of two classes."""
    random = torch_generator(0, "tokens")
    made = ImageTokens.new(
        torch.randn(4, 8, generator=random), torch.tensor([0, 0, 1, 1]), 3, width
    )
    return replace(made, weight=torch.randn(made.weight.shape, generator=random))


@pytest.fixture(scope="module")
def config(second_pipeline: Path) -> GeneratorConfig:
    return GeneratorConfig(
        path=str(second_pipeline), steps=3, guidance=2.0, guidance_stop=1.0, precision="fp32"
    )


@pytest.fixture(scope="module")
def foundation(config: GeneratorConfig) -> Foundation:
    return Foundation.load(config, DIGITS)


def test_a_look_is_what_is_special_about_a_picture_in_its_class() -> None:
    looks = tokens([[1, 0], [3, 0], [0, 2], [0, 6]], [0, 0, 1, 1], 1).looks
    # Four times as long as their root mean square is.
    assert torch.allclose(looks * 1.25**0.5 / 4, torch.tensor([[-1.0, 0], [1, 0], [0, -2], [0, 2]]))


def test_new_tokens_say_nothing_and_a_single_picture_of_a_class_has_no_look() -> None:
    made = tokens([[1, 0], [3, 0], [9, 9]], [0, 0, 1], 2)
    assert torch.equal(made.told(made.looks), made.untold(3))
    assert torch.equal(made.untold(1), torch.zeros(1, 2, 2))
    assert not made.looks[2].any()


def test_pictures_that_are_all_alike_have_no_look() -> None:
    assert not tokens([[4, 4], [4, 4]], [0, 0], 1).looks.any()


def test_an_image_takes_a_look_of_its_class_or_of_any_where_there_is_none() -> None:
    made = tokens([[1, 0], [3, 0], [0, 2], [0, 6]], [0, 0, 1, 1], 1)
    made = replace(made, weight=torch.eye(2), bias=torch.zeros(1, 2))

    def told(labels: Sequence[int], indices: Sequence[int]) -> list[int]:
        drawn = made.of_images(labels, indices)[:, 0]
        return [int((made.looks == look).all(1).nonzero()) for look in drawn]

    assert told([1, 1, 1], [0, 1, 2]) == [2, 3, 2]
    assert told([0, 7, 7, 7, 7, 7], [1, 0, 1, 2, 3, 4]) == [1, 0, 1, 2, 3, 0]


def test_few_looks_of_each_class_are_kept_the_classes_in_turn() -> None:
    features = torch.arange(51.0)[:, None] ** 2
    labels = torch.tensor([0] * 40 + [1] * 10 + [3])
    state = ImageTokens.new(features, labels, 1, width=2).state()
    assert state["image_tokens.labels"].bincount().tolist() == [32, 10, 0, 1]
    assert state["image_tokens.labels"][:6].tolist() == [0, 1, 3, 0, 1, 0]


def test_an_adapters_file_is_as_without_tokens_and_they_lie_beside_it(
    tmp_path: Path, foundation: Foundation
) -> None:
    lora = {
        "unet.conv_in.lora_A.weight": torch.ones(1, 4, 3, 3),
        "unet.conv_in.lora_B.weight": torch.ones(16, 1, 1, 1),
    }
    state = tuned_by_hand(24).state()
    save_adapter(tmp_path / "plain", lora)
    save_adapter(tmp_path / "told", {**lora, **state})
    assert (tmp_path / "plain" / WEIGHTS).read_bytes() == (tmp_path / "told" / WEIGHTS).read_bytes()
    assert adapter_digest(tmp_path / "plain") != adapter_digest(tmp_path / "told")
    assert set(load_adapter(tmp_path / "plain")) == set(lora)
    loaded = load_adapter(tmp_path / "told")
    assert all(torch.equal(loaded[name], value) for name, value in {**lora, **state}.items())
    with foundation.adapter(tmp_path / "told"):
        assert foundation.adapters.image_tokens is not None
        with foundation.adapters.suspended():
            assert foundation.adapters.image_tokens is None
    assert foundation.adapters.image_tokens is None


def test_damaged_tokens_are_refused_by_name_and_not_taken_from_a_cache(tmp_path: Path) -> None:
    lora = {
        "unet.conv_in.lora_A.weight": torch.ones(1, 4, 3, 3),
        "unet.conv_in.lora_B.weight": torch.ones(16, 1, 1, 1),
    }
    cache = AdapterCache(tmp_path)
    kept = cache.put({"a": 1}, TunedAdapter({**lora, **tuned_by_hand(24).state()}, 1, 0.0, 0.0))
    assert cache.get({"a": 1}) == kept
    (kept.path / FILE).write_bytes(b"no safetensors")
    assert cache.get({"a": 1}) is None
    with pytest.raises(GeneratorError, match=FILE):
        load_adapter(kept.path)
    (kept.path / FILE).unlink()
    assert cache.get({"a": 1}) is None


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_images_are_plain_diffusers_when_told_the_same_tokens(
    foundation: Foundation, config: GeneratorConfig, second_pipeline: Path, guidance: float
) -> None:
    from diffusers import StableDiffusionPipeline

    config = config.model_copy(update={"guidance": guidance})
    state = tuned_by_hand(24).state()
    made = ImageTokens.of(state)
    assert made is not None
    pipeline = StableDiffusionPipeline.from_pretrained(second_pipeline)
    pipeline.set_progress_bar_config(disable=True)
    text, _ = pipeline.encode_prompt(
        [foundation.prompts[label] for label in LABELS], "cpu", 1, do_classifier_free_guidance=False
    )
    empty, _ = pipeline.encode_prompt([""] * 3, "cpu", 1, do_classifier_free_guidance=False)
    looks = made.of_images(LABELS, INDICES)
    noise = [
        torch.randn(foundation.latent_shape, generator=torch_generator(7, label, index))
        for label, index in zip(LABELS, INDICES, strict=True)
    ]
    with torch.no_grad():
        expected = pipeline(
            prompt_embeds=torch.cat([text, looks], dim=1),
            negative_prompt_embeds=torch.cat([empty, torch.zeros_like(looks)], dim=1),
            num_inference_steps=config.steps,
            guidance_scale=guidance,
            latents=torch.stack(noise),
            output_type="pt",
        ).images
    plain = sample(foundation, LABELS, INDICES, config, stream=7)
    with foundation.adapters.using(state, "made by hand"):
        images = sample(foundation, LABELS, INDICES, config, stream=7)
    assert ((expected * 255) - images).abs().max() <= 1
    assert not torch.equal(images, plain)
    assert torch.equal(sample(foundation, LABELS, INDICES, config, stream=7), plain)


def test_masks_of_the_text_go_on_over_the_tokens() -> None:
    told = {"embeddings": torch.zeros(2, 3, 4), "mask": torch.tensor([[1, 0, 0], [1, 1, 0]])}
    joined = beside_text(told, torch.ones(2, 2, 4))
    assert joined["mask"].tolist() == [[1, 0, 0, 1, 1], [1, 1, 0, 1, 1]]
    assert joined["embeddings"][:, 3:].eq(1).all()
    assert told["mask"].shape == (2, 3)


def test_the_look_of_one_class_is_carried_to_a_class_that_the_client_lacks() -> None:
    """Half of the zeros and ones are bright, half are dim: twos, of which there are none, too."""
    config = GeneratorConfig(precision="fp32")
    foundation = Foundation.load(config, DIGITS)
    drawn = sample(foundation, [0, 1] * 12, range(24), config, stream=1)
    dim = torch.arange(24) // 2 % 2 == 1
    pictures = torch.where(dim[:, None, None, None], drawn // 4, drawn)
    real = ImageSet(pictures, torch.tensor([0, 1] * 12))
    lora = LoraConfig(layers="all", steps=60, batch_size=24, image_tokens=4)
    state = tune_lora(foundation, real, lora, seed=0).state

    def bright_over_dim(adapter: Tensors) -> float:
        """Looks are told in turn, the classes in turn: two bright ones, then two dim ones."""
        with foundation.adapters.using(adapter, "tuned"):
            twos = sample(foundation, [2] * 24, range(24), config, stream=3).float()
        means = twos.mean((1, 2, 3))
        return float(means[~dim].mean() / means[dim].mean())

    silent = {**state, "image_tokens.weight": torch.zeros_like(state["image_tokens.weight"])}
    assert bright_over_dim(state) > 1.3 * bright_over_dim(silent)


def test_without_tokens_tuning_is_what_it_was(foundation: Foundation) -> None:
    real = ImageSet(torch.full((3, 3, 48, 48), 40, dtype=torch.uint8), torch.arange(3))
    state = tune_lora(foundation, real, LoraConfig(steps=2), seed=0).state
    assert all(".lora_" in name for name in state)


def test_features_are_the_checkpoints_own_image_encoders_where_it_has_one(
    foundation: Foundation,
) -> None:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=16,
                intermediate_size=16,
                projection_dim=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=48,
                patch_size=16,
            )
        )
    processor = CLIPImageProcessor(size={"shortest_edge": 48}, crop_size=48)
    pictures = torch.randint(
        0, 256, (5, 3, 48, 48), dtype=torch.uint8, generator=torch_generator(0, "pictures")
    )
    latents = encode_latents(foundation, pictures)
    own = replace(foundation, image_encoder=OwnEncoder(model, processor))
    features = image_features(own, pictures, latents, at_once=2)
    pixels = processor(list(pictures), return_tensors="pt").pixel_values
    with torch.no_grad():
        assert torch.allclose(features, model(pixels).image_embeds, atol=1e-5)
    thumbnails = image_features(foundation, pictures, latents, at_once=2)
    assert thumbnails.shape == (5, 4 * 8 * 8)
