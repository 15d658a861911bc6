"""What docs/use.md and docs/watch.md have people type, as it is written there, on a small run."""

from __future__ import annotations

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from regl_app.cli import app
from regl_app.config import RunConfig
from regl_app.core.types import Scalar
from regl_app.flower.engines.in_process import run_in_process

DOCS = Path(__file__).resolve().parents[2] / "docs"
COLOURS = {"cat": "red", "dog": "green", "owl": "blue"}
# A run of its own, another program, and an installation: tests of the runtime and of trackers.
ELSEWHERE = ("regl run ", "tensorboard ", "pip ")


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text("utf-8"), flags=re.S)


def commands(page: str) -> list[str]:
    lines = [
        line.partition("#")[0].strip() for each in blocks(page, "sh") for line in each.splitlines()
    ]
    return [line for line in lines if line and not line.startswith(ELSEWHERE)]


@pytest.fixture(scope="module")
def desk(small_settings: dict[str, Scalar], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the pages' commands name: finished runs, and pictures."""
    desk = tmp_path_factory.mktemp("desk")
    for folder in ("photos", "hospital-b", "scans"):
        for name, colour in COLOURS.items():
            (desk / folder / name).mkdir(parents=True)
            for place in range(10):
                image = Image.new("RGB", (24, 24 + place), colour)
                image.save(desk / folder / name / f"{place}.png")
    common = small_settings | {"rounds": 1, "out-dir": str(desk / "runs"), "partition.beta": 100.0}
    own: tuple[dict[str, Scalar], ...] = (
        {"method": "fedavg", "data.source": "folder", "data.path": str(desk / "photos")},
        {"method": "regl-free", "cache-dir": str(desk / "cache")},
    )
    for keys, name in zip(own, ("regl-folder-s0", "regl-digits-s0"), strict=True):
        run_in_process(RunConfig.from_flat(common | keys | {"name": name}), clients=2, workers=1)
    shutil.copytree(desk / "runs" / "regl-folder-s0", desk / "runs" / "regl-mnist-s0")
    shutil.copytree(desk / "runs" / "regl-digits-s0", desk / "runs" / "a")
    return desk


@pytest.mark.parametrize("command", [*commands("use.md"), *commands("watch.md")])
def test_a_command_does_what_the_page_says(
    command: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--to onnx" in command:
        pytest.importorskip("onnxruntime")
    monkeypatch.chdir(desk)
    program, *arguments = shlex.split(command)
    assert program == "regl"
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    for option, name in pairwise(arguments):
        if option in ("--out", "--figures"):
            assert (desk / name).exists()


def test_the_loader_opens_the_run(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    (loader,) = (each for each in blocks("use.md", "python") if "TrainedModel.of" in each)
    names: dict[str, object] = {}
    exec(loader, names)
    assert getattr(names["trained"], "class_names", None) == tuple(COLOURS)
