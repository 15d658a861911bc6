"""A client's sample pictures are for looking at: what is in their way fails no training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from client_app.node import Node
from client_app.samples import leave_samples
from regl_app.core.types import Scalar
from regl_app.runs.samples import load_samples
from regl_app.supplement.client_generator import ClientGenerator

KEYS: dict[str, Scalar] = {
    "method": "fedavg",
    "data.max-train": 60,
    "data.max-test": 20,
    "data.image-size": 16,
}


@pytest.fixture
def leave(tmp_path: Path) -> Any:
    """Return what leaves a client's samples in the run folder ``tmp_path``."""
    (tmp_path / "config.json").write_text("{}")
    synthesizer: Any = None  # an unchanged generator makes no pictures of its own

    def leave(**keys: Scalar) -> None:
        told = {**KEYS, **keys}
        node = Node.of(Context(1, 7, {"partition-id": 0, "num-partitions": 2}, RecordDict(), told))
        probe = node.client.data.train
        generator = ClientGenerator.frozen("client-00")
        made: Any = SimpleNamespace(client_generator=generator, images=probe.first(9))
        leave_samples(node, tmp_path, synthesizer, made, probe)

    return leave


def test_they_are_left_in_a_run_folder_on_this_machine(leave: Any, tmp_path: Path) -> None:
    leave()
    assert (tmp_path / "samples" / "client-00.png").is_file()
    (tmp_path / "config.json").unlink()
    (tmp_path / "samples" / "client-00.png").unlink()
    leave()
    assert not (tmp_path / "samples" / "client-00.png").exists(), "no run folder: none of this run"


def test_images_in_the_client_s_own_look_are_shown_too(leave: Any, tmp_path: Path) -> None:
    leave()
    path = tmp_path / "samples" / "client-00.npz"
    assert set(load_samples(path).sets) == {"real", "frozen"}
    leave(**{"method": "regl", "supplement.match": "spectrum"})
    assert set(load_samples(path).sets) == {"real", "frozen", "matched"}


def test_a_folder_that_may_not_be_written_is_a_warning(
    leave: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "samples").write_text("in the way, also of root")
    leave()
    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert str(tmp_path) in warning and "training goes on without" in warning


def test_a_folder_that_may_not_be_looked_into_is_a_warning(
    leave: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run folder of mode 0700 and another user's: Python's is_file raises there."""

    def forbidden(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", forbidden)
    leave()
    assert "Permission denied" in caplog.text
