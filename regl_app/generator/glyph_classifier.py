"""Judge a generator of digits with a classifier that was trained on rendered glyphs."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from regl_app.config import RunConfig
from regl_app.config_sections import GeneratorConfig, ModelConfig
from regl_app.data.images import ImageSet
from regl_app.generator.glyphs import CONCEPTS, GlyphBank
from regl_app.generator.model_card import Quality
from regl_app.seeding import derive_seed, torch_generator

_TRAIN_IMAGES = 12_000
_TEST_IMAGES = 2_000


def train_glyph_classifier(bank: GlyphBank, seed: int, steps: int) -> torch.nn.Module:
    """Return the default CNN (RGB, 32x32), trained on fresh renders for ``steps`` batches of 64."""
    from regl_app.methods.registry import make_objective
    from regl_app.models.build import build_model
    from regl_app.training.loop import train_local

    images, labels = bank.sample(_TRAIN_IMAGES, torch_generator(seed, "classifier"))
    config = RunConfig.from_any({"method": "fedavg", "train": {"steps": steps, "batch-size": 64}})
    model = build_model(ModelConfig(), 10, 3, 32, derive_seed(seed, "classifier"))
    train_local(
        model,
        ImageSet(images, labels),
        config,
        objective=make_objective(config),
        seed=derive_seed(seed, "classifier-batches"),
        device=torch.device("cpu"),
    )
    return model


def measure_quality(
    folder: Path, bank: GlyphBank, count: int, seed: int, classifier_steps: int
) -> Quality:
    """Sample ``count`` images with the default sampler and see how many are what was asked for.

    The classifier never saw a generated image; its accuracy on held-out renders is reported too.
    """
    from regl_app.evaluation.metrics import evaluate
    from regl_app.generator.foundation import Foundation
    from regl_app.generator.sampling import sample

    device = torch.device("cpu")
    model = train_glyph_classifier(bank, seed, classifier_steps)
    held_out = ImageSet(*bank.sample(_TEST_IMAGES, torch_generator(seed, "held-out")))
    config = GeneratorConfig(path=str(folder))
    foundation = Foundation.load(config, CONCEPTS, device)
    labels = torch.arange(count) % len(CONCEPTS)
    start = time.perf_counter()
    stream = derive_seed(seed, "quality")
    images = sample(foundation, labels, range(count), config, stream=stream)
    seconds = time.perf_counter() - start
    return Quality(
        images=count,
        accuracy=evaluate(model, ImageSet(images, labels), 10, device).accuracy,
        render_accuracy=evaluate(model, held_out, 10, device).accuracy,
        seconds=seconds,
        threads=torch.get_num_threads(),
        steps=config.steps,
        guidance=config.guidance,
    )
