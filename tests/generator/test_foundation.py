from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import ConfigError, GeneratorError
from regl_app.core.precision import Precision, resolve_precision
from regl_app.generator.checkpoint import generator_digest, resolve_generator
from regl_app.generator.compatibility import check_concepts
from regl_app.generator.fitting import fitted
from regl_app.generator.foundation import Foundation, shared_foundation

CONCEPTS = ("the digit zero", "the digit one")


@pytest.fixture(scope="module")
def foundation(second_pipeline: Path) -> Foundation:
    return Foundation.load(GeneratorConfig(path=str(second_pipeline)), CONCEPTS)


def test_shapes_come_from_the_checkpoint(foundation: Foundation) -> None:
    assert foundation.image_size == 48
    assert foundation.latent_shape == (4, 12, 12)
    assert foundation.family.part == "unet"
    assert foundation.text.tensors["embeddings"].shape == (
        3,
        32,
        24,
    )  # two classes and the empty prompt


def test_a_key_that_waits_for_the_checkpoint_is_named(second_pipeline: Path) -> None:
    run = RunConfig.from_flat({"generator.path": str(second_pipeline), "generator.guidance": 2.0})
    with pytest.raises(GeneratorError, match=r"^generator\.steps\b.*: 'auto' until .*fitted\("):
        Foundation.load(run.generator, CONCEPTS)
    assert Foundation.load(fitted(run).generator, CONCEPTS).num_classes == 2


def test_prompts_are_told_apart_and_equal_those_of_the_pipeline(
    foundation: Foundation, second_pipeline: Path
) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(second_pipeline)
    expected, _ = pipeline.encode_prompt("a photo of the digit one", "cpu", 1, False)
    assert torch.allclose(foundation.text.tensors["embeddings"][1], expected[0], atol=1e-5)
    assert not torch.allclose(foundation.text.tensors["embeddings"][0], expected[0], atol=1e-3)


def test_encode_and_decode_keep_the_pipeline_s_scale(foundation: Foundation) -> None:
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = foundation.encode(images)
        expected = foundation.vae.encode(images).latent_dist.mode() * 0.5
        decoded = foundation.decode(latents)
    assert torch.allclose(latents, expected, atol=0.05)  # bf16 against fp32
    assert decoded.shape == (2, 3, 48, 48)


def test_weights_are_frozen_fp32(foundation: Foundation) -> None:
    for module in (foundation.denoiser, foundation.vae):
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in module.parameters())


def test_the_log_says_what_it_runs_in(
    second_pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="regl")
    config = GeneratorConfig(path=str(second_pipeline), precision="bf16")
    shared_foundation(config, ("a log", "a line"))
    (line,) = [text for text in caplog.messages if text.startswith("generator loaded to cpu ")]
    assert "(runs in bf16, weights held in fp32) in " in line


def test_one_foundation_per_thread_and_configuration(second_pipeline: Path) -> None:
    import threading

    config = GeneratorConfig(path=str(second_pipeline))
    first = shared_foundation(config, CONCEPTS)
    # The sampler's keys do not load another foundation; the prompts do.
    assert shared_foundation(config.model_copy(update={"steps": 3}), CONCEPTS) is first
    others: list[Foundation] = []
    thread = threading.Thread(target=lambda: others.append(shared_foundation(config, CONCEPTS)))
    thread.start()
    thread.join()
    assert others[0] is not first
    assert shared_foundation(config, ("a cat", "a dog")) is not first


def test_a_folder_replaced_in_place_is_loaded_anew_but_not_in_the_midst_of_a_run(
    second_pipeline: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "generator"
    shutil.copytree(second_pipeline, copy)
    config = GeneratorConfig(path=str(copy))
    known = generator_digest(copy)
    first = shared_foundation(config, CONCEPTS)
    assert shared_foundation(config, CONCEPTS, digest=known) is first
    weights = next((copy / "unet").glob("*.safetensors"))
    tensors = load_file(weights)
    save_file({name: value * 2 for name, value in tensors.items()}, weights)
    second = shared_foundation(config, CONCEPTS)
    assert second is not first
    assert shared_foundation(config, CONCEPTS, digest=generator_digest(copy)) is second
    name, value = next(iter(second.denoiser.state_dict().items()))
    assert torch.equal(value, first.denoiser.state_dict()[name] * 2)
    with pytest.raises(GeneratorError, match="replaced in the midst of a run"):
        shared_foundation(config, CONCEPTS, digest=known)


def test_image_size_must_fit_the_vae(second_pipeline: Path) -> None:
    config = GeneratorConfig(path=str(second_pipeline), image_size=33)
    with pytest.raises(GeneratorError, match=r"image-size must be a multiple of 4 .* got 33"):
        Foundation.load(config, CONCEPTS)


@pytest.mark.parametrize("concepts", [("an airplane", "the digit one"), ("the letter b",)])
def test_the_bundled_generator_refuses_what_it_would_draw_as_digits(
    concepts: tuple[str, ...], second_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GeneratorError, match=r"knows the ten digits only, not '(an air|the let)"):
        Foundation.load(GeneratorConfig(), concepts)
    check_concepts(str(second_pipeline), concepts)  # any other may know them
    monkeypatch.setenv("REGL_GENERATOR", str(second_pipeline))
    check_concepts("bundled", concepts)


@pytest.mark.parametrize("concept", ["the digit three", "three", "Three handwritten"])
def test_the_bundled_generator_takes_digits_by_any_name(concept: str) -> None:
    check_concepts("bundled", (concept,))


def test_no_such_generator_is_refused_by_name() -> None:
    with pytest.raises(GeneratorError, match="'nowhere' is no folder"):
        resolve_generator("nowhere")


@pytest.mark.parametrize(
    ("part", "changes", "problem"),
    [
        (
            "scheduler",
            {"_class_name": "EDMDPMSolverMultistepScheduler", "sigma_data": 0.5},
            "the scheduler of .* is an EDMDPMSolverMultistepScheduler",
        ),
        (
            "vae",
            {"latents_mean": [0.1] * 4, "latents_std": [2.0] * 4},
            "the VAE of .* latents_mean",
        ),
    ],
)
def test_another_scale_of_noise_or_latents_is_refused_by_name(
    second_pipeline: Path, tmp_path: Path, part: str, changes: dict[str, Any], problem: str
) -> None:
    """Playground 2.5, which diffusers also takes for a Stable Diffusion XL."""
    folder = tmp_path / "copy"
    shutil.copytree(second_pipeline, folder)
    file = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps(content), encoding="utf-8")
    index = folder / "model_index.json"
    if part == "scheduler":
        text = json.loads(index.read_text(encoding="utf-8"))
        text["scheduler"][1] = changes["_class_name"]
        index.write_text(json.dumps(text), encoding="utf-8")
    with pytest.raises(GeneratorError, match=problem):
        Foundation.load(GeneratorConfig(path=str(folder)), ("a cat", "a dog"))


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="holds no model_index"):
        resolve_generator(str(tmp_path))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_damaged_or_pickled_weights_are_refused(
    second_pipeline: Path, tmp_path: Path, precision: Precision
) -> None:
    config = GeneratorConfig(path=str(tmp_path / "damaged"), precision=precision)
    folder = tmp_path / "damaged"
    shutil.copytree(second_pipeline, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(GeneratorError, match="cannot be loaded"):
        Foundation.load(config, CONCEPTS)
    weights.rename(weights.with_suffix(".bin"))  # what is no safetensors file is never read
    with pytest.raises(GeneratorError, match="cannot be loaded"):
        Foundation.load(config, CONCEPTS)


def test_digest_follows_content_not_place(second_pipeline: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(second_pipeline, folder)
    (folder / "README.md").write_text("a model card is no content")
    assert generator_digest(folder) == generator_digest(second_pipeline)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("epsilon", "v_prediction"))
    assert generator_digest(folder) != generator_digest(second_pipeline)


def test_fp16_on_a_processor_is_refused() -> None:
    with pytest.raises(ConfigError, match="'fp16' needs a GPU"):
        resolve_precision("fp16", torch.device("cpu"))
    assert resolve_precision("fp32", torch.device("cpu")) == "fp32"
