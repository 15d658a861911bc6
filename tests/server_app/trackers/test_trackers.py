"""All trackers together: chosen by name, refused without their package, harmless when they fail."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.choices import TRACKERS
from regl_app.core.array_files import Array, read_arrays
from regl_app.core.errors import ConfigError
from regl_app.data.images import ImageSet
from regl_app.flower.engines.in_process import run_in_process
from regl_app.runs.records import GlobalMetrics, RunResult
from regl_app.runs.round_numbers import class_tag
from regl_app.runs.samples import save_samples
from server_app.trackers import registry
from server_app.trackers.confusion_picture import confusion_picture
from server_app.trackers.registry import MAKERS, make_trackers
from server_app.trackers.tracker import Status, TrackedRun
from server_app.trackers.trackers import Trackers

from .conftest import LAST, TRAINED, UNTRAINED, RunMaker


class Fake:
    """A tracker that writes down what it is told, and fails in the call named ``broken``."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.told: list[tuple[str, object]] = []

    def _take(self, call: str, what: object) -> None:
        if call == self.broken:
            raise ConnectionError("the line is dead")
        self.told.append((call, what))

    def begin(self, run: TrackedRun) -> None:
        self._take("begin", run.first_round)

    def scalars(self, values: Mapping[str, float], number: int) -> None:
        self._take("scalars", number)

    def picture(self, name: str, pixels: Array, number: int) -> None:
        self._take("picture", (name, number))

    def files(self, paths: Sequence[Path]) -> None:
        self._take("files", [path.name for path in paths])

    def end(self, status: Status) -> None:
        self._take("end", status)


def tell(run: TrackedRun, trackers: Trackers, error: BaseException | None = None) -> None:
    with trackers:
        trackers.begin(run)
        for record in (UNTRAINED, TRAINED, LAST):
            run.folder.append_round(record)
            trackers.add(record)
        if error is not None:
            raise error


def test_every_call_comes_in_its_order(tracked: RunMaker) -> None:
    fake = Fake()
    run = tracked()
    run.folder.report.write_text("<html>")
    tell(run, Trackers({"fake": fake}))
    assert fake.told == [
        ("begin", 0),
        ("scalars", 0),
        ("scalars", 1),
        ("scalars", 2),
        ("picture", ("confusion/global", 2)),
        ("files", ["config.json", "federation.json", "history.jsonl", "report.html"]),
        ("end", "finished"),
    ]


@pytest.mark.parametrize("call", ["begin", "scalars", "picture", "files", "end"])
def test_a_tracker_that_fails_is_a_warning_and_the_others_go_on(
    call: str, tracked: RunMaker, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = Fake(call), Fake()
    with caplog.at_level(logging.WARNING, "regl"):
        tell(tracked(), Trackers({"broken": broken, "whole": whole}))
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ["broken: no longer written, the run goes on: the line is dead"]
    assert whole.told[-1] == ("end", "finished")
    assert call not in dict(broken.told)


@pytest.mark.parametrize(
    ("error", "status", "left"),
    [(ValueError("x"), "failed", True), (KeyboardInterrupt(), "stopped", False)],
)
def test_how_the_run_ended_is_told(
    error: BaseException, status: str, left: bool, tracked: RunMaker
) -> None:
    fake = Fake()
    with pytest.raises(type(error)):
        tell(tracked(), Trackers({"fake": fake}), error)
    assert fake.told[-1] == ("end", status)
    assert ("files" in dict(fake.told)) is left


def test_the_kept_models_numbers_are_told_last(tracked: RunMaker) -> None:
    """Trackers take a name's last value for the run's: after a chosen round there are others."""
    told: dict[str, object] = {}

    class Last(Fake):
        def scalars(self, values: Mapping[str, float], number: int) -> None:
            told.update(values)
            super().scalars(values, number)

    fake, run = Last(), tracked()
    worse = LAST.model_copy(update={"metrics": GlobalMetrics(accuracy=0.3, macro_f1=0.1)})
    with Trackers({"fake": fake}) as trackers:
        trackers.begin(run)
        for record in (TRAINED, worse):
            run.folder.append_round(record)
            trackers.add(record)
        run.folder.write_result(
            RunResult(status="finished", seconds=1.0, best_round=1, model_round=1)
        )
    assert (told["kept/round"], told["kept/accuracy"], told["kept/loss"]) == (1, 0.5, 1.5)
    assert told["global/accuracy"] == 0.3
    assert ("picture", ("confusion/global", 1)) in fake.told
    assert [what for call, what in fake.told if call == "scalars"] == [1, 2, 1]


class Interrupted(Fake):
    """A tracker amid whose call for round 1 the run is stopped."""

    def scalars(self, values: Mapping[str, float], number: int) -> None:
        if number == 1 and ("scalars", "cut") not in self.told:
            self.told.append(("scalars", "cut"))
            raise KeyboardInterrupt
        super().scalars(values, number)


@pytest.mark.parametrize("kind", [Interrupted, Fake])
def test_a_run_that_is_stopped_amid_telling_tells_the_round_in_the_end(
    kind: type[Fake], tracked: RunMaker
) -> None:
    """In the call, or after the round was written down and before the trackers' turn."""
    cut, other, run = kind(), Fake(), tracked()
    with (
        pytest.raises(KeyboardInterrupt),
        Trackers({"cut": cut, "other": other}) as trackers,
    ):
        trackers.begin(run)
        run.folder.append_round(UNTRAINED)
        trackers.add(UNTRAINED)
        run.folder.append_round(TRAINED)
        if kind is Fake:
            raise KeyboardInterrupt
        trackers.add(TRAINED)
    for fake in (cut, other):
        rounds = [what for call, what in fake.told if call == "scalars" and what != "cut"]
        assert rounds == [0, 1]
        assert fake.told[-1] == ("end", "stopped")


def test_a_resumed_run_tells_no_earlier_round_again(tracked: RunMaker) -> None:
    tell(tracked(), Trackers({"fake": Fake()}))
    again, run = Fake(), tracked(first_round=2)
    with Trackers({"fake": again}) as trackers:
        trackers.begin(run)
        trackers.add(LAST)
    assert [what for call, what in again.told if call == "scalars"] == [2]


def test_damaged_samples_are_a_warning(tracked: RunMaker, caplog: pytest.LogCaptureFixture) -> None:
    run = tracked()
    (run.folder.samples / "client-00.npz").write_bytes(b"PK")
    with caplog.at_level(logging.WARNING, "regl"):
        tell(run, Trackers({"fake": Fake()}))
    assert "the trackers go without sample pictures" in caplog.text


def test_sample_pictures_are_read_once_and_a_damaged_file_costs_no_other(
    tracked: RunMaker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, fake, read = tracked(), Fake(), list[str]()

    def reading(path: Path) -> dict[str, Array]:
        read.append(path.name)
        return read_arrays(path)

    monkeypatch.setattr("regl_app.runs.samples.read_arrays", reading)
    real = ImageSet(torch.zeros((1, 1, 8, 8), dtype=torch.uint8), torch.tensor([0]))
    for client in (0, 2):
        save_samples(
            run.folder.path, client, real=real, frozen=None, adapted=None, class_names=["a"]
        )
    (run.folder.samples / "client-01.npz").write_bytes(b"PK")
    with caplog.at_level(logging.WARNING, "regl"):
        tell(run, Trackers({"fake": fake}))
    assert read == ["client-00.npz", "client-01.npz", "client-02.npz"]
    shown = [what for call, what in fake.told if call == "picture"]
    assert shown[:2] == [("samples/client-00", 0), ("samples/client-02", 0)]
    assert caplog.text.count("client-01.npz") == 1


def test_a_drawing_that_fails_ends_no_run(
    tracked: RunMaker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no fonts")

    monkeypatch.setattr("server_app.trackers.trackers.confusions_of", broken)
    fake = Fake()
    with caplog.at_level(logging.WARNING, "regl"):
        tell(tracked(), Trackers({"fake": fake}))
    assert "the trackers go without what was taken for what: no fonts" in caplog.text
    assert fake.told[-1] == ("end", "finished") and "files" in dict(fake.told)


def test_the_table_of_choices_and_that_of_makers_are_one() -> None:
    assert TRACKERS.keys() == MAKERS.keys()


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({}, ("tensorboard",)),
        ({"tensorboard": False}, ()),
        ({"trackers": "mlflow, wandb,mlflow"}, ("tensorboard", "mlflow", "wandb")),
        ({"tensorboard": False, "trackers": '["tensorboard"]'}, ("tensorboard",)),
    ],
)
def test_names_are_taken_once(keys: dict[str, str | bool], names: tuple[str, ...]) -> None:
    assert RunConfig.from_flat(keys).tracker_names == names


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_not_there_is_refused_before_there_is_a_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config_of: Callable[..., RunConfig]
) -> None:
    # A folder of wandb's own that lies at hand is no package either.
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for module in [each for each in sys.modules if each.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ConfigError, match=rf"package '{name}' is not .*regl-app\[{name}\]"):
        make_trackers(config_of(trackers=name))


def test_the_run_is_refused_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config_of: Callable[..., RunConfig]
) -> None:
    monkeypatch.setattr(registry, "_is_installed", lambda package: package != "wandb")
    config = config_of(trackers="wandb", out_dir=str(tmp_path / "runs"))
    with pytest.raises(ConfigError, match=r"trackers='wandb'.*regl-app\[wandb\]"):
        run_in_process(config, clients=2)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def config_of() -> Callable[..., RunConfig]:
    """Return the maker of a small configuration."""
    return lambda **keys: RunConfig.from_flat(
        {"method": "fedavg", "rounds": 1, "train.steps": 1, "data.max-train": 40}
        | {key.replace("_", "-"): value for key, value in keys.items()}
    )


@pytest.mark.parametrize(
    ("names", "tag"),
    [
        (["cat"], "class-00-cat"),
        (["0"], "class-00"),
        ([], "class-00"),
        (["猫 / 犬"], "class-00-猫_犬"),
        (["../.."], "class-00-.._.."),
        (["|<b>"], "class-00-b"),
        (["%"], "class-00"),
        (["x" * 99], "class-00-" + "x" * 60),
    ],
)
def test_classes_have_their_names_in_letters_that_all_take(names: list[str], tag: str) -> None:
    assert class_tag(0, names) == tag


@pytest.mark.filterwarnings("error")
def test_a_picture_of_what_was_confused_takes_any_name() -> None:
    import numpy as np

    for names in (["cat", "猫"], ["$a_", "b$\\frac"], []):
        picture = confusion_picture(np.array([[3, 1], [0, 0]]), names)
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
        assert picture.std() > 10
    assert confusion_picture(np.eye(300, dtype=np.int64), []).shape[2] == 3
