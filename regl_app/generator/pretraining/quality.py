"""Judge a generator with a classifier trained on images like those it was trained on."""

from __future__ import annotations

from pathlib import Path

import torch

from regl_app.config import RunConfig
from regl_app.config.sections import ModelConfig
from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.activity import Span
from regl_app.core.seeding import derive_seed
from regl_app.data.images import ImageSet
from regl_app.generator.pretraining.corpus import Corpus
from regl_app.generator.pretraining.model_card import Quality


def train_classifier(corpus: Corpus, seed: int, steps: int) -> torch.nn.Module:
    """Return the default CNN (RGB, 32x32), trained for ``steps`` batches of 64."""
    from regl_app.learning.methods.registry import make_method
    from regl_app.learning.models.build import build_model
    from regl_app.learning.training.loop import train_local

    config = RunConfig.from_any({"method": "fedavg", "train": {"steps": steps, "batch-size": 64}})
    classes = len(corpus.concepts)
    model = build_model(ModelConfig(), classes, 3, 32, derive_seed(seed, "classifier"))
    train_local(
        model,
        corpus.examples,
        config,
        method=make_method(config),
        seed=derive_seed(seed, "classifier-batches"),
        device=torch.device("cpu"),
    )
    return model


def measure_quality(
    folder: Path, corpus: Corpus, count: int, seed: int, classifier_steps: int
) -> Quality:
    """Sample ``count`` images with the default sampler and see how many are what was asked for.

    The classifier never saw a generated image; its accuracy on held-out ones is reported too.
    """
    from regl_app.generator.foundation import Foundation
    from regl_app.generator.sampling import sample
    from regl_app.learning.evaluation.metrics import evaluate

    device = torch.device("cpu")
    model, classes = train_classifier(corpus, seed, classifier_steps), len(corpus.concepts)
    config = GeneratorConfig(path=str(folder))
    foundation = Foundation.load(config, corpus.concepts, device)
    labels = torch.arange(count) % classes
    start = Span()
    stream = derive_seed(seed, "quality")
    images = sample(foundation, labels, range(count), config, stream=stream)
    seconds = start.seconds
    return Quality(
        images=count,
        accuracy=evaluate(model, ImageSet(images, labels), classes, device).accuracy,
        held_out_accuracy=evaluate(model, corpus.held_out, classes, device).accuracy,
        seconds=seconds,
        threads=torch.get_num_threads(),
        steps=config.steps,
        guidance=config.guidance,
    )
