"""Judge a generator by classifiers, one of its own look and one of undisguised images."""

from __future__ import annotations

from pathlib import Path

import torch

from regl_app.config import RunConfig
from regl_app.config.sections import ModelConfig
from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.activity import Span
from regl_app.core.seeding import derive_seed
from regl_app.data.images import ImageSet
from regl_app.generator.pretraining.corpus import Corpus, Undisguised
from regl_app.generator.pretraining.model_card import Purity, Quality


def train_classifier(examples: ImageSet, classes: int, seed: int, steps: int) -> torch.nn.Module:
    """Return the default CNN (RGB, 32x32), trained on ``examples`` for ``steps`` batches of 64."""
    from regl_app.learning.methods.registry import make_method
    from regl_app.learning.models.build import build_model
    from regl_app.learning.training.loop import train_local

    config = RunConfig.from_any({"method": "fedavg", "train": {"steps": steps, "batch-size": 64}})
    model = build_model(ModelConfig(), classes, 3, 32, derive_seed(seed, "classifier"))
    train_local(
        model,
        examples,
        config,
        method=make_method(config),
        seed=derive_seed(seed, "classifier-batches"),
        device=torch.device("cpu"),
    )
    return model


def measure_quality(
    folder: Path,
    corpus: Corpus,
    count: int,
    seed: int,
    classifier_steps: int,
    judge_steps: int = 0,
) -> Quality:
    """Sample ``count`` images with the default sampler and see how many are what was asked for.

    The classifiers never saw a generated image; their accuracy on held-out ones is reported too.
    With ``judge_steps`` and a corpus in disguise a second one, trained for so many steps on the
    undisguised images, tells the purity.
    """
    from regl_app.generator.foundation import Foundation
    from regl_app.generator.sampling import sample
    from regl_app.learning.evaluation.metrics import evaluate

    device, classes = torch.device("cpu"), len(corpus.concepts)
    model = train_classifier(corpus.examples, classes, seed, classifier_steps)
    config = GeneratorConfig(path=str(folder))
    foundation = Foundation.load(config, corpus.concepts, device)
    labels = torch.arange(count) % classes
    start = Span()
    stream = derive_seed(seed, "quality")
    images = sample(foundation, labels, range(count), config, stream=stream)
    seconds = start.seconds
    samples = ImageSet(images, labels)
    return Quality(
        images=count,
        accuracy=evaluate(model, samples, classes, device).accuracy,
        held_out_accuracy=evaluate(model, corpus.held_out, classes, device).accuracy,
        seconds=seconds,
        threads=torch.get_num_threads(),
        steps=config.steps,
        guidance=config.guidance,
        purity=measure_purity(samples, corpus, seed, judge_steps) if judge_steps else None,
    )


def train_judge(plain: Undisguised, classes: int, seed: int, steps: int) -> torch.nn.Module:
    """Return a classifier of the undisguised images: the judge of purity."""
    return train_classifier(plain.examples, classes, derive_seed(seed, "judge"), steps)


def measure_purity(samples: ImageSet, corpus: Corpus, seed: int, steps: int) -> Purity | None:
    """Return what a judge of the undisguised images, trained for ``steps``, reads as meant.

    None where ``corpus`` is in no disguise.
    """
    from regl_app.learning.evaluation.metrics import evaluate

    plain = corpus.undisguised
    if plain is None:
        return None
    device, classes = torch.device("cpu"), len(corpus.concepts)
    judge = train_judge(plain, classes, seed, steps)
    found = evaluate(judge, samples, classes, device)
    return Purity(
        samples=found.accuracy,
        held_out=evaluate(judge, corpus.held_out, classes, device).accuracy,
        undisguised=evaluate(judge, plain.held_out, classes, device).accuracy,
        per_class=tuple(found.per_class),
    )
