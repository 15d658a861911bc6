"""One client of a federation, wherever it runs: its data, models and random streams."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from regl_app.config import RunConfig
from regl_app.core.log import log_progress
from regl_app.core.seeding import derive_seed
from regl_app.core.types import Counts, Tensors, Weights
from regl_app.data.client import ClientData
from regl_app.data.source import Source
from regl_app.learning.methods.method import personal
from regl_app.learning.methods.registry import make_method
from regl_app.learning.models.build import model_of
from regl_app.learning.models.classifier import Classifier
from regl_app.supplement.synthesizer import Synthesizer


def client_name(partition_id: int) -> str:
    """Return a client's name in random streams: wherever it runs, it is the same client."""
    return f"client {partition_id}"


@dataclass(frozen=True)
class Client:
    """Who takes part in a round.

    ``source`` tells classes, concepts and the images' shape; ``data`` are the client's own images.
    ``state_dir`` receives adapters, images and what outlives a round; ``label`` is what logs call
    the client; ``identity`` are digests of code and configuration, by which what an earlier round
    left is found again.
    """

    config: RunConfig
    partition_id: int
    source: Source
    data: ClientData
    device: torch.device
    state_dir: Path
    label: str
    identity: tuple[str, str] = ("", "")

    @property
    def name(self) -> str:
        """Return the client's name in random streams."""
        return client_name(self.partition_id)

    @property
    def num_classes(self) -> int:
        """Return C."""
        return self.source.num_classes

    @cached_property
    def real_counts(self) -> Counts:
        """Return the real training images per class, ``(C,)``."""
        return self.data.train.counts(self.num_classes)

    @cached_property
    def template(self) -> Weights:
        """Return a state of the whole model by name, on the CPU: for names, shapes and types."""
        return model_of(self.config, self.source).state_dict()

    def seed(self, *names: str | int) -> int:
        """Return the seed of one of this client's random streams."""
        return derive_seed(self.config.seed, self.name, *names)

    def model(self, weights: Weights | None = None, kept: Tensors | None = None) -> Classifier:
        """Return the run's classifier, with ``weights`` if given.

        What of a model stays at clients (``personal``) comes from ``kept``, else it is untrained.
        """
        model = model_of(self.config, self.source)
        if weights is not None:
            own = personal(make_method(self.config), list(model.state_dict()))
            state = {name: value for name, value in (kept or {}).items() if name in own}
            model.load_state_dict(model.state_dict() | dict(weights) | state)
        return model.to(self.device)

    @cached_property
    def synthesizer(self) -> Synthesizer:
        """Return the door to this worker's generator."""
        return Synthesizer.of(
            self.config, self.source, self.device, self.state_dir, log_progress(self.label)
        )
