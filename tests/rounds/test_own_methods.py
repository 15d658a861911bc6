"""What somebody's method makes at the server is refused where it is made, in both loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from regl_app import RunConfig, federate, run_in_process
from regl_app.core.errors import RunError
from regl_app.core.types import Scalar, Tensors, Weights
from regl_app.learning.methods import make_method
from regl_app.learning.methods.method import Local, Method
from regl_app.rounds.exchange import RoundResult
from regl_app.rounds.method_state import (
    aggregate_method,
    first_state,
    most_sent,
    reported,
    shared_weights,
)

Offer = Callable[[type[Method]], None]
CONFIG = RunConfig.from_flat({"method": "fedavg"})
STATE = {"c": torch.zeros(2), "n": torch.zeros((), dtype=torch.int64)}
FINE = {"c": torch.ones(2), "n": torch.ones((), dtype=torch.int64)}
RESULTS = {1: RoundResult(1, 1, 5, 5, 0.1, FINE, sent=FINE)}


class Making(Method):
    """Makes whatever it is told to."""

    made: object = None

    def shared(self, names: Sequence[str]) -> Sequence[str]:
        return self.made  # type: ignore[return-value]

    def template(self, model: nn.Module) -> Tensors:
        return self.made  # type: ignore[return-value]

    def aggregate(
        self,
        state: Tensors,
        sent: Mapping[int, Tensors],
        weights: Mapping[int, float],
        num_clients: int,
    ) -> Tensors:
        return self.made  # type: ignore[return-value]

    def report(
        self, start: Weights, average: Weights, sent: Mapping[int, Tensors], seed: int
    ) -> Weights:
        return self.made  # type: ignore[return-value]


def making(made: object) -> Making:
    method = Making(CONFIG.train)
    method.made = made
    return method


ODD: list[tuple[object, str]] = [
    (None, "got NoneType"),
    ([torch.ones(2)], "got list"),
    ({**FINE, "c": 1.0}, "'c' is of type float"),
    ({"n": FINE["n"]}, r"1 tensors differ, such as \{\} instead of \{'c'"),
    ({**FINE, "d": FINE["c"]}, r"1 tensors differ, such as \{'d'"),
    ({**FINE, "c": torch.ones(3)}, r"'c': \(\(3,\), .* instead of \{'c': \(\(2,\)"),
    ({**FINE, "n": torch.ones(())}, "'n': .*float32.* instead of .*int64"),
    ({**FINE, "c": torch.tensor([1.0, torch.nan])}, "'c' holds NaN or infinity"),
    ({**FINE, "c": torch.tensor([1.0, torch.inf])}, "'c' holds NaN or infinity"),
]


@pytest.mark.parametrize(("made", "words"), ODD)
def test_an_odd_state_is_refused_by_name(made: object, words: str) -> None:
    allowed = "aggregate must return the tensors that template has, of the same shapes and types"
    with pytest.raises(RunError, match=f"objective='fedavg': {allowed}.*{words}"):
        aggregate_method(CONFIG, making(made), STATE, RESULTS, 2)


@pytest.mark.parametrize(("made", "words"), ODD)
def test_an_odd_report_is_refused_by_name(made: object, words: str) -> None:
    with pytest.raises(RunError, match=f"objective='fedavg': report .* of average.*{words}"):
        reported(CONFIG, making(made), 1, STATE, STATE, RESULTS)


def test_what_has_the_form_is_taken_as_it_is_by_value() -> None:
    method = making({**FINE, "c": FINE["c"].clone().requires_grad_()})
    state = aggregate_method(CONFIG, method, STATE, RESULTS, 2)
    model = reported(CONFIG, method, 1, STATE, STATE, RESULTS)
    for found in (state, model):
        assert found.keys() == FINE.keys()
        assert all(torch.equal(value, FINE[name]) for name, value in found.items())
        assert not found["c"].requires_grad


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (["weight", "head.weight"], r"some of the names .* got 'head.weight': .* 'weight', 'bias'"),
        ("weight", "a list of names, got 'weight'"),
        (None, "a list of names, got None"),
    ],
)
def test_a_part_that_the_model_does_not_have_is_refused(made: object, words: str) -> None:
    with pytest.raises(RunError, match=f"objective='fedavg': shared must return {words}"):
        shared_weights(CONFIG, making(made), nn.Linear(2, 2))


@pytest.mark.parametrize(("make", "function"), [(first_state, "template"), (most_sent, "sends")])
def test_a_form_is_a_table_of_tensors(make: Callable[..., object], function: str) -> None:
    words = f"objective='fedavg': {function} must return a table .* got NoneType"
    with pytest.raises(RunError, match=words):
        make(CONFIG, making(None), nn.Linear(2, 2))


def test_the_bound_of_what_is_sent_is_not_copied_in_every_round() -> None:
    bound = {"c": torch.ones(3)}
    assert most_sent(CONFIG, making(bound), nn.Linear(2, 2))["c"] is bound["c"]
    first = first_state(CONFIG, making(bound), nn.Linear(2, 2))["c"]
    assert first.data_ptr() != bound["c"].data_ptr()


class Losing(Method):
    """The server's state loses its only tensor."""

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        return {}, {"c": torch.ones(1)}

    def template(self, model: nn.Module) -> Tensors:
        return {"c": torch.zeros(1)}

    def aggregate(
        self,
        state: Tensors,
        sent: Mapping[int, Tensors],
        weights: Mapping[int, float],
        num_clients: int,
    ) -> Tensors:
        return {}


class Headless(Method):
    """A round is measured by a part of the model."""

    def report(
        self, start: Weights, average: Weights, sent: Mapping[int, Tensors], seed: int
    ) -> Weights:
        return {name: value for name, value in average.items() if "head" not in name}


class Misnamed(Method):
    """Shares what no model has."""

    def shared(self, names: Sequence[str]) -> Sequence[str]:
        return [*names, "classifier.weight"]


@pytest.mark.parametrize("loop", ["plain", "flower"])
@pytest.mark.parametrize(
    ("method", "function"),
    [(Losing, "aggregate"), (Headless, "report"), (Misnamed, "shared")],
)
def test_both_loops_refuse_alike(
    method: type[Method], function: str, loop: str, offer: Offer, tmp_path: Path
) -> None:
    offer(method)
    keys: dict[str, Scalar] = {
        "method": "fedavg", "objective": "hers", "rounds": 1, "data.max-train": 60,
        "data.max-test": 20, "train.steps": 1, "model.width": 4, "report": False,
        "tensorboard": False, "out-dir": str(tmp_path), "cache-dir": str(tmp_path / "cache"),
    }  # fmt: skip
    config = RunConfig.from_flat(keys)
    assert isinstance(make_method(config), method)
    with pytest.raises(RunError, match=f"objective='hers': {function} must return"):
        federate(config, 2) if loop == "plain" else run_in_process(config, clients=2)
