"""A run that was cut off goes on, and ends as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Message
from flwr.serverapp import Grid
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regl_app.config import RunConfig
from regl_app.core.errors import ConfigError, RunError
from regl_app.core.types import Scalar
from regl_app.data.run_files import RunFiles
from regl_app.flower.engines.in_process import run_in_process
from regl_app.generator.bundled import bundled_path
from regl_app.runs.folder import GENERATOR, RunFolder
from regl_app.runs.watch import watch
from server_app.exchange import exchange
from server_app.resume import note_files, open_run
from server_app.trackers.tensorboard import FOLDER

pytestmark = pytest.mark.usefixtures("short_calibration")

KEPT = [
    "metrics",
    "personalized",
    "labels",
    "discrepancy",
    "quotas",
    "real_counts",
    "synthetic_counts",
    "quality",
    "failures",
]


AFTER = {1: "in the first round", 3: "after the replies", 6: "before the end"}
"""What just happened when so many messages to all clients are answered."""


class Killed(BaseException):
    """What ends a process ends it anywhere."""


@pytest.fixture(scope="module")
def settings(
    small_settings: dict[str, Scalar], quick_generator: dict[str, Scalar]
) -> dict[str, Scalar]:
    return small_settings | quick_generator | {"rounds": 3, "report": False}


@pytest.fixture
def config(settings: dict[str, Scalar], tmp_path: Path) -> Callable[..., RunConfig]:
    def make(place: str, **changes: Scalar) -> RunConfig:
        own: dict[str, Scalar] = {
            "name": place,
            "out-dir": str(tmp_path / "runs"),
            "cache-dir": str(tmp_path / f"{place}-cache"),
        }
        return RunConfig.from_flat(settings | own | changes)

    return make


@dataclass(frozen=True)
class Whole:
    """A run without a break, and what a kill at some of its moments would have left."""

    config: RunConfig
    place: Path
    """Of its run folder and its cache; a snapshot takes their place."""
    snapshots: Path

    @property
    def folder(self) -> RunFolder:
        return RunFolder.open(self.snapshots / "end" / "runs" / "whole")

    def resumed(self, moment: str, lose: Callable[[Path], None] = lambda cache: None) -> RunFolder:
        """Return the folder of the run that goes on from what was there at ``moment``.

        ``lose`` takes from its cache what was lost until then.
        """
        shutil.rmtree(self.place)
        shutil.copytree(self.snapshots / moment, self.place)
        lose(self.place / "cache")
        path = self.place / "runs" / "whole"
        resumed = run(self.config.updated({"resume": str(path)}))
        assert resumed.path == path
        return resumed


@pytest.fixture(scope="module")
def uncut(
    settings: dict[str, Scalar], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Whole]:
    """Return what runs a configuration to its end without a break, once for all tests."""
    done: dict[str, Whole] = {}

    def find(**changes: Scalar) -> Whole:
        key = json.dumps(changes, sort_keys=True)
        if key not in done:
            now, then = (tmp_path_factory.mktemp(name) for name in ("uncut", "snapshots"))
            own: dict[str, Scalar] = {
                "name": "whole",
                "out-dir": str(now / "runs"),
                "cache-dir": str(now / "cache"),
            }
            calls = itertools.count(1)

            def copying(grid: Grid, requests: list[Message], timeout: float) -> list[Message]:
                replies = exchange(grid, requests, timeout)
                if moment := AFTER.get(next(calls)):
                    shutil.copytree(now, then / moment)
                return replies

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("server_app.round_loop.exchange", copying)
                config = RunConfig.from_flat(settings | own | changes)
                run(config)
            shutil.copytree(now, then / "end")
            done[key] = Whole(config, now, then)
        return done[key]

    return find


def run(config: RunConfig) -> RunFolder:
    clients = 3 if config.server.fraction < 1 else 2
    return RunFolder.open(run_in_process(config, clients=clients, workers=1))


def cut(config: RunConfig, monkeypatch: pytest.MonkeyPatch, moment: str) -> RunFolder:
    """Return the folder of a run that is killed at ``moment``, in its second round or after it."""
    calls = itertools.count(1)  # train and evaluate of round 1, of round 2, ...

    def killing(grid: Grid, requests: list[Message], timeout: float) -> list[Message]:
        number = next(calls)
        if (moment, number) in (("between rounds", 5), ("before any reply", 3)):
            raise Killed
        replies = exchange(grid, requests, timeout)
        if AFTER.get(number) == moment:
            raise Killed
        return replies

    keep = RunFolder.checkpoint

    def torn(folder: RunFolder, checkpoint: Any) -> Path:
        if moment == "before the checkpoint" and checkpoint.round == 2:
            raise Killed
        return keep(folder, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr("server_app.round_loop.exchange", killing)
        patch.setattr(RunFolder, "checkpoint", torn)
        with pytest.raises(Killed):
            run(config)
    return RunFolder.open(Path(config.out_dir) / config.name)


def same(one: RunFolder, other: RunFolder) -> bool:
    """Whether two runs learned the same, to the bit."""
    histories = [
        [{name: getattr(record, name) for name in KEPT} for record in folder.read_history()]
        for folder in (one, other)
    ]
    assert histories[0] == histories[1]
    weights: list[Mapping[str, torch.Tensor]] = [one.load_model(), other.load_model()]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    return True


MOMENTS = [
    "between rounds",
    "before any reply",
    "after the replies",
    "before the checkpoint",
    "before the end",
    "in the first round",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_default_method_goes_on_from_any_moment(
    config: Callable[..., RunConfig],
    uncut: Callable[..., Whole],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    whole = uncut().folder
    broken = cut(config("broken"), monkeypatch, moment)
    assert broken.read_result().status == "stopped"  # type: ignore[union-attr]
    resumed = run(config("broken").updated({"resume": str(broken.path), "name": "ignored"}))
    assert resumed.path == broken.path
    assert same(resumed, whole)
    assert list(watch(resumed))[-1].startswith("finished")


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "scaffold"},
        {"method": "moon"},
        {"method": "fedrep"},
        {"method": "ccvr"},
        {"method": "ccvr", "server.strategy": "fedavgm"},
        {"method": "regl-shared", "lora.rounds": 2},
        {"method": "feddpd", "dpo.steps": 2, "pool.per-class": 4, "dpo.batch-size": 2},
        {
            "method": "feddpd",
            "supplement.site": "download",
            "dpo.steps": 2,
            "pool.per-class": 4,
            "dpo.batch-size": 2,
        },
        {
            "supplement.site": "download",
            "supplement.adapter": "frozen",
            "supplement.transport": "images",
        },
        {"supplement.site": "download", "supplement.adapter": "frozen", "labels.by": "experts"},
        {"method": "fedavg", "teaching.head": "experts", "share-diagnostics": False},
        {
            "method": "fedavg",
            "teaching.head": "experts",
            "teaching.say": "noisy",
            "share-diagnostics": False,
        },
        {"privacy.vector": "client", "share-diagnostics": False},
        {"supplement.adapter": "dpo", "dpo.steps": 2, "pool.per-class": 4, "dpo.batch-size": 2},
        {"method": "fedavg", "server.strategy": "fedadam"},
        {"method": "fedavg", "server.strategy": "fedavgm", "server.fraction": 0.67},
        {"method": "fedavg", "server.strategy": "fedyogi"},
    ],
    ids=[
        "scaffold",
        "moon",
        "fedrep",
        "ccvr",
        "ccvr-fedavgm",
        "shared",
        "server",
        "download",
        "pixels",
        "opinions",
        "guessed",
        "noisy",
        "private",
        "dpo",
        "fedadam",
        "fedavgm",
        "fedyogi",
    ],
)
@pytest.mark.parametrize("moment", ["after the replies", "before the end"])
def test_what_the_server_and_the_clients_remember_survives(
    uncut: Callable[..., Whole], changes: dict[str, Scalar], moment: str
) -> None:
    whole = uncut(**changes)
    assert same(whole.resumed(moment), whole.folder)


def test_who_lost_the_adapter_that_the_server_sent_gets_it_again(
    uncut: Callable[..., Whole],
) -> None:
    changes: dict[str, Scalar] = {
        "method": "feddpd", "supplement.site": "download", "supplement.cap": 20,
        "supplement.ratio": 1.0, "lora.rank": 1, "pool.per-class": 20, "dpo.steps": 2,
        "dpo.batch-size": 2, "dpo.rounds": 1, "rounds": 4,
    }  # fmt: skip
    lost: list[Path] = []

    def lose(cache: Path) -> None:
        for described in (cache / "adapters").glob("*/adapter.json"):
            if "received" in json.loads(described.read_text())["key"]:
                lost.append(described.parent)
                shutil.rmtree(described.parent)

    whole = uncut(**changes)
    resumed = whole.resumed("before the end", lose)
    assert lost and same(resumed, whole.folder)
    last = resumed.read_history()[-1].clients
    assert all(facts["by_reference"] for facts in last.values())


def test_one_adapter_for_all_is_tuned_again_before_a_first_round_that_was_cut(
    uncut: Callable[..., Whole],
) -> None:
    whole = uncut(**{"method": "regl-shared", "lora.rounds": 2})
    resumed = whole.resumed("in the first round")
    assert same(resumed, whole.folder)
    steps = [facts["adapter_steps"] for facts in resumed.read_history()[1].clients.values()]
    assert steps == [0] * 2  # the clients have kept their parts


def test_a_run_with_a_damaged_checkpoint_repeats_one_round_more(
    config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: dict[str, Scalar] = {
        "supplement.adapter": "dpo",
        "dpo.steps": 2,
        "pool.per-class": 4,
        "dpo.batch-size": 2,
        "tensorboard": True,
    }
    whole = run(config("whole", **keys))
    broken = cut(config("broken", **keys), monkeypatch, "before the end")
    newest = sorted(broken.checkpoints.iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    resumed = run(config("broken", **keys).updated({"resume": str(broken.path)}))
    assert same(resumed, whole)
    events = EventAccumulator(str(resumed.path / FOLDER))
    events.Reload()
    assert [event.step for event in events.Scalars("global/accuracy")] == [0, 1, 2, 3]


def test_what_no_result_depends_on_may_change(
    config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The clients have to find their own plans, though the run's keys are no longer the same.
    keys: dict[str, Scalar] = {"privacy.vector": "client", "share-diagnostics": False}
    keys |= {"generator.path": "bundled", "generator.precision": "auto"}
    whole = run(config("whole", **keys))
    broken = cut(config("broken", **keys), monkeypatch, "after the replies")
    changes: dict[str, Scalar] = {
        "report": True,
        "log-format": "full",
        "metrics-address": "0.0.0.0",
        "server.timeout": 100.0,
        "server.min-nodes": 2,
    }
    resumed = run(config("broken", **keys).updated(changes | {"resume": str(broken.path)}))
    assert same(resumed, whole)
    assert resumed.report.is_file()


def test_how_many_clients_are_drawn_may_not_change(
    config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = cut(
        config("broken", **{"method": "fedavg", "server.fraction": 0.3}),
        monkeypatch,
        "after the replies",
    )
    again = RunFolder.open(broken.path).read_config().updated({"resume": str(broken.path)})
    with pytest.raises(ConfigError, match=r"got server\.min-nodes=2 \(was 1\)"):
        run(again.updated({"server.min-nodes": 2}))
    with pytest.raises(ConfigError, match=r"got server\.fraction=1\.0 \(was 0\.3\)"):
        run(again.updated({"server.fraction": 1.0}))


def test_a_checkpoint_without_its_line_in_the_history_is_refused(
    config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = cut(config("broken", method="fedavg"), monkeypatch, "between rounds")
    (broken.path / "history.jsonl").unlink()
    with pytest.raises(RunError, match=r"history\.jsonl: round 2 is missing"):
        run(config("broken", method="fedavg").updated({"resume": str(broken.path)}))


def test_what_cannot_go_on_is_refused(
    config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = cut(config("broken", method="fedavg"), monkeypatch, "between rounds")
    again = config("broken", method="fedavg").updated({"resume": str(broken.path)})
    with pytest.raises(ConfigError, match=r"got train\.lr=0\.5 \(was 0\.05\)"):
        run(again.updated({"train.lr": 0.5}))
    with pytest.raises(RunError, match="the run had 2 clients, now there are 3"):
        run_in_process(again, clients=3)
    with pytest.raises(RunError, match="is not a run folder"):
        run(again.updated({"resume": str(tmp_path / "absent")}))
    run(again)
    with pytest.raises(RunError, match="that run is finished"):
        run(again)


def test_other_code_is_warned_of(
    config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = cut(config("broken", method="fedavg"), monkeypatch, "between rounds")
    for module in ("server_app.main", "client_app.node"):
        monkeypatch.setattr(f"{module}.run_code_hash", lambda _: "newer")
    run(config("broken", method="fedavg").updated({"resume": str(broken.path)}))
    assert "begun by other code" in caplog.text


def test_a_run_does_not_go_on_with_other_pictures(
    config: Callable[..., RunConfig], photos: Callable[..., Path], tmp_path: Path
) -> None:
    pictures = photos(tmp_path / "photos", {"a": 20, "b": 20}, width=20, height=16)
    keys: dict[str, Scalar] = {
        "data.source": "folder",
        "data.path": str(pictures),
        "method": "fedavg",
        "rounds": 1,
    }
    cut = run(config("pictures", **keys))
    assert cut.read_environment()["data"].startswith("40 files, ")
    (cut.path / "result.json").unlink()
    changed = sorted(pictures.rglob("*.png"))[0]
    content, times = changed.read_bytes(), changed.stat()
    changed.write_bytes(sorted(pictures.rglob("*.png"))[1].read_bytes())
    resumed = config("pictures", **keys, resume=str(cut.path))
    with pytest.raises(RunError, match=r"have changed since the run began \(it had 40 files"):
        run(resumed)
    changed.write_bytes(content)
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(resumed).read_history() == cut.read_history()


def test_a_run_of_an_earlier_version_goes_on_and_says_what_it_does_not_know(
    config: Callable[..., RunConfig],
    photos: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pictures = photos(tmp_path / "photos", {"a": 20, "b": 20}, width=20, height=16)
    folder = RunFolder.create(
        config("old", **{"data.source": "folder", "data.path": str(pictures)}), tmp_path / "runs"
    )
    resumed = folder.read_config().updated({"resume": str(folder.path)})
    note_files(folder, RunFiles.of(resumed.data, resumed.partition).words, resumed)
    assert "does not say which files the run began with" in caplog.text
    caplog.clear()
    note_files(folder, RunFiles.of(resumed.data, resumed.partition).words, resumed)
    assert not caplog.text


def test_a_run_does_not_go_on_with_another_partition(
    config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    given = tmp_path / "partition.json"
    given.write_text("[[0, 1, 2], [3]]")
    keys: dict[str, Scalar] = {"partition.scheme": "file", "partition.file": str(given)}
    folder = RunFolder.create(config("given", **keys), tmp_path / "runs")
    begun = folder.read_config()
    note_files(folder, RunFiles.of(begun.data, begun.partition).words, begun)
    resumed = begun.updated({"resume": str(folder.path)})
    note_files(folder, RunFiles.of(resumed.data, resumed.partition).words, resumed)
    given.write_text("[[0], [1, 2, 3]]")
    with pytest.raises(RunError, match=r"or partition\.file='.*' have changed since the run began"):
        note_files(folder, RunFiles.of(resumed.data, resumed.partition).words, resumed)


def test_a_run_does_not_go_on_with_another_generator(
    config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Its path says nothing of what is there by now."""
    generator = tmp_path / "generator"
    shutil.copytree(bundled_path(), generator)
    for method, reads in (("regl", True), ("fedavg", False)):
        begun = config(method, **{"method": method, "generator.path": str(generator)})
        folder = RunFolder.create(begun, tmp_path / "runs")
        resumed = begun.updated({"resume": str(folder.path)})
        assert open_run(resumed, tmp_path, folder.path) == folder
        index = generator / "scheduler" / "scheduler_config.json"
        content = index.read_text()
        index.write_text(json.dumps(json.loads(content) | {"num_train_timesteps": 999}))
        if reads:
            with pytest.raises(
                RunError, match=r"generator\.path='.*', .* has changed since the run began"
            ):
                open_run(resumed, tmp_path, folder.path)
            folder.note(GENERATOR, "unknown, image encoder 0")  # the server had none
        assert open_run(resumed, tmp_path, folder.path) == folder
        index.write_text(content)


def test_paths_that_a_run_was_given_as_relative_are_the_same_ones(
    config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in folders of earlier versions."""
    monkeypatch.chdir(tmp_path)
    keys: dict[str, Scalar] = {"data.source": "folder", "method": "fedavg"}
    begun = config("relative", **{**keys, "data.path": "photos"})
    folder = RunFolder.create(begun, tmp_path / "runs")
    resumed = begun.updated({"resume": str(folder.path), "data.path": str(tmp_path / "photos")})
    assert open_run(resumed, tmp_path, folder.path) == folder
    with pytest.raises(ConfigError, match=r"data\.path='.*other'"):
        open_run(resumed.updated({"data.path": "other"}), tmp_path, folder.path)
