"""Who this client is: its configuration, its data and what it keeps between messages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from flwr.app import Context

from client_app.node_config import NodeConfig
from regl_app.config import RunConfig
from regl_app.config.choices import SITES
from regl_app.config.paths import cache_dir, with_absolute_paths
from regl_app.config.sections import DataConfig, PartitionConfig
from regl_app.config.supplement_sections import prompts_are_inside
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.devices import resolve_device
from regl_app.core.errors import ConfigError
from regl_app.core.log import is_deployed, logger, setup_logging
from regl_app.core.types import Tensors, Weights
from regl_app.data.client import ClientData
from regl_app.data.federation import Federation
from regl_app.data.picture_store import PictureStore
from regl_app.data.prompt_table import with_prompts_inside
from regl_app.data.run_files import RunFiles, read_by_all
from regl_app.data.run_pictures import KeptPictures
from regl_app.data.source import Source
from regl_app.data.sources.site import SiteFolder, load_site
from regl_app.flower.code_hash import refuse_uncovered, run_code_hash
from regl_app.flower.messages.handshake import Handshake, config_digest
from regl_app.flower.shared_files import alike_here
from regl_app.generator.adaptation.shared import up_template
from regl_app.generator.adapters import most_adapter_bytes
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.fitting import fitted
from regl_app.learning.methods.registry import make_method
from regl_app.learning.models.build import model_of
from regl_app.learning.models.classifier import Classifier
from regl_app.rounds.client import Client
from regl_app.rounds.method_state import first_state, shared_weights
from regl_app.supplement.payload import PayloadLimits
from regl_app.supplement.privacy import releases


@dataclass(frozen=True)
class Node:
    """One client of a run; cheap to make, as data and generator are cached per process."""

    config: RunConfig
    handshake: Handshake
    settings: NodeConfig
    run: int = 0
    """Flower's number of the run."""
    run_name: str = ""
    """What the server calls the run, the same where it goes on after a break; '' if not told."""

    @classmethod
    def of(cls, context: Context, run_name: str = "") -> Node:
        """Return the client that Flower runs in ``context``, asked in a run called ``run_name``.

        Raises:
            ConfigError: run or node configuration is invalid, or not for a deployment.
            DataError: a path of the run leads out of what the operator allows, or a file cannot be
                read.
            GeneratorError: a file of prompts cannot be read.
        """
        config = RunConfig.from_flat(context.run_config)
        settings = NodeConfig.read(context.node_config)
        refuse_uncovered(config, settings.models)
        _refuse_unkept_noise(config, settings)
        setup_logging(config.log_format)
        torch.set_num_threads(config.threads)
        confined = with_prompts_inside(_confined(with_absolute_paths(config), settings))
        if prompts_are_inside(confined.generator.prompts):  # files are compared by content
            config = config.updated({"generator.prompts": confined.generator.prompts})
        handshake = Handshake(
            run_code_hash(config),
            config_digest(config),
            settings.num_partitions,
            read_by_all(confined),
        )
        node = cls(confined, handshake, settings, context.run_id, run_name)
        return replace(node, handshake=replace(handshake, alike=lambda: node.alike))

    @property
    def partition_id(self) -> int:
        """Return which client this is, from 0."""
        return self.settings.partition_id

    @property
    def num_partitions(self) -> int:
        """Return K, the number of clients."""
        return self.settings.num_partitions

    @cached_property
    def _federation(self) -> Federation:
        config, roots = self.config, self.settings.roots
        files = _files_of_run(self.run, config.data, config.partition, roots)
        return Federation.load(config, self.num_partitions, roots, self._store, files)

    @property
    def alike(self) -> dict[str, str]:
        """Return digests of what this client must have as the others have it."""
        return alike_here(self.config, self._federation)

    @property
    def _state_dir(self) -> Path:
        return self.settings.state_dir or cache_dir(self.config)

    @property
    def limits(self) -> str:
        """Return, for the operator, where a run may lead this node and where it keeps things."""
        roots = ", ".join(map(str, self.settings.roots.folders))
        led = f"into {roots} (data-root, else data-dir)" if roots else "anywhere (no data-root)"
        whose = "state-dir" if self.settings.state_dir else "the run's cache-dir"
        return (
            f"a run's paths may lead {led}; adapters, images and state are kept in "
            f"{self._state_dir} ({whose})"
        )

    @property
    def _store(self) -> PictureStore:
        return PictureStore.of(self.config, self._state_dir)

    @property
    def source(self) -> Source:
        """Return the data set of which this client has a part: classes, concepts, image shape."""
        return self._federation.source

    @cached_property
    def client(self) -> Client:
        """Return the client of the round: what of this node the library needs.

        Raises:
            DataError: its images cannot be read.
        """
        return Client(
            self.config,
            self.partition_id,
            self.source,
            self.data,
            resolve_device(self.config.device),
            self._state_dir,
            self.settings.name,
            (self.handshake.code_hash, self.handshake.config_digest),
        )

    @property
    def template(self) -> Weights:
        """Return a model state with the names, shapes and types that the server's must have."""
        return shared_weights(self.config, make_method(self.config), self._untrained)

    @property
    def method_template(self) -> Tensors:
        """Return tensors with the names, shapes and types of the method's state at the server."""
        return first_state(self.config, make_method(self.config), self._untrained)

    @property
    def adapter_template(self) -> Callable[[], Tensors] | None:
        """Return what tells names, shapes and type of B, where one adapter serves all clients."""
        config = self.config
        if not config.shares_adapter:
            return None
        return lambda: up_template(resolve_generator(config.generator.path), fitted(config).lora)

    @cached_property
    def _untrained(self) -> Classifier:
        return model_of(self.config, self.source)

    @cached_property
    def data(self) -> ClientData:
        """Return this client's images: its part of the source, or its own folder's.

        Raises:
            DataError: they cannot be read.
        """
        if not self.config.data.local:
            return self._federation.client(self.partition_id)
        if self.settings.data_dir is None:
            raise ConfigError(
                "data.source='site' needs data-dir, this node's image "
                "folder, in its configuration (flower-supernode --node-config "
                "'data-dir=\"/srv/images\"'); a simulation has no sites (use another data.source)"
            )
        folder = SiteFolder(self.settings.data_dir, self.settings.roots)
        kept = None
        if self.run_name:
            kept = KeptPictures.of(self._state_dir, self.run_name, self.partition_id)
            if self.config.resume and not kept.path.exists():
                logger.warning(
                    "%s: nothing here says which pictures this run began with (no round of it was "
                    "complete, this node joins it, or its state-dir was emptied): it goes on with "
                    "those that are there now",
                    self.settings.name,
                )
        return load_site(
            folder,
            self.config.data,
            self.partition_id,
            self.config.partition.test_fraction,
            self.config.validation.fraction,
            self._store,
            kept,
        )

    @property
    def num_classes(self) -> int:
        """Return C."""
        return self.source.num_classes

    @property
    def payload_limits(self) -> PayloadLimits | None:
        """Return what the server may send at most; None where this client generates itself."""
        config = self.config
        if not config.uses_generator or not SITES[config.supplement.site].sends_images:
            return None
        return PayloadLimits(
            self.num_classes * config.supplement.cap,
            math.prod(self.source.train.shape),
            lambda: most_adapter_bytes(
                resolve_generator(config.generator.path), fitted(config).lora.rank
            ),
        )


@lru_cache(maxsize=8)
def _files_of_run(
    _run: int, data: DataConfig, partition: PartitionConfig, roots: AllowedFolders
) -> RunFiles:
    """Return the states of a run's files when this process first needed them in it.

    What changes in the midst of a run is the next one's: all rounds are on the same images.
    """
    return RunFiles.of(data, partition, roots)


def _refuse_unkept_noise(config: RunConfig, settings: NodeConfig) -> None:
    """Refuse in a deployment noise whose secret would lie where the run says.

    Whoever submits runs would get another draw by another folder, and the mean of many is exact.
    """
    if settings.state_dir is not None or config.privacy.reproducible or not is_deployed():
        return
    if config.tells_noisy_counts:
        noisy = f"teaching.say={config.say!r}"
    elif config.privacy.noise > 0 and releases(config):
        noisy = f"privacy.noise={config.privacy.noise}"
    else:
        return
    raise ConfigError(
        f"{noisy} needs state-dir in this node's configuration, which has none: the secret that "
        "noise is drawn from would lie in the run's cache-dir, and every other folder would have "
        "it drawn anew (flower-supernode --node-config 'state-dir=\"/srv/regl/state\"')"
    )


def _confined(config: RunConfig, settings: NodeConfig) -> RunConfig:
    """Return ``config`` with what is the server's taken out, its paths checked by ``settings``.

    Raises:
        DataError: a path leads out of what the operator allows.
    """
    if config.data.local:
        config = config.updated({"data.path": ""})
    paths = {
        "data.path": config.data.path,
        "partition.file": config.partition.file,
        "generator.path": config.generator.path,
        "generator.prompts": config.generator.prompts,
        "generator.image-encoder": config.generator.image_encoder,
        "generator.ip-adapter": config.generator.ip_adapter,
        "supplement.distance": config.supplement.distance_file,
    }
    if settings.state_dir is None:
        paths["cache-dir"] = config.cache_dir
    for key, path in paths.items():
        if Path(path).is_absolute():  # else empty, a word or a hub id
            settings.roots.inside(Path(path), key)
    return config
