"""Which images ``regl evaluate`` takes of a run's own data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from regl_app.cli import app
from regl_app.config import RunConfig
from regl_app.core.types import Scalar
from regl_app.flower.engines.in_process import run_in_process
from regl_app.runs.folder import RunFolder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def run(small_settings: dict[str, Scalar], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run on embedded images, of which a part was split off to test on."""
    out = tmp_path_factory.mktemp("evaluated")
    own: dict[str, Scalar] = {"method": "fedavg", "rounds": 1, "report": False}
    config = RunConfig.from_flat(small_settings | own | {"out-dir": str(out)})
    return RunFolder.open(run_in_process(config, clients=2, workers=1))


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(values).save(path)


def folder_run(small_settings: dict[str, Scalar], data: Path, out: Path) -> RunFolder:
    """Return a run of one round on the image folder ``data``, below ``out``."""
    own: dict[str, Scalar] = {
        "method": "fedavg",
        "rounds": 1,
        "report": False,
        "data.source": "folder",
        "data.path": str(data),
        "data.image-size": 8,
        "out-dir": str(out / "runs"),
        "cache-dir": str(out / "cache"),
    }
    config = RunConfig.from_flat(small_settings | own)
    return RunFolder.open(run_in_process(config, clients=2, workers=1))


def test_what_was_taken_for_what_is_shown_of_classes_that_are_there(
    small_settings: dict[str, Scalar], tmp_path: Path
) -> None:
    """Two of a run's 25 classes: what is printed counts, no more than what the images hold."""
    for number in range(100):
        picture(tmp_path / "many" / f"c{number % 25:02}" / f"{number}.png", number)
    run = folder_run(small_settings, tmp_path / "many", tmp_path)
    for number in (1, 2):
        name = f"c{number:02}"
        shutil.copytree(tmp_path / "many" / name, tmp_path / "two" / name)
    out = tmp_path / "found.json"
    done = invoke("evaluate", run.path, f"data.path={tmp_path / 'two'}", "--out", out)
    assert done.exit_code == 0 and "8 images" in done.output, done.output
    confusion = np.array(json.loads(out.read_text())["confusion"])
    assert confusion.shape == (25, 25) and confusion[1:3].sum() == 8
    table = done.output.partition("is \\ taken for")[2].splitlines()[1:]
    rows = [line.split() for line in table if line.strip().startswith("c")]
    shown = sorted({1, 2, *np.flatnonzero(confusion.any(axis=0)).tolist()})
    assert [row[0] for row in rows] == ["c01", "c02"], done.output
    assert [[int(count) for count in row[1:]] for row in rows] == confusion[1:3, shown].tolist()


@pytest.mark.parametrize(
    "given",
    [
        "data.test-fraction=0.9",
        "data.seed=1",
        "data.public-fraction=0.5",
    ],
)
def test_what_would_deal_the_runs_images_anew_is_refused(run: RunFolder, given: str) -> None:
    """Most of what would be tested on then, the model was trained on."""
    done = invoke("evaluate", run.path, given)
    said = " ".join(done.output.split())
    assert done.exit_code == 2 and "deals the run's own images anew" in said, done.output
    assert given.partition("=")[0] in said and "Leave the key out" in said


def test_the_same_values_and_fewer_test_images_are_taken(run: RunFolder) -> None:
    done = invoke("evaluate", run.path, "data.seed=0", "data.test-fraction=0.3", "data.max-test=20")
    assert done.exit_code == 0 and "20 images" in done.output, done.output


def test_the_runs_own_set_named_as_another_is_warned_of(
    run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    done = invoke("evaluate", run.path, "data.max-test=20", "--part", "test")
    assert done.exit_code == 0 and "the run's own data set" not in caplog.text, done.output
    done = invoke("evaluate", run.path, "data.source=digits")
    assert done.exit_code == 0, done.output
    assert "shares pictures with the run's own data set" in caplog.text


@pytest.fixture(scope="module")
def split_run(
    small_settings: dict[str, Scalar], tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFolder, Path]:
    """Return a run on a folder of two parts, and what it lies in."""
    top = tmp_path_factory.mktemp("split")
    for number in range(24):
        part = "train" if number < 16 else "test"
        picture(top / "tt" / part / "ab"[number % 2] / f"{number}.png", number)
    return folder_run(small_settings, top / "tt", top), top


@pytest.mark.parametrize("kind", ["link", "part", "around", "links", "text"])
def test_the_runs_own_folder_is_known_by_whatever_name(
    split_run: tuple[RunFolder, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    run, top = split_run
    given = {"text": top / "runs" / ".." / "tt", "part": top / "tt" / "train"}.get(kind, tmp_path)
    if kind == "link":
        given = tmp_path / "link"
        given.symlink_to(top / "tt")
    elif kind == "around":  # its parts are domains of another source
        (tmp_path / "tt").symlink_to(top / "tt" / "train")
        picture(tmp_path / "x" / "a" / "1.png", 1)
    elif kind == "links":
        for name in "ab":
            (tmp_path / name).symlink_to(top / "tt" / "train" / name)
    source = "domains" if kind == "around" else "folder"
    done = invoke("evaluate", run.path, f"data.source={source}", f"data.path={given}")
    assert done.exit_code == 0, done.output
    number = 24 if kind in ("link", "text") else 16
    assert "own data set" in caplog.text
    assert f"{number} of {number + (kind == 'around')} files" in caplog.text


def test_a_copy_of_another_place_is_no_own_one(
    split_run: tuple[RunFolder, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, top = split_run
    shutil.copytree(top / "tt" / "train", tmp_path / "copy")
    done = invoke("evaluate", run.path, f"data.path={tmp_path / 'copy'}")
    assert done.exit_code == 0 and "own data set" not in caplog.text, done.output
