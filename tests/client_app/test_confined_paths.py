"""What paths of a run's configuration may lead into is the operator's to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from client_app.node import _confined
from client_app.node_config import NodeConfig
from regl_app.config import RunConfig
from regl_app.core.errors import DataError


@pytest.mark.parametrize(
    "key",
    [
        "data.path",
        "partition.file",
        "generator.path",
        "generator.prompts",
        "generator.image-encoder",
        "generator.ip-adapter",
        "supplement.distance",
        "cache-dir",
    ],
)
def test_a_path_out_of_data_root_is_refused(key: str, tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    values = {"partition-id": 0, "num-partitions": 2, "data-root": str(tmp_path / "allowed")}
    settings = NodeConfig.read(values)
    needed = {
        "partition.file": {"partition.scheme": "file"},
        "data.path": {"data.source": "folder"},
        "generator.ip-adapter": {"generator.image-encoder": "a/b"},
    }
    inside = needed.get(key, {}) | {
        "cache-dir": str(tmp_path / "allowed" / "cache"),
        key: str(tmp_path / "allowed" / "x.safetensors"),
    }
    outside = inside | {key: str(tmp_path / "x.safetensors")}
    _confined(RunConfig.from_flat(inside), settings)
    with pytest.raises(DataError, match=rf"{key} must lie in .*data-root="):
        _confined(RunConfig.from_flat(outside), settings)
