"""Which images ``regl evaluate`` takes of a run's own data set."""

from __future__ import annotations

import pytest
from click.testing import Result
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


@pytest.mark.parametrize(
    "given",
    [
        "data.test-fraction=0.9",
        "data.seed=1",
        "data.public-fraction=0.5",
        "data.splits=train",
        "data.columns=image,label",
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
    assert done.exit_code == 0 and "own data set, taken whole" not in caplog.text, done.output
    done = invoke("evaluate", run.path, "data.source=digits")
    assert done.exit_code == 0, done.output
    assert "the run's own data set, taken whole" in caplog.text
