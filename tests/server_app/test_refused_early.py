"""What can be known before is refused before: no node is asked, and no image is read if it can."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from regl_app.config import RunConfig
from regl_app.core.errors import ReglError
from regl_app.core.types import Scalar
from regl_app.data import federation
from regl_app.data.federation import Federation
from regl_app.flower.engines.in_process import run_in_process

FLWR: dict[str, Scalar] = {
    "partition.scheme": "flwr",
    "partition.partitioner": "DirichletPartitioner",
}


@pytest.fixture
def nobody() -> ClientApp:
    """Return the nodes' app: who asks it has come too far."""
    app = ClientApp()

    def asked(_: Message, __: Context) -> Message:
        raise AssertionError("a node was asked")

    app.query()(asked)
    return app


@pytest.fixture
def refused(tmp_path: Path, nobody: ClientApp) -> Callable[..., str]:
    """Return what a run of two clients with changed keys is refused by."""

    def message(changes: dict[str, Scalar]) -> str:
        keys: dict[str, Scalar] = {
            "method": "fedavg",
            "data.max-train": 40,
            "data.max-test": 20,
            "model.width": 4,
            "out-dir": str(tmp_path / "runs"),
            "cache-dir": str(tmp_path / "cache"),
            "tensorboard": False,
            "report": False,
        }
        with pytest.raises(ReglError) as caught:
            run_in_process(RunConfig.from_flat(keys | changes), clients=2, client_app=nobody)
        return str(caught.value)

    return message


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({**FLWR, "partition.arguments": '{"alpha": -1}'}, "DirichletPartitioner"),
        ({**FLWR, "partition.arguments": '{"alpha": [1.0, 2.0, 3.0]}'}, "DirichletPartitioner"),
        ({"partition.scheme": "file", "partition.file": "absent.csv"}, "absent.csv cannot be read"),
        ({"partition.scheme": "file", "partition.file": "three.json"}, "client 2, and there are 2"),
        ({"partition.scheme": "file", "partition.file": "odd.json"}, "client 0, entry 1: must be"),
    ],
)
def test_a_partition_for_other_clients_is_refused_before_images_are_read(
    keys: dict[str, Scalar],
    words: str,
    refused: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("three.json").write_text(json.dumps([[0], [1], [2]]))
    Path("odd.json").write_text(json.dumps([[0, None], [1]]))
    monkeypatch.setattr("regl_app.data.prompt_table.load_source", _unread)
    monkeypatch.setattr(federation, "load_source", _unread)
    assert words in refused(keys)
    assert not Path("runs").exists()
    with pytest.raises(ReglError, match=words):
        Federation.load(RunConfig.from_flat(keys), 2)


def _unread(*_: object, **__: object) -> None:
    raise AssertionError("images were read")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"partition.looks": "plain,tinted"}, "'tinted' is for colour pictures"),
        ({"partition.scheme": "column", "partition.column": "ward"}, "partition.column='ward'"),
    ],
)
def test_what_is_not_for_these_images_is_refused_before_nodes_are_asked(
    keys: dict[str, Scalar], words: str, refused: Callable[..., str]
) -> None:
    assert words in refused(keys)
