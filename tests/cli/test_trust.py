"""A run folder whose model is somebody's code: nothing of it runs unless its user says so."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from regl_app.cli import app
from regl_app.config import RunConfig
from regl_app.core.errors import RunError
from regl_app.core.types import Scalar
from regl_app.learning.models.build import build_model
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import FederationFacts
from regl_app.runs.trained.model import TrainedModel


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "200"})


OWN = """
from pathlib import Path

from torch import nn

Path(__file__).with_suffix(".ran").touch()


class Net(nn.Sequential):
    def __init__(self, classes, channels, side):
        super().__init__(nn.Flatten(), nn.Linear(channels * side**2, classes))
"""


@pytest.fixture
def others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Return a run folder whose model is code, which leaves a trace when it is imported."""
    (tmp_path / "sent_net.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sent_net", raising=False)
    flat: dict[str, Scalar] = {"method": "fedavg", "model.name": "sent_net:Net"}
    run = RunFolder.create(RunConfig.from_flat(flat), tmp_path / "runs")
    run.write_facts(FederationFacts(class_names=["a", "b"], num_clients=2, channels=1))
    state = build_model(run.read_config().model, 2, 1, 32, 0).state_dict()
    run.save_model({name: torch.full_like(each, each.ndim == 1) for name, each in state.items()})
    (tmp_path / "sent_net.ran").unlink()
    del sys.modules["sent_net"]
    Image.new("L", (32, 32)).save(tmp_path / "one.png")
    return run


def test_a_folder_that_names_code_runs_it_only_if_it_is_trusted(
    others_run: RunFolder, tmp_path: Path
) -> None:
    trace, picture = tmp_path / "sent_net.ran", tmp_path / "one.png"
    (tmp_path / "data").mkdir()
    commands = (
        ("predict", others_run.path, picture),
        ("evaluate", others_run.path, "data.source=folder", f"data.path={tmp_path / 'data'}"),
        ("export", others_run.path, "--to", "torchscript", "--out", tmp_path / "out"),
    )
    for command in commands:
        result = invoke(*command)
        told = " ".join(result.output.split())
        assert result.exit_code == 1 and "model.name='sent_net:Net'" in told, told
        assert "--trust" in told and "import and run" in told
    with pytest.raises(RunError, match=r"--trust .*trust=True"):
        TrainedModel.of(others_run)
    resumed = invoke("run", "--resume", others_run.path)
    assert resumed.exit_code == 2 and "model.name=sent_net:Net" in " ".join(resumed.output.split())
    assert not trace.exists()

    result = invoke("predict", others_run.path, picture, "--trust")
    assert result.exit_code == 0 and "a 50.0%" in result.output, result.output
    assert trace.exists()


def test_code_that_is_not_here_is_told(others_run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "sent_net.py").unlink()
    importlib.invalidate_caches()
    result = invoke("predict", others_run.path, tmp_path / "one.png", "--trust")
    told = " ".join(result.output.split())
    assert result.exit_code == 2 and "model.name='sent_net:Net' cannot be imported" in told
    assert "Traceback" not in told


def test_a_run_that_did_not_know_its_clients_yet_is_told_them(tmp_path: Path) -> None:
    config = RunConfig.from_flat({"out-dir": str(tmp_path), "method": "fedavg"})
    begun = RunFolder.create(config).path
    result = invoke("run", "--resume", begun)
    told = " ".join(result.output.split())
    assert result.exit_code == 2 and "interrupted before it knew its clients" in told, told
    assert "--clients" in told
