"""Several phrasings of a class, used in turn, and what guidance leads away from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.seeding import torch_generator
from regl_app.data.images import ImageSet
from regl_app.generator import prompts
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.families.family import Told
from regl_app.generator.families.unet import UNET
from regl_app.generator.foundation import Foundation, shared_foundation
from regl_app.generator.prompt_limits import refuse_alike
from regl_app.generator.prompts import (
    PromptRows,
    TextConditioning,
    class_phrasings,
    class_prompts,
    encode_prompts,
)
from regl_app.generator.sampling import sample

CONCEPTS = ("a cat", ("a dog", "a hound", "a puppy"), "a horse")
LABELS, INDICES = [0, 1, 1, 1, 1, 2], [1, 0, 1, 2, 3, 1]


@pytest.fixture(scope="module")
def config(second_pipeline: Path) -> GeneratorConfig:
    return GeneratorConfig(
        path=str(second_pipeline), steps=3, guidance=4.0, guidance_stop=1.0, precision="fp32"
    )


@pytest.fixture(scope="module")
def foundation(config: GeneratorConfig) -> Foundation:
    return Foundation.load(config, CONCEPTS)


def by_diffusers(
    foundation: Foundation, config: GeneratorConfig, prompts: list[str], negative: str = ""
) -> torch.Tensor:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(config.path)
    pipeline.set_progress_bar_config(disable=True)
    noise = [
        torch.randn(foundation.latent_shape, generator=torch_generator(7, label, index))
        for label, index in zip(LABELS, INDICES, strict=True)
    ]
    images: torch.Tensor = pipeline(
        prompts,
        negative_prompt=[negative] * len(prompts),
        num_inference_steps=config.steps,
        guidance_scale=config.guidance,
        latents=torch.stack(noise),
        output_type="pt",
    ).images
    return images * 255


def test_each_image_is_of_the_phrasing_whose_turn_it_is(
    foundation: Foundation, config: GeneratorConfig
) -> None:
    told = ["a cat", "a dog", "a hound", "a puppy", "a dog", "a horse"]
    expected = by_diffusers(foundation, config, [f"a photo of {text}" for text in told])
    images = sample(foundation, LABELS, INDICES, config, stream=7)
    assert (expected - images).abs().max() <= 1.0  # rounding to whole numbers
    assert foundation.num_classes == 3 and foundation.prompts[1] == "a photo of a dog"


def test_an_image_depends_on_its_own_place_alone(
    foundation: Foundation, config: GeneratorConfig
) -> None:
    whole = sample(foundation, LABELS, INDICES, config, stream=7)
    one = sample(foundation, [1], [2], config, stream=7)
    assert (whole[3].int() - one[0].int()).abs().max() <= 1


def test_with_one_phrasing_each_nothing_changes_to_the_bit(
    foundation: Foundation, config: GeneratorConfig
) -> None:
    plain = Foundation.load(config, ("a cat", "a dog", "a horse"))
    labels, indices = [0, 1, 2, 1], [0, 0, 1, 3]  # a dog's turn, each time
    ours = sample(foundation, labels, indices, config, stream=7)
    assert torch.equal(ours, sample(plain, labels, indices, config, stream=7))


def test_guidance_leads_away_from_the_negative_prompt(
    foundation: Foundation, config: GeneratorConfig
) -> None:
    away = config.model_copy(update={"negative_prompt": "blurred, ugly"})
    told = Foundation.load(away, CONCEPTS)
    assert shared_foundation(away, CONCEPTS) is not shared_foundation(config, CONCEPTS)
    rows = [
        told.text.tensors["embeddings"].shape[0],
        foundation.text.tensors["embeddings"].shape[0],
    ]
    assert rows == [6, 6]
    phrasings = ["a cat", "a dog", "a hound", "a puppy", "a dog", "a horse"]
    expected = by_diffusers(
        told, away, [f"a photo of {text}" for text in phrasings], away.negative_prompt
    )
    images = sample(told, LABELS, INDICES, away, stream=7)
    assert (expected - images).abs().max() <= 1.0
    assert not torch.equal(images, sample(foundation, LABELS, INDICES, config, stream=7))


def test_tuning_tells_each_image_its_phrasing(
    foundation: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    predict = Foundation.predict

    def spy(
        self: Foundation,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        rows: torch.Tensor,
        image_tokens: torch.Tensor | None = None,
        image_prompts: torch.Tensor | None = None,
    ) -> torch.Tensor:
        seen.update(rows.tolist())
        return predict(self, latents, timesteps, rows, image_tokens, image_prompts)

    monkeypatch.setattr(Foundation, "predict", spy)
    images = torch.randint(0, 256, (5, 3, 48, 48), dtype=torch.uint8)
    real = ImageSet(images, torch.tensor([1, 0, 1, 1, 0]))
    tune_lora(foundation, real, LoraConfig(steps=3, rank=2, batch_size=8), seed=0)
    assert seen == {0, 1, 3, 4}  # all three of class 1; class 2 has no image


def test_rows() -> None:
    rows = PromptRows.of([("a",), ("b", "c"), ("d", "e", "f")])
    assert rows.rows == ((0,), (1, 3), (2, 4, 5))
    labels = torch.tensor([2, 2, 1, 2, 0, 2, 1])
    assert rows.of_set(labels).tolist() == [2, 4, 1, 5, 0, 2, 3]
    assert rows.of_images(torch.tensor([2, 1]), [7, 2]).tolist() == [4, 1]


def test_prompts_are_the_template_filled_in() -> None:
    config = GeneratorConfig(prompt="an X-ray of {concept}")
    assert class_phrasings(config, ("a hand", ("a foot", "a toe"))) == (
        ("an X-ray of a hand",),
        ("an X-ray of a foot", "an X-ray of a toe"),
    )
    assert class_prompts(config, ("a hand", ("a foot", "a toe")))[1] == "an X-ray of a foot"


def _cut(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [each.getMessage() for each in caplog.records if each.name == "regl"]
    return [message for message in ours if "is longer than" in message]


def test_what_a_text_encoder_does_not_read_is_named_with_the_prompt(
    config: GeneratorConfig, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(Path(config.path) / "tokenizer")
    most = tokenizer.model_max_length
    fits = "x " * (most - 2 - len(tokenizer("a photo of ", add_special_tokens=False).input_ids))
    assert len(tokenizer(f"a photo of {fits}".strip()).input_ids) == most
    Foundation.load(config, (fits.strip(), "a dog"))
    assert _cut(caplog) == []
    Foundation.load(config, (f"{fits}lost", "a dog"))
    (message,) = _cut(caplog)
    assert f"'a photo of {fits}lost'" in message
    assert f"the {most} tokens" in message and "its end, 'lost', is left out" in message


def test_two_classes_that_a_text_encoder_reads_alike_are_refused_by_their_prompts(
    config: GeneratorConfig,
) -> None:
    long = "x " * 40
    with pytest.raises(
        GeneratorError,
        match=r"reads the same in 'a photo of x .* cat', of class number 0, and in 'a photo of x .*"
        r" dog', of class number 2.*in front",
    ):
        Foundation.load(config, (f"{long}cat", "a dog", ("a horse", f"{long}dog")))
    Foundation.load(config, ((f"{long}cat", f"{long}tom"), "a dog"))  # of one class they may be


ON_PROCESSOR = (
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 4000000000000000 bytes. Error code 12 (Cannot allocate memory)"
)


def encoded(
    monkeypatch: pytest.MonkeyPatch, device: str, most: Callable[[str], int]
) -> tuple[TextConditioning, list[tuple[str, int]]]:
    """Encode 100 prompts by what holds ``most`` of them at once; return what it tried, too."""
    tried: list[tuple[str, int]] = []

    def encode(_: Any, texts: Sequence[str], told: Told) -> dict[str, torch.Tensor]:
        tried.append((told.encoded_on, len(texts)))
        if len(texts) > most(told.encoded_on):
            if told.encoded_on == "cpu":  # there torch has no error of its own for it
                raise RuntimeError(ON_PROCESSOR)
            raise torch.OutOfMemoryError("too many")
        return {"embeddings": torch.tensor([[float(text or 100)] for text in texts])}

    monkeypatch.setattr(prompts, "warn_of_cuts", lambda *_: None)
    texts = [[str(number)] for number in range(100)]
    pipeline = SimpleNamespace(unet=None, components={})
    told, place = Told(8, 1.0, "", "cuda:0"), torch.device(device)
    return encode_prompts(pipeline, replace(UNET, encode=encode), texts, told, place), tried


def test_fewer_prompts_are_encoded_at_once_where_memory_runs_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text, tried = encoded(monkeypatch, "cpu", lambda place: 30 if place != "cpu" else 99)
    sizes = [size for _, size in tried]
    assert {place for place, _ in tried} == {"cuda:0"} and sizes == [64, 32, *[16] * 6, 5]
    assert text.tensors["embeddings"].flatten().tolist() == list(range(101))
    assert "encodes 16 prompts at once" in caplog.text


def test_the_processor_encodes_where_a_device_does_not_hold_one_prompt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text, tried = encoded(monkeypatch, "cpu", lambda place: 0 if place != "cpu" else 99)
    assert tried[-3:] == [("cuda:0", 1), ("cpu", 64), ("cpu", 37)]
    assert text.tensors["embeddings"].flatten().tolist() == list(range(101))
    text, tried = encoded(monkeypatch, "cpu", lambda place: 0 if place != "cpu" else 20)
    assert [size for place, size in tried if place == "cpu"] == [64, 32, *[16] * 6, 5]
    with pytest.raises(GeneratorError, match=r"do not fit .* \(take a machine with more memory"):
        encoded(monkeypatch, "cpu", lambda _: 0)


def test_another_error_on_a_processor_is_none_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        torch.empty(10**15)
    monkeypatch.setattr(prompts, "warn_of_cuts", lambda *_: None)

    def encode(*_: object) -> dict[str, torch.Tensor]:
        raise RuntimeError("shapes differ")

    pipeline = SimpleNamespace(unet=None, components={})
    told = Told(8, 1.0, "", "cpu")
    with pytest.raises(RuntimeError, match="shapes differ"):
        encode_prompts(pipeline, replace(UNET, encode=encode), [["a"]], told, torch.device("cpu"))


@pytest.mark.parametrize("large", [False, True])
def test_a_large_table_waits_on_the_processor_and_rows_are_moved_where_they_are_used(
    monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    monkeypatch.setattr(prompts, "LARGE", 4 * 101 - large)
    text, _ = encoded(monkeypatch, "meta", lambda _: 99)
    assert text.tensors["embeddings"].device.type == ("cpu" if large else "meta")
    assert text.on_device == (0 if large else 4 * 101)
    rows = torch.tensor([3, -1])
    assert text.of(rows, torch.device("meta"))["embeddings"].device.type == "meta"
    if large:
        assert text.of(rows)["embeddings"].tolist() == [[3.0], [100.0]]


def test_a_table_that_does_not_fit_waits_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    move = torch.Tensor.to

    def to(self: torch.Tensor, *where: Any, **how: Any) -> torch.Tensor:
        if where and where[0] == torch.device("meta"):
            raise torch.OutOfMemoryError("full")
        return move(self, *where, **how)

    monkeypatch.setattr(torch.Tensor, "to", to)
    text, _ = encoded(monkeypatch, "meta", lambda _: 99)
    assert text.tensors["embeddings"].device.type == "cpu"


def test_images_are_the_same_to_the_bit_wherever_the_table_waits(
    foundation: Foundation, config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "LARGE", 0)
    waiting = Foundation.load(config, CONCEPTS)
    ours = sample(waiting, LABELS, INDICES, config, stream=7)
    assert torch.equal(ours, sample(foundation, LABELS, INDICES, config, stream=7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_that_are_alike_are_refused_in_every_precision(dtype: torch.dtype) -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]], dtype=dtype)
    refuse_alike({"states": rows}, ["a cat", "a dog", "a kitten"], [0, 1, 0])
    with pytest.raises(GeneratorError, match=r"the same in 'a cat', of class number 0, and in 'A"):
        refuse_alike({"states": rows}, ["a cat", "a dog", "A cat"], [0, 1, 2])
