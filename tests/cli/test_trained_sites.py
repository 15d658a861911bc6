"""A finished run of sites: its card, and pictures read as one of its sites does."""

from __future__ import annotations

import json
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


def scan(path: Path, most: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(most // 4, most, (16, 16)).astype(np.uint16)
    values[: 8 if path.parent.name == "high" else 16 : 2] //= 4
    Image.fromarray(values).save(path)


@pytest.fixture(scope="module")
def run_sites(small_settings: dict[str, Scalar], tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Return what runs three sites: of 12-bit scans, of 16-bit ones, and of plain pictures."""
    root = tmp_path_factory.mktemp("sites")
    for site, most in (("a", 4000), ("b", 60000)):
        for place in range(10):
            scan(root / site / ("high" if place % 2 else "low") / f"{place}.png", most, place)
    for place in range(10):
        path = root / "c" / ("high" if place % 2 else "low") / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 20 * place).save(path)

    def run(name: str, **changes: Scalar) -> RunFolder:
        own: dict[str, Scalar] = {
            "method": "fedavg",
            "rounds": 1,
            "report": False,
            "data.source": "site",
            "data.classes": "high,low",
            "data.channels": 1,
            "data.image-size": 16,
            "train.steps": 20,
            "name": name,
            "out-dir": str(root / "runs"),
            "cache-dir": str(root / "cache"),
        }
        config = RunConfig.from_flat(small_settings | own | changes)
        return RunFolder.open(run_in_process(config, sites=[root / each for each in "abc"]))

    return run


@pytest.fixture(scope="module")
def sites(run_sites) -> RunFolder:  # type: ignore[no-untyped-def]
    return run_sites("sites")  # type: ignore[no-any-return]


def card(run: RunFolder, out: Path, told: str = "Accuracy: ") -> str:
    done = invoke("export", run.path, "--to", "torchscript", "--out", out)
    assert done.exit_code == 0, done.output
    (line,) = [
        line
        for line in (out / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"* {told}")
    ]
    return line


def test_the_card_has_the_accuracy_on_the_sites_own_test_images(
    sites: RunFolder,
    run_sites,  # type: ignore[no-untyped-def]
    tmp_path: Path,
) -> None:
    found = sites.read_history()[-1].metrics
    assert found.confusion is not None
    images = sum(map(sum, found.confusion))
    assert card(sites, tmp_path / "shared") == (
        f"* Accuracy: {100 * found.accuracy:.1f} % (macro-F1 {100 * found.macro_f1:.1f} %) on the "
        f"{images} test images of the sites together, after round 1"
    )
    quiet = run_sites("quiet", **{"share-diagnostics": False})
    found = quiet.read_history()[-1].metrics
    assert card(quiet, tmp_path / "quiet") == (
        f"* Accuracy: {100 * found.accuracy:.1f} % (macro-F1 {100 * found.macro_f1:.1f} %, the "
        "mean of the sites' own) on the test images of the sites together, after round 1"
    )


def test_a_site_s_scale_is_chosen_by_its_number(sites: RunFolder, tmp_path: Path) -> None:
    for place in range(4):
        scan(tmp_path / "scans" / ("high" if place % 2 else "low") / f"{place}.png", 900, place)

    def found(*more: object) -> str:
        done = invoke("predict", sites.path, tmp_path / "scans", "--out", "-", *more)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert found("--client", 0) == found("--depth", "12-bit") != found("--depth", "16-bit")
    assert found("--client", 1) == found("--depth", "16-bit")

    def loss(*more: object) -> float:
        out, data = tmp_path / "found.json", f"data.path={tmp_path / 'scans'}"
        keys = ("data.source=folder", data, "--out", out)
        done = invoke("evaluate", sites.path, *keys, *more)
        assert done.exit_code == 0, done.output
        return float(json.loads(out.read_text())["loss"])

    assert loss("--client", 0) == loss("data.depth=12-bit") != loss("--client", 1)


def test_a_client_that_told_no_scale_and_one_s_own_model_are_refused(
    sites: RunFolder, tmp_path: Path
) -> None:
    scan(tmp_path / "0.png", 900, 0)
    done = invoke("predict", sites.path, tmp_path / "0.png", "--client", 2)
    said = " ".join(done.output.split())
    assert done.exit_code == 1 and "shares whole models" in said
    assert "told by client 0, client 1 (name" in said
    done = invoke("export", sites.path, "--to", "torchscript", "--client", 0, "--out", tmp_path)
    assert done.exit_code == 1 and "shares whole models" in " ".join(done.output.split())


def test_a_folder_that_may_be_a_sites_is_warned_of(
    sites: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    site = sites.path.parents[1] / "a"
    done = invoke("evaluate", sites.path, "data.source=folder", f"data.path={site}")
    assert done.exit_code == 0, done.output
    assert "it was mostly trained on" in caplog.text


def test_clients_that_never_trained_are_not_counted(
    sites: RunFolder,
    run_sites,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert "with 3 clients, 1 rounds" in card(sites, tmp_path / "all", "Trained by")
    few = run_sites("few", **{"server.fraction": 0.34})
    assert len(few.read_history()[-1].clients) == 1
    assert "with 1 of 3 clients, 1 rounds" in card(few, tmp_path / "few", "Trained by")
    (line,) = [each.getMessage() for each in caplog.records if "finished in" in each.getMessage()]
    assert line.endswith("; trained by 1 of 3 clients")
