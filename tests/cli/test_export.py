"""``regl export --images`` gives what was trained on, or says that it cannot."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from regl_app.cli import app
from regl_app.config import RunConfig
from regl_app.core.files import write_json
from regl_app.core.types import Scalar
from regl_app.flower.engines.in_process import run_in_process
from regl_app.runs.folder import CODE, DATA, GENERATOR, RunFolder


def export(run: RunFolder, out: Path) -> Result:
    arguments = ("export", run.path, "--images", "--out", out)
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "200"})


def refusal(run: RunFolder, out: Path) -> str:
    done = export(run, out)
    assert done.exit_code == 1 and not (out / "images").exists(), done.output
    return " ".join(done.output.split())


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(values).save(path)


@pytest.fixture(scope="module")
def run(
    small_settings: dict[str, Scalar],
    second_pipeline: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> RunFolder:
    """Return a run on pictures whose clients generated images, by a checkpoint of its own."""
    root = tmp_path_factory.mktemp("exported")
    for number in range(36):
        picture(root / "photos" / ("cat", "dog", "cow")[number % 3] / f"{number:02}.png", number)
    shutil.copytree(second_pipeline, root / "generator")
    own: dict[str, Scalar] = {
        "method": "regl",
        "rounds": 1,
        "report": False,
        "supplement.ratio": 0.5,
        "data.source": "folder",
        "data.path": str(root / "photos"),
        "generator.path": str(root / "generator"),
        "out-dir": str(root / "runs"),
        "cache-dir": str(root / "cache"),
    }
    config = RunConfig.from_flat(small_settings | own)
    return RunFolder.open(run_in_process(config, clients=2, workers=1))


def test_other_pictures_are_refused(run: RunFolder, tmp_path: Path) -> None:
    """They would deal other images to clients, which would be drawn otherwise, under one name."""
    assert export(run, tmp_path / "before").exit_code == 0
    photos = Path(run.read_config().data.path)
    picture(photos / "cow" / "00-more.png", 100)
    said = refusal(run, tmp_path / "more")
    (photos / "cow" / "00-more.png").unlink()
    assert "have changed since the run began (it had 36 files" in said and "now 37 files" in said
    assert f"data.path='{photos}'" in said and "put them back" in said
    assert export(run, tmp_path / "after").exit_code == 0


def test_another_generator_is_refused(run: RunFolder, tmp_path: Path) -> None:
    """Its path says nothing of what is there by now."""
    index = Path(run.read_config().generator.path) / "scheduler" / "scheduler_config.json"
    content, times = index.read_text(), index.stat()
    index.write_text(json.dumps(json.loads(content) | {"num_train_timesteps": 999}))
    said = refusal(run, tmp_path)
    index.write_text(content)
    os.utime(index, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "generator.path='" in said and "has changed since the run began (it had" in said


def test_what_cannot_be_compared_is_warned_of(
    run: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert export(run, tmp_path / "now").exit_code == 0
    assert "does not say" not in caplog.text and "other code" not in caplog.text
    shutil.copytree(run.path, tmp_path / "old")
    old = RunFolder.open(tmp_path / "old")
    old.note(CODE, "0" * 16)
    assert export(old, tmp_path / "code").exit_code == 0
    assert "was made by other code of this app" in caplog.text and "does not say" not in caplog.text
    content = json.loads((old.path / "config.json").read_text())
    for key in (CODE, DATA, GENERATOR):
        del content["environment"][key]
    write_json(old.path / "config.json", content)
    assert export(old, tmp_path / "unknown").exit_code == 0
    assert "does not say which files and generator and code the run had" in caplog.text
