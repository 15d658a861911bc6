"""Who this client is: its configuration, its data and what it keeps between messages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from flwr.app import Context

from regl_app.codehash import own_code_hash
from regl_app.config import RunConfig
from regl_app.data.federation import ClientData, Federation
from regl_app.data.images import Counts
from regl_app.devices import resolve_device
from regl_app.errors import ConfigError
from regl_app.models.build import build_model
from regl_app.models.classifier import Classifier
from regl_app.progress import log_progress, setup_logging
from regl_app.protocol import Envelope, Weights, config_digest
from regl_app.seeding import derive_seed
from regl_app.supplement.synthesizer import Synthesizer
from regl_app.workdir import cache_dir, with_absolute_paths


@dataclass(frozen=True)
class Node:
    """One client of a run; cheap to make, as data and generator are cached per process."""

    config: RunConfig
    envelope: Envelope
    partition_id: int
    num_partitions: int

    @classmethod
    def of(cls, context: Context) -> Node:
        """Return the client that Flower runs in ``context``.

        Raises:
            ConfigError: run or node configuration is invalid.
        """
        setup_logging()
        config = RunConfig.from_flat(context.run_config)
        torch.set_num_threads(config.threads)
        envelope = Envelope(own_code_hash(), config_digest(config))
        partition_id = _whole(context, "partition-id")
        num_partitions = _whole(context, "num-partitions")
        if not 0 <= partition_id < num_partitions:
            raise ConfigError(
                f"partition-id must be between 0 and num-partitions - 1 = {num_partitions - 1}, "
                f"got {partition_id} (set both in --node-config)"
            )
        return cls(with_absolute_paths(config), envelope, partition_id, num_partitions)

    @property
    def name(self) -> str:
        """Return the client's name in logs and random streams."""
        return f"client {self.partition_id}"

    @cached_property
    def federation(self) -> Federation:
        """Return the data of which this client sees its part."""
        return Federation.load(self.config, self.num_partitions)

    @cached_property
    def data(self) -> ClientData:
        """Return this client's images."""
        return self.federation.client(self.partition_id)

    @cached_property
    def real_counts(self) -> Counts:
        """Return the real training images per class, ``(C,)``."""
        return self.data.train.counts(self.num_classes)

    @property
    def num_classes(self) -> int:
        """Return C."""
        return self.federation.num_classes

    @cached_property
    def device(self) -> torch.device:
        """Return where this client computes."""
        return resolve_device(self.config)

    def seed(self, *names: str | int) -> int:
        """Return the seed of one of this client's random streams."""
        return derive_seed(self.config.seed, self.name, *names)

    def model(self, weights: Weights | None = None) -> Classifier:
        """Return the run's classifier, with ``weights`` if given."""
        channels, side, _ = self.federation.source.train.shape
        model = build_model(self.config.model, self.num_classes, channels, side, self.config.seed)
        if weights is not None:
            model.load_state_dict(dict(weights))
        return model.to(self.device)

    def synthesizer(self) -> Synthesizer:
        """Return the door to this worker's generator."""
        return Synthesizer(
            self.config,
            self.federation.source.concepts,
            self.federation.source.train.shape,
            seed=self.config.seed,
            device=self.device,
            cache_dir=cache_dir(self.config),
            progress=log_progress(self.name),
        )


def _whole(context: Context, key: str) -> int:
    value = context.node_config.get(key)
    if type(value) is not int:
        raise ConfigError(
            f"{key} must be a whole number in the node's configuration, got {value!r} "
            "(flower-supernode --node-config 'partition-id=0 num-partitions=10')"
        )
    return value
