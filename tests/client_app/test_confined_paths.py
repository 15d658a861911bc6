"""What paths of a run's configuration may lead into is the operator's to say."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, RecordDict

from client_app.handlers import hello
from client_app.node import _confined
from client_app.node_config import NodeConfig
from regl_app.config import RunConfig
from regl_app.core.errors import ConfigError, DataError, ProtocolError
from regl_app.core.types import Scalar
from regl_app.flower.messages.content import OURS


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


NODE: dict[str, object] = {"partition-id": 0, "num-partitions": 2}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("data_root", "data-root"),
        ("data-roots", "data-root"),
        ("state_dir", "state-dir"),
        ("data-dirs", "data-dir"),
        ("model", "models"),
        ("warm_minutes", "warm-minutes"),
        ("names", "name"),
    ],
)
def test_a_mistyped_key_limits_nothing_and_is_refused(
    typed: str, meant: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"unknown key '{typed}' .*did you mean '{meant}'\?"):
        NodeConfig.read({**NODE, typed: str(tmp_path)})


def test_every_key_that_a_node_has_is_taken(tmp_path: Path) -> None:
    folder = str(tmp_path)
    given = {"name": "a", "data-dir": folder, "data-root": folder, "state-dir": folder}
    settings = NodeConfig.read({**NODE, **given, "models": "a:B", "warm-minutes": 0})
    assert settings.models == ("a:B",) and settings.state_dir == tmp_path


@pytest.mark.parametrize("given", [True, False])
def test_hello_says_on_the_node_what_holds_there(
    given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("client_app.handlers.is_deployed", lambda: True)
    caplog.set_level("INFO", "regl")
    own = {"data-dir": str(tmp_path), "state-dir": str(tmp_path / "kept")} if given else {}
    run: dict[str, Scalar] = {"method": "fedavg", "cache-dir": str(tmp_path / "cache")}
    context = Context(1, 7, NODE | own, RecordDict(), run)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError):  # also where it is refused
        hello(RecordDict({OURS: ConfigRecord()}), context)
    (line,) = [text for text in caplog.messages if "data-root" in text]
    if given:
        assert line == (
            f"client 0: a run's paths may lead into {tmp_path.resolve()} (data-root, else "
            f"data-dir); adapters, images and state are kept in {tmp_path / 'kept'} (state-dir)"
        )
    else:
        assert "may lead anywhere (no data-root)" in line
        assert f"kept in {tmp_path / 'cache'} (the run's cache-dir)" in line
