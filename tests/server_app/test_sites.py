"""Sites with folders of their own, in one process: what server and clients make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regl_app.config import RunConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import RunError
from regl_app.core.types import Scalar
from regl_app.data.export import export_clients
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.data.sources.site import SiteFolder, load_site
from regl_app.flower.engines.in_process import run_in_process
from regl_app.learning.evaluation.metrics import evaluate
from regl_app.learning.models.build import build_model
from regl_app.runs.depths import depths_of
from regl_app.runs.folder import RunFolder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return three sites with skewed parts of the digits."""
    out = tmp_path_factory.mktemp("sites") / "sites"
    config = RunConfig.from_flat(
        {"data.max-train": 240, "data.image-size": 16, "partition.beta": 0.3}
    )
    export_clients(Federation.load(config, 3), out)
    return sorted(out.iterdir())


def settings(small: dict[str, Scalar], out: Path, **changes: Scalar) -> RunConfig:
    site: dict[str, Scalar] = {
        "data.source": "site",
        "data.classes": "0,1,2,3,4,5,6,7,8,9",
        "data.channels": 1,
        "data.image-size": 16,
        "out-dir": str(out),
        "cache-dir": str(out / "cache"),
    }
    return RunConfig.from_flat(small | site | changes)


def all_tests(config: RunConfig, folders: list[Path]) -> ImageSet:
    """Return all sites' test images."""
    parts = [
        load_site(SiteFolder(path, AllowedFolders()), config.data, client, 0.2).test
        for client, path in enumerate(folders)
    ]
    return ImageSet.concat(parts)


@pytest.mark.parametrize("shared", [True, False])
def test_without_test_images_the_server_takes_the_clients_results(
    folders: list[Path], small_settings: dict[str, Scalar], tmp_path: Path, shared: bool
) -> None:
    config = settings(
        small_settings, tmp_path, **{"share-diagnostics": shared, "server.personalized-every": 0}
    )
    folder = RunFolder.open(run_in_process(config, sites=folders))
    history = folder.read_history()
    assert [record.round for record in history] == [1, 2]
    model = build_model(config.model, 10, 1, 16, config.seed)
    model.load_state_dict(folder.load_model())
    whole = evaluate(model, all_tests(config, folders), 10, torch.device("cpu"))
    found = history[-1].metrics
    assert found.accuracy == pytest.approx(whole.accuracy, abs=1e-6)
    assert found.loss == pytest.approx(whole.loss, rel=1e-4)
    if shared:
        assert found.macro_f1 == pytest.approx(whole.macro_f1, abs=1e-6)
        for name in ("per_class", "precision", "f1"):
            assert getattr(found, name) == pytest.approx(getattr(whole, name), abs=1e-6)
        assert whole.confusion is not None
        assert found.confusion == whole.confusion.tolist()
    else:
        assert found.per_class == [None] * 10
        assert (found.precision, found.f1, found.confusion) == ([], [], None)
    assert sum(map(sum, filter(None, history[0].synthetic_counts or []))) > 0 or not shared
    words = " ".join(folder.report.read_text().split())
    assert "the test images of all clients together" in words
    assert ("not every client told what it takes for what" in words) is not shared
    assert "each with data of its own" in words and "Dirichlet" not in words


def test_a_test_folder_at_the_server_is_used(
    folders: list[Path], small_settings: dict[str, Scalar], tmp_path: Path
) -> None:
    config = settings(small_settings, tmp_path, method="fedavg", **{"data.path": str(folders[0])})
    folder = RunFolder.open(run_in_process(config, sites=folders[1:]))
    facts = folder.read_facts()
    assert facts is not None and facts.test_images > 0
    assert [record.round for record in folder.read_history()] == [0, 1, 2]


def test_a_site_that_cannot_be_read_is_named_and_the_others_go_on(
    folders: list[Path], small_settings: dict[str, Scalar], tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    (bad / "3").mkdir(parents=True)
    (bad / "3" / "torn.png").write_bytes(b"no picture")
    config = settings(small_settings, tmp_path, method="fedavg")
    folder = RunFolder.open(run_in_process(config, sites=[*folders[:2], bad]))
    result, history = folder.read_result(), folder.read_history()
    assert result is not None and result.status == "finished"
    assert any("client 2: " in failure and "torn.png" in failure for failure in history[0].failures)
    needed = config.updated({"server.min-nodes": 3})
    with pytest.raises(RunError, match=r"2 of 3 nodes can take part.*\n.*client 2: .*torn\.png"):
        run_in_process(needed, sites=[*folders[:2], bad])


def test_of_many_unreadable_files_the_server_names_the_first(
    folders: list[Path], small_settings: dict[str, Scalar], tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    (bad / "3").mkdir(parents=True)
    for number in range(37):
        (bad / "3" / f"torn{number:02d}.png").write_bytes(b"no picture")
    config = settings(small_settings, tmp_path, method="fedavg", rounds=1)
    history = RunFolder.open(run_in_process(config, sites=[*folders[:2], bad])).read_history()
    told = [failure for failure in history[0].failures if "client 2: " in failure]
    assert told and all(each.count("torn") == 1 for each in told)
    assert all(f"{bad}/3/torn00.png: not a readable image" in each for each in told)
    assert all("the first of 37; repair the file or remove it" in each for each in told)
    assert all(each.endswith("(data.unreadable=skip)") for each in told)


def test_a_simulation_says_that_it_has_no_sites(
    small_settings: dict[str, Scalar], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"data\.source='site' needs data-dir"):
        run_in_process(settings(small_settings, tmp_path, method="fedavg"), clients=2)


def test_counts_are_those_of_the_folders(
    folders: list[Path], small_settings: dict[str, Scalar], tmp_path: Path
) -> None:
    config = settings(small_settings, tmp_path, method="fedavg", rounds=1)
    facts = RunFolder.open(run_in_process(config, sites=folders)).read_facts()
    assert facts is not None and facts.train_counts is not None
    held = [
        load_site(SiteFolder(path, AllowedFolders()), config.data, client, 0.2).train.counts(10)
        for client, path in enumerate(folders)
    ]
    assert np.array_equal(np.array(facts.train_counts), np.stack(held))


def deep_pictures(folder: Path, most: int) -> None:
    """Write 16-bit pictures of two classes, with values up to ``most``."""
    rng = np.random.default_rng(0)
    for label in "01":
        (folder / label).mkdir(parents=True)
        for place in range(6):
            values = rng.integers(most // 2, most, (16, 16)).astype(np.uint16)
            Image.fromarray(values).save(folder / label / f"{place}.png")


@pytest.mark.parametrize("shared", [True, False])
def test_sites_of_deep_greyscale_tell_their_rules_and_the_log_if_they_differ(
    small_settings: dict[str, Scalar],
    tmp_path: Path,
    shared: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for site, most in enumerate((4000, 60000)):
        deep_pictures(tmp_path / "sites" / str(site), most)
    keys: dict[str, Scalar] = {"data.classes": "0,1", "share-diagnostics": shared, "rounds": 1}
    config = settings(small_settings, tmp_path, method="fedavg", **keys)
    with caplog.at_level("WARNING", "regl"):
        found = run_in_process(config, sites=sorted((tmp_path / "sites").iterdir()))
    run = RunFolder.open(found)
    depths = depths_of(run.read_facts(), run.read_history())
    if not shared:
        assert not depths and "by different rules" not in caplog.text
        return
    assert {who: used.words for who, used in depths.items()} == {
        "client 0": "whole numbers as 12-bit, 0 to 4095",
        "client 1": "whole numbers as 16-bit, 0 to 65535",
    }
    assert caplog.text.count("sites read deep greyscale by different rules") == 1
    words = " ".join(run.report.read_text().split())
    assert "client 1: whole numbers as 16-bit, 0 to 65535" in words


def test_a_server_that_tests_on_pictures_read_otherwise_is_told(
    small_settings: dict[str, Scalar], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for site in "01":
        deep_pictures(tmp_path / "sites" / site, 60000)
    deep_pictures(tmp_path / "tested", 4000)
    keys: dict[str, Scalar] = {"data.classes": "0,1", "data.path": str(tmp_path / "tested")}
    config = settings(small_settings, tmp_path, method="fedavg", rounds=2, report=False, **keys)
    with caplog.at_level("WARNING", "regl"):
        run_in_process(config, sites=sorted((tmp_path / "sites").iterdir()))
    (line,) = [each for each in caplog.messages if "by different rules" in each]
    assert "the server's test folder: whole numbers as 12-bit" in line
    assert "client 1: whole numbers as 16-bit" in line
