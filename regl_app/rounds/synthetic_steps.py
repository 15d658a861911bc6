"""The server's steps on synthetic images: with the experts' opinion, or before anybody trains."""

from __future__ import annotations

from pathlib import Path

import torch

from regl_app.config import RunConfig
from regl_app.config.sections import TrainConfig
from regl_app.core.activity import timed
from regl_app.core.errors import RunError
from regl_app.core.finite import not_finite
from regl_app.core.log import log_progress, logger
from regl_app.core.seeding import derive_seed
from regl_app.core.types import Weights
from regl_app.data.images import ImageSet
from regl_app.data.source import Source
from regl_app.learning.methods.method import Method
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.training.loop import train_local
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.synthesizer import Synthesizer


def train_on_synthetic(
    model: Classifier,
    images: ImageSet,
    train: TrainConfig,
    *,
    steps: int,
    seed: int,
    device: torch.device,
    targets: torch.Tensor | None = None,
) -> Weights:
    """Train ``model`` in place by plain cross-entropy and return its weights, on the processor.

    Args:
        model: what to go on from.
        images: synthetic ones, all classes alike.
        train: rate, batch size and optimizer; its number of steps and class weights are not used.
        steps: how many.
        seed: of the order of images.
        device: where to compute.
        targets: soft labels ``(N, C)``; None: the prompts.
    """
    train = train.model_copy(update={"steps": steps, "epochs": 0, "class_weights": "none"})
    train_local(
        model,
        images,
        train,
        method=Method(train),
        seed=seed,
        device=device,
        real_images=0,
        targets=targets,
    )
    return {name: value.cpu() for name, value in model.state_dict().items()}


def teach_first(
    config: RunConfig, model: Classifier, source: Source, *, device: torch.device, cache_dir: Path
) -> float:
    """Give ``model`` what the shared pool teaches before round 1; return the seconds of it all.

    Its labels are the prompts, as nobody has trained yet. No client has a part in it. Without
    ``teaching.first-steps`` the model stays as it is.

    Args:
        config: the run.
        model: the first global model, changed in place.
        source: classes and image shape; no image of it is looked at.
        device: where to compute.
        cache_dir: root of the caches.

    Raises:
        RunError: the model has diverged.
        GeneratorError: the generator cannot draw these classes.
    """
    steps = config.teaching.first_steps
    if steps == 0:
        return 0.0
    with timed("teach") as took:
        synthesizer = Synthesizer.of(config, source, device, cache_dir, log_progress("server"))
        images = synthesizer.pool(ClientGenerator.frozen("pool")).images
        weights = train_on_synthetic(
            model,
            images,
            config.train,
            steps=steps,
            seed=derive_seed(config.seed, "server", "first"),
            device=device,
        )
    if (name := not_finite(weights)) is not None:
        raise RunError(
            f"the first model, taught by synthetic images, is not finite in {name!r} (lower "
            f"train.lr={config.train.lr:g}, or set teaching.first-steps=0, got {steps})"
        )
    logger.info(
        "first model: %d steps on %d synthetic images, %.1f s", steps, len(images), took.seconds
    )
    return took.seconds
