"""A run's generator, a client's images and a pair of models, all tiny."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.sections import ModelConfig
from regl_app.core.types import Progress
from regl_app.data.concepts import Concept
from regl_app.data.images import ImageSet
from regl_app.learning.models.build import build_model
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.run_generator import RunGenerator
from regl_app.supplement.synthesizer import Synthesizer

CONCEPTS = ("the digit zero", "the digit one", "the digit two")
SHAPE = (1, 16, 16)


@pytest.fixture(scope="package")
def config(second_pipeline: Path) -> RunConfig:
    """Return a run that tunes LoRA on a generator that takes no time."""
    return RunConfig.from_flat(
        {
            "method": "regl",
            "generator.path": str(second_pipeline),
            "generator.steps": 2,
            "lora.steps": 3,
            "probe.per-class": 2,
            "supplement.cap": 4,
            "pool.per-class": 6,
            "dpo.steps": 2,
            "dpo.batch-size": 2,
        }
    )


@pytest.fixture(scope="package")
def real() -> ImageSet:
    """Return a client's images: eight of class 0, two of class 1, none of class 2."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (10, *SHAPE), dtype=torch.uint8, generator=random)
    return ImageSet(images, torch.tensor([0] * 8 + [1] * 2))


@pytest.fixture(scope="package")
def run_generator() -> Callable[..., RunGenerator]:
    """Return what makes the generator of a configuration."""

    def make(
        config: RunConfig,
        *,
        seed: int = 0,
        concepts: tuple[Concept, ...] = CONCEPTS,
        progress: Progress | None = None,
    ) -> RunGenerator:
        return RunGenerator(config, concepts, SHAPE, seed, torch.device("cpu"), progress)

    return make


@pytest.fixture(scope="package")
def synthesizer() -> Callable[..., Synthesizer]:
    """Return what makes the synthesizer of a configuration and a cache folder."""

    def make(config: RunConfig, cache: Path, progress: Progress | None = None) -> Synthesizer:
        return Synthesizer(
            config, CONCEPTS, SHAPE, seed=0, device="cpu", cache_dir=cache, progress=progress
        )

    return make


@pytest.fixture(scope="package")
def model_pair() -> Callable[..., ModelPair]:
    """Return what makes an untrained global and local model from their seeds."""

    def make(seeds: tuple[int, int] = (0, 1)) -> ModelPair:
        models = [build_model(ModelConfig(width=4), len(CONCEPTS), 1, 16, seed) for seed in seeds]
        return ModelPair(models[0], models[1], torch.device("cpu"))

    return make
