"""A run that chooses among its rounds: when it ends, whose model it keeps, and after a break."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord

from regl_app import federate
from regl_app.cli.summary import print_summary
from regl_app.config import RunConfig
from regl_app.core.errors import DataError, RunError
from regl_app.core.types import Scalar, Weights
from regl_app.flower.engines.in_process import run_in_process
from regl_app.rounds.client import Client
from regl_app.rounds.client_round import evaluate_round
from regl_app.rounds.exchange import EvaluationResult, Validation
from regl_app.runs.comparison.outcome import read_outcome
from regl_app.runs.folder import Checkpoint, RunFolder
from regl_app.runs.trained.labelled import labelled_images
from regl_app.runs.trained.model import TrainedModel
from regl_app.runs.trained.scores import scores_of
from regl_app.runs.watch import watch
from server_app.round_loop import RoundLoop
from server_app.round_record import Round

KEYS: dict[str, Scalar] = {
    "method": "fedavg",
    "rounds": 5,
    "data.max-train": 200,
    "data.max-test": 40,
    "data.image-size": 16,
    "model.width": 4,
    "train.steps": 3,
    "train.lr": 0.4,
    "train.schedule": "exponential",
    "train.decay": 0.8,
    "train.decay-every": 1,
    "train.augment": "flip,colour",
    "train.class-weights": "balanced",
    "validation.fraction": 0.2,
    "validation.keep": "best",
    "report": False,
    "tensorboard": False,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunConfig]:
    out = tmp_path_factory.mktemp("choosing")

    def make(**changes: Scalar) -> RunConfig:
        own = {key.replace("__", ".").replace("_", "-"): value for key, value in changes.items()}
        places: dict[str, Scalar] = {"out-dir": str(out / "runs"), "cache-dir": str(out / "cache")}
        return RunConfig.from_flat(KEYS | places | own)

    return make


PLANNED = (0.3, 0.6, 0.5, 0.4, 0.2)
"""What the rounds come to: which of them is the best must not hang on a processor's rounding."""


@pytest.fixture(scope="module", autouse=True)
def planned() -> Iterator[None]:
    """Have every client measure ``PLANNED`` on its validation images."""

    def evaluate(
        client: Client, round_number: int, weights: Weights, *, run: str = ""
    ) -> EvaluationResult:
        found = evaluate_round(client, round_number, weights, run=run)
        if found.validation is None or round_number == 0:
            return found
        accuracy = PLANNED[round_number - 1]
        seen = dataclasses.replace(found.validation, accuracy=accuracy)
        return dataclasses.replace(found, validation=seen)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("client_app.handlers", "regl_app.rounds.federate"):
            patch.setattr(f"{module}.evaluate_round", evaluate)
        yield


@pytest.fixture(scope="module")
def run(config: Callable[..., RunConfig]) -> RunFolder:
    return RunFolder.open(run_in_process(config(), clients=3))


def _accuracies(folder: RunFolder) -> list[float]:
    found = [record.validation for record in folder.read_history()[1:]]
    return [each.accuracy for each in found if each is not None]


def _equal(one: RunFolder, two: RunFolder) -> bool:
    weights, others = one.load_model(), two.load_model()
    return all(torch.equal(value, others[name]) for name, value in weights.items())


def test_the_best_rounds_model_is_kept(run: RunFolder) -> None:
    accuracies = _accuracies(run)
    assert len(accuracies) == 5
    assert accuracies == pytest.approx(PLANNED)
    best, result = 2, run.read_result()
    assert result is not None and (result.best_round, result.model_round) == (best, best)
    assert [path.name for path in run.checkpoints.glob("best-*")] == ["best-0002.safetensors"]
    kept, last = run.load_model(), run.read_checkpoint()
    assert all(torch.equal(value, kept[name]) for name, value in run.load_best(best).items())
    assert last is not None
    assert not torch.equal(last.weights["head.weight"], kept["head.weight"])


def test_what_is_told_of_a_run_is_of_the_model_that_it_keeps(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Comparison, table, watching and what its model does when it is tried agree."""
    result, history = run.read_result(), run.read_history()
    assert result is not None and result.model_round is not None
    kept, last = history[result.model_round], history[-1]
    assert kept.metrics.macro_f1 != last.metrics.macro_f1, "the settings must tell them apart"
    outcome = read_outcome(run.path)
    assert outcome.keeps == "best"
    assert outcome.summary.macro_f1 == kept.metrics.macro_f1
    trained = TrainedModel.of(run)
    images, names = labelled_images(trained, {})
    found = scores_of(trained, images, names).metrics
    assert found.macro_f1 == pytest.approx(kept.metrics.macro_f1)
    print_summary(run.path)
    shown = capsys.readouterr().out
    assert f"global accuracy, round {kept.round} (best)" in shown
    assert f"{kept.metrics.macro_f1:.3f}" in shown
    *_, end = watch(run)
    assert f"round {kept.round}, the best by validation images" in end
    assert f"{kept.metrics.accuracy:.1%}" in end


def test_the_history_has_each_rounds_rate(run: RunFolder) -> None:
    rates = [record.lr for record in run.read_history()]
    assert rates[0] is None
    assert rates[1:] == pytest.approx([0.4 * 0.8**number for number in range(5)])


def test_the_plain_loop_chooses_alike(run: RunFolder, config: Callable[..., RunConfig]) -> None:
    found = federate(config(), 3)
    result = run.read_result()
    assert result is not None and found.best == result.best_round
    assert [each.validation.accuracy for each in found.rounds if each.validation] == _accuracies(
        run
    )
    kept, weights = found.model.state_dict(), run.load_model()
    assert all(torch.equal(value, weights[name]) for name, value in kept.items())


def test_it_ends_when_it_gets_no_better(run: RunFolder, config: Callable[..., RunConfig]) -> None:
    accuracies, patience = _accuracies(run), 1
    best = last = 0
    for number, value in enumerate(accuracies, start=1):
        best = number if best == 0 or value > accuracies[best - 1] else best
        last = number
        if number - best >= patience:
            break
    assert last < 5
    ended = run_in_process(
        config(validation__patience=patience, validation__keep="last"), clients=3
    )
    folder = RunFolder.open(ended)
    assert _accuracies(folder) == accuracies[:last]
    result = folder.read_result()
    assert result is not None
    assert (result.status, result.best_round, result.model_round) == ("finished", best, last)
    plain = federate(config(validation__patience=patience), 3)
    assert plain.rounds[-1].number == last


@pytest.mark.parametrize("moment", ["checkpoint", "leave_best"])
def test_a_run_that_goes_on_chooses_as_an_unbroken_one(
    run: RunFolder,
    config: Callable[..., RunConfig],
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Broken off in the best round, before or after it is complete."""
    result = run.read_result()
    assert result is not None and result.best_round is not None
    original, name = getattr(RunFolder, moment), f"broken-{moment}"

    def die(self: RunFolder, what: Checkpoint | dict[int, int]) -> object:
        number = what.round if isinstance(what, Checkpoint) else max(what)
        if number == result.best_round:
            raise KeyboardInterrupt
        return original(self, what)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, moment, die)
        with pytest.raises(KeyboardInterrupt):
            run_in_process(config(name=name), clients=3)
    broken = next(path for path in run.path.parent.iterdir() if path.name == name)
    again = RunFolder.open(run_in_process(config(resume=str(broken)), clients=3))
    assert _accuracies(again) == _accuracies(run)
    found = again.read_result()
    assert found is not None and found.best_round == result.best_round
    assert _equal(again, run)
    kept = {again.checkpoints / f"best-{found.best_round:04d}.safetensors"}
    assert kept == set(again.checkpoints.glob("best-*"))


def _stopped_before(
    number: int,
    config: RunConfig,
    accuracies: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> RunFolder:
    """Return the folder of a run of these validation accuracies that ends before that round."""
    rounds = RoundLoop._train

    def die(self: RoundLoop, now: int) -> object:
        if now == number:
            raise KeyboardInterrupt
        return rounds(self, now)

    monkeypatch.setattr(RoundLoop, "_evaluate", _measuring(accuracies))
    with monkeypatch.context() as patch:
        patch.setattr(RoundLoop, "_train", die)
        with pytest.raises(KeyboardInterrupt):
            run_in_process(config, clients=3)
    return RunFolder.open(Path(config.out_dir) / config.name)


def _measuring(accuracies: list[float]) -> Callable[[RoundLoop, int, ArrayRecord], Round]:
    original = RoundLoop._evaluate

    def evaluate(self: RoundLoop, number: int, arrays: ArrayRecord) -> Round:
        found = original(self, number, arrays)
        return dataclasses.replace(found, validation=Validation(9, accuracies[number - 1], 1.0))

    return evaluate


def test_a_damaged_checkpoint_of_the_best_round_costs_a_round(
    config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round before it has an older best one, whose model is still needed."""
    accuracies = [0.2, 0.5, 0.4, 0.6, 0.1]
    folder = _stopped_before(5, config(name="damaged"), accuracies, monkeypatch)
    best = folder.load_best(4)
    newest = folder.checkpoints / "round-0004.safetensors"
    newest.write_bytes(newest.read_bytes()[:-5])
    again = RunFolder.open(run_in_process(config(resume=str(folder.path)), clients=3))
    result, kept = again.read_result(), again.load_model()
    assert result is not None and (result.best_round, result.model_round) == (4, 4)
    assert all(torch.equal(value, kept[name]) for name, value in best.items())


def test_a_best_model_that_is_gone_is_named(
    config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless its round has a checkpoint, which holds it too."""
    folder = _stopped_before(4, config(name="gone"), [0.5, 0.2, 0.4], monkeypatch)
    (folder.checkpoints / "best-0001.safetensors").unlink()
    with pytest.raises(RunError, match=r"best-0001.safetensors.*cannot be read"):
        run_in_process(config(resume=str(folder.path)), clients=3)


def test_too_small_a_share_is_told(config: Callable[..., RunConfig]) -> None:
    with pytest.raises(RunError, match=r"no client measured a validation image.*raise it"):
        run_in_process(config(validation__fraction=0.001), clients=3)


def test_who_could_not_evaluate_is_told_and_not_that_too_little_is_held_out(
    config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise DataError("its disk is gone")

    monkeypatch.setattr("client_app.handlers.evaluate_round", broken)
    with pytest.raises(RunError, match="no client could evaluate the global model") as caught:
        run_in_process(config(name="blind"), clients=3)
    assert "its disk is gone" in str(caught.value)
    assert "validation.fraction" not in str(caught.value)


def test_a_round_without_all_validation_images_is_left_aside(
    config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first round lacks one client, the third another, the fourth all of them."""
    away = {1: {2}, 3: {0}, 4: {0, 1, 2}}

    def measured(client: Client, number: int, *rest: Any, **how: Any) -> EvaluationResult:
        if client.partition_id in away.get(number, ()):
            raise DataError("its link is gone")
        few = 0 if number == 1 else 10  # in round 1 nobody who answers has any
        found = evaluate_round(client, number, *rest, **how)
        seen = Validation(few, number / 10, 1.0) if few else None
        return dataclasses.replace(found, validation=seen)

    monkeypatch.setattr("client_app.handlers.evaluate_round", measured)
    folder = RunFolder.open(run_in_process(config(name="away", rounds=4), clients=3))
    found = [record.validation for record in folder.read_history()[1:]]
    assert [each and each.images for each in found] == [None, 30, 20, None]
    result = folder.read_result()
    assert result is not None and (result.best_round, result.model_round) == (2, 2)
    assert "round 3 is not compared with the others: 20 of 30 validation images" in caplog.text
