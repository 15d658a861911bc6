"""What is made with other prompts is never taken for the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.types import CacheKey
from regl_app.data.concepts import Concept
from regl_app.data.images import ImageSet
from regl_app.generator.solver import BY_STRENGTH
from regl_app.supplement import cache_keys
from regl_app.supplement.cache_keys import CacheKeys


def keys(config: RunConfig, concepts: Sequence[Concept], real: ImageSet) -> list[CacheKey]:
    made = CacheKeys(config, tuple(concepts), (1, 16, 16), torch.device("cpu"))
    nothing = torch.empty(0)
    return [
        made.pool("frozen", 0, 2),
        made.lora(real, 0),
        made.images(0, "frozen", nothing, 0, None),
    ]


def test_one_phrasing_is_named_as_ever_and_several_make_another_key(
    config: RunConfig, real: ImageSet
) -> None:
    plain = keys(config, ("a cat", "a dog"), real)
    assert plain[0]["prompts"] == ["a photo of a cat", "a photo of a dog"]
    assert plain[2]["prompt"] == "a photo of a cat"
    assert all("negative_prompt" not in key for key in plain)
    several = keys(config, (("a cat", "a kitten"), "a dog"), real)
    assert all(one != other for one, other in zip(plain, several, strict=True))
    assert several[2]["prompt"] == ["a photo of a cat", "a photo of a kitten"]


def test_the_negative_prompt_counts_where_images_are_drawn(
    config: RunConfig, real: ImageSet
) -> None:
    plain = keys(config, ("a cat", "a dog"), real)
    away = keys(config.updated({"generator.negative-prompt": "ugly"}), ("a cat", "a dog"), real)
    assert [one != other for one, other in zip(plain, away, strict=True)][::2] == [True, True]


def test_the_image_encoder_counts_where_it_reads_pictures(
    config: RunConfig, real: ImageSet, tmp_path: Path
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    encoder = config.updated({"generator.image-encoder": str(tmp_path)})
    told = config.updated({"lora.image-tokens": 2})
    both = encoder.updated({"lora.image-tokens": 2})
    concepts = ("a cat", "a dog")
    assert keys(encoder, concepts, real) == keys(config, concepts, real)
    assert keys(both, concepts, real)[::2] == keys(told, concepts, real)[::2]
    shown = encoder.updated({"generator.ip-adapter": "x.safetensors"})
    assert keys(shown, concepts, real) == keys(config, concepts, real)  # it is not tuned with
    first = keys(both, concepts, real)[1]
    assert {**first, "image_encoder": ""} == {**keys(told, concepts, real)[1], "image_encoder": ""}
    (tmp_path / "model.safetensors").write_text("another")
    assert keys(both, concepts, real)[1]["image_encoder"] != first["image_encoder"] != ""


def test_guidance_counts_in_tuning_where_the_denoiser_is_told_it(
    config: RunConfig, real: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    concepts = ("a cat", "a dog")
    guided = config.updated({"generator.guidance": 3.5})
    assert keys(guided, concepts, real)[1] == keys(config, concepts, real)[1]
    monkeypatch.setattr(cache_keys, "tunes_by_guidance", lambda _: True)
    assert keys(guided, concepts, real)[1] != keys(config, concepts, real)[1]


def test_what_only_decides_whether_to_tune_is_no_part_of_an_adapter_s_name(
    config: RunConfig, real: ImageSet
) -> None:
    concepts = ("a cat", "a dog", "a bird")
    more = config.updated({"lora.min-images": 3})
    one, other = (
        CacheKeys(each, concepts, (1, 16, 16), torch.device("cpu")) for each in (config, more)
    )
    assert one.lora(real, 0) == other.lora(real, 0)
    assert one.part(real, 0, "") == other.part(real, 0, "")
    assert one.lora(real, 0)["lora"]["min_images"] == 8  # as it always was there


def test_prior_preservation_counts_for_a_client_that_lacks_a_class(
    config: RunConfig, real: ImageSet
) -> None:
    preserving = config.updated({"lora.prior-weight": 0.5})
    guided = preserving.updated({"generator.guidance": 7.0, "generator.steps": 5})
    all_classes, some = ("a cat", "a dog"), ("a cat", "a dog", "a bird")
    names = [keys(each, all_classes, real)[1] for each in (config, preserving, guided)]
    assert names[0] == names[1] == names[2]
    assert names[0]["lora"]["prior_weight"] == 0.0
    names = [keys(each, some, real)[1] for each in (config, preserving, guided)]
    assert names[0] != names[1] != names[2]


def test_how_many_tokens_are_read_counts_where_it_is_not_the_pipelines_number(
    config: RunConfig, real: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = keys(config, ("a cat", "a dog"), real)
    assert all("text_tokens" not in key for key in plain)
    monkeypatch.setattr(cache_keys, "text_tokens", lambda _: 256)
    fewer = keys(config, ("a cat", "a dog"), real)
    assert [key["text_tokens"] for key in fewer] == [256] * 3


def test_what_few_step_solvers_made_otherwise_is_not_taken_for_the_same(
    config: RunConfig, real: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DDIMScheduler, TCDScheduler

    def started() -> CacheKey:
        made = CacheKeys(config, ("a cat", "a dog"), (1, 16, 16), torch.device("cpu"))
        return made.images(0, "frozen", real, 0, None)

    assert all("eta" not in key for key in keys(config, ("a cat", "a dog"), real))
    assert "starts" not in started()
    monkeypatch.setattr(cache_keys, "scheduler_config", lambda _: {"_class_name": "TCDScheduler"})
    noisy = keys(config, ("a cat", "a dog"), real)
    assert ["eta" in key for key in noisy] == [True, False, True]
    monkeypatch.setattr(cache_keys, "text_to_image_class", lambda _: BY_STRENGTH)
    monkeypatch.setattr(cache_keys, "solver_class", lambda _: DDIMScheduler)
    assert "starts" not in started()
    monkeypatch.setattr(cache_keys, "solver_class", lambda _: TCDScheduler)
    assert "starts" in started()
    assert "starts" not in keys(config, ("a cat", "a dog"), real)[2]
