"""What a node's operator configures: ``flower-supernode --node-config``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from flwr.common.constant import NUM_PARTITIONS_KEY, PARTITION_ID_KEY

from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import ConfigError
from regl_app.core.near_names import close_to

WARM_MINUTES = "warm-minutes"
KEYS = (
    PARTITION_ID_KEY,  # these two are all that Flower itself sets, in a simulation
    NUM_PARTITIONS_KEY,
    "name",
    "data-dir",
    "data-root",
    "state-dir",
    "models",
    WARM_MINUTES,
)


@dataclass(frozen=True)
class NodeConfig:
    """One node's own settings; a simulation sets the first two and nothing else.

    ``name`` is what logs and errors call the node; ``data_dir`` holds its images, where they are
    its own; ``state_dir`` receives adapters, images and what outlives a message, None where the
    run says; ``roots`` are what paths of the run's configuration may lead into; ``models`` the
    dotted names of classifiers, code of this node, that a run may name.
    """

    partition_id: int
    num_partitions: int
    name: str
    data_dir: Path | None
    state_dir: Path | None
    roots: AllowedFolders
    models: tuple[str, ...] = ()

    @classmethod
    def read(cls, values: Mapping[str, object]) -> Self:
        """Return the settings in a node's configuration, as Flower hands it over.

        Where ``data-dir`` is given without ``data-root``, that folder is all that is allowed.

        Raises:
            ConfigError: names the key, the value seen, what is allowed and an example.
        """
        for key in values:
            if key not in KEYS:  # a mistyped data-root would allow every path
                raise ConfigError(
                    f"unknown key {key!r} in the node's configuration, which takes "
                    f"{', '.join(KEYS)}{close_to(key, KEYS)} (flower-supernode --node-config)"
                )
        partition_id = _whole(values, "partition-id")
        num_partitions = _whole(values, "num-partitions")
        if not 0 <= partition_id < num_partitions:
            raise ConfigError(
                f"partition-id must be between 0 and num-partitions - 1 = {num_partitions - 1}, "
                f"got {partition_id} (set both in --node-config)"
            )
        data_dir, state_dir = _folder(values, "data-dir"), _folder(values, "state-dir")
        roots = AllowedFolders.parse(_text(values, "data-root"))
        if data_dir is not None and not roots.folders:
            roots = AllowedFolders((data_dir.resolve(),))
        name = _text(values, "name") or f"client {partition_id}"
        models = tuple(n.strip() for n in _text(values, "models").split(",") if n.strip())
        return cls(partition_id, num_partitions, name, data_dir, state_dir, roots, models)


def _whole(values: Mapping[str, object], key: str) -> int:
    value = values.get(key)
    if type(value) is not int:
        raise ConfigError(
            f"{key} must be a whole number in the node's configuration, got {value!r} "
            "(flower-supernode --node-config 'partition-id=0 num-partitions=10')"
        )
    return value


def _text(values: Mapping[str, object], key: str) -> str:
    value = values.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(
            f"{key} must be a text in the node's configuration, got {value!r} "
            f"(flower-supernode --node-config '{key}=\"...\"', with the inner quotes)"
        )
    return value


def _folder(values: Mapping[str, object], key: str) -> Path | None:
    text = _text(values, key)
    if not text:
        return None
    if not Path(text).is_absolute():
        raise ConfigError(
            f"{key} must be an absolute path in the node's configuration, got {text!r} "
            f"(flower-supernode --node-config '{key}=\"/srv/...\"')"
        )
    return Path(text)
