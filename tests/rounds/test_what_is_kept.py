"""What a method keeps at a client is there in the next round, and nothing else is."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from regl_app.config import RunConfig
from regl_app.core.errors import DivergedError, RunError
from regl_app.core.types import Scalar, Tensors
from regl_app.data.federation import Federation
from regl_app.learning.methods import make_method
from regl_app.learning.methods.method import Local, Method
from regl_app.rounds.client import Client, client_name
from regl_app.rounds.client_round import evaluate_round, train_round
from regl_app.rounds.client_state import ClientState, Memory
from regl_app.rounds.exchange import RoundTask, diverged
from regl_app.rounds.federate import federate
from regl_app.rounds.method_state import aggregate_method

CPU = torch.device("cpu")
Make = Callable[..., list[Client]]
Offer = Callable[[type[Method]], None]
HERS = "objective='hers': "


class Prior(Method):
    """Keeps how many rounds it saw, and the logarithm of counts: -inf of absent classes."""

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        prior = torch.log(torch.tensor([3.0, 0.0, 2.0]))
        return {"n": local.kept.get("n", torch.zeros(())) + 1, "prior": prior}, {}


class Undefined(Method):
    """Keeps 0 / 0."""

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        return {"fine": torch.ones(1), "ratio": torch.zeros(2) / 0}, {}


class EndlessHead(Method):
    """Leaves the head at the client, where it has grown beyond numbers."""

    def shared(self, names: Sequence[str]) -> Sequence[str]:
        return [name for name in names if not name.startswith("head.")]

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        head = {k: v.clone() for k, v in model.state_dict().items() if k.startswith("head.")}
        head["head.bias"][0] = torch.inf
        return head, {}


class Restarting(EndlessHead):
    """Leaves the head at the client, and forgets a half of it there."""

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        return {"head.weight": model.state_dict()["head.weight"]}, {}


class Forgetful(Restarting):
    """Leaves the head at the client, and does not keep it."""

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        return {}, {}


class Reshaped(Restarting):
    """Keeps a head of another shape than the model's."""

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        state = model.state_dict()
        return {"head.weight": state["head.weight"][:1], "head.bias": state["head.bias"]}, {}


class Denying(Prior):
    """Keeps something, and says that it keeps nothing: it would never be found again."""

    @property
    def keeps(self) -> bool:
        return False


class Single(Method):
    """Returns what is kept alone."""

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        return {"n": torch.ones(())}  # type: ignore[return-value]


class Numbers(Method):
    """Keeps what is no tensor."""

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        return {"n": 1.0}, {}  # type: ignore[dict-item]


@pytest.fixture
def clients(tmp_path: Path) -> Make:
    """Return what makes a small federation's clients."""

    def make(method: str, total: int = 3, **changes: Scalar) -> list[Client]:
        keys: dict[str, Scalar] = {
            "method": method,
            "rounds": 6,
            "data.max-train": 150,
            "data.max-test": 30,
            "train.steps": 4,
            "model.width": 4,
            "partition.beta": 1.0,
            "cache-dir": str(tmp_path),
        }
        config = RunConfig.from_flat(keys | changes)
        federation = Federation.load(config, total)
        return [
            Client(
                config, k, federation.source, federation.client(k), CPU, tmp_path, client_name(k)
            )
            for k in range(total)
        ]

    return make


def test_scaffolds_server_control_is_the_mean_of_all_clients_controls(clients: Make) -> None:
    everyone = clients("scaffold", **{"train.weight-decay": 0.0})
    config = everyone[0].config
    method, model = make_method(config), everyone[0].model()
    weights, c = model.state_dict(), method.template(model)
    asked = {1: (0, 1, 2), 2: (0, 2), 3: (1,)}  # partial participation
    for number, taking_part in asked.items():
        results = {
            k: train_round(everyone[k], RoundTask(number, run="r", received=c), weights)
            for k in taking_part
        }
        c = aggregate_method(config, method, c, results, len(everyone))
    kept = [ClientState.of(one, "r").before(4, one.template).kept for one in everyone]
    assert kept[0].keys() == c.keys()
    assert any(float(value.abs().max()) > 1e-3 for value in c.values())
    for name, value in c.items():
        torch.testing.assert_close(value, torch.stack([each[name] for each in kept]).mean(0))


@pytest.mark.parametrize("method", ["scaffold", "moon", "fedrep"])
def test_what_a_round_kept_changes_the_next_one(clients: Make, method: str) -> None:
    one = clients(method)[0]
    weights = one.model().state_dict()
    first = train_round(one, RoundTask(1, run="r"), weights)
    assert first.weights is not None
    kept = ClientState.of(one, "r").before(2, one.template)
    assert kept.round == 1 and kept.kept
    # Not from its own last model, which would leave MOON nothing to tell apart but by rounding.
    there = train_round(one, RoundTask(2, run="r"), weights)
    gone = train_round(one, RoundTask(2, run="another"), weights)
    assert there.weights is not None and gone.weights is not None
    assert any(not torch.equal(there.weights[k], gone.weights[k]) for k in there.weights)


def test_an_infinite_number_is_kept_as_it_is(
    clients: Make, offer: Offer, caplog: pytest.LogCaptureFixture
) -> None:
    offer(Prior)
    one = clients("fedavg", objective="hers")[0]
    weights = one.model().state_dict()
    for number in (1, 2, 3):
        train_round(one, RoundTask(number, run="r"), weights)
        kept = ClientState.of(one, "r").before(number + 1, one.template).kept
        assert (float(kept["n"]), kept["prior"][1].item()) == (number, -torch.inf)
    assert "nothing of an earlier round" not in caplog.text


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Undefined, HERS + r"finish keeps NaN in 'ratio'.*finite, inf or -inf"),
        (
            EndlessHead,
            HERS + r"finish keeps NaN or infinity in 'head.bias', a part of the model",
        ),
        (
            Restarting,
            HERS + r"finish must keep what shared leaves out.* 1 of 2 .* 'head.bias'",
        ),
        (
            Forgetful,
            HERS + r"finish must keep what shared leaves out.* 2 of 2 .* 'head.bias'",
        ),
        (
            Reshaped,
            HERS + r"finish must keep .* of the model.*'head.weight'.*instead of",
        ),
        (Denying, HERS + r"finish keeps 'n'.* keeps says"),
        (Single, r"Single.finish must return two tables of tensors.*got dict"),
        (Numbers, r"Numbers.finish must return two tables of tensors.*'n' is of type float"),
    ],
)
def test_what_no_round_could_go_on_from_is_refused_by_name(
    clients: Make, offer: Offer, method: type[Method], words: str
) -> None:
    offer(method)
    one = clients("fedavg", objective="hers")[0]
    with pytest.raises((RunError, DivergedError), match=words):
        train_round(one, RoundTask(1, run="r"), one.model().state_dict())
    assert ClientState.of(one, "r").before(2, one.template).round == 0


@pytest.mark.parametrize(("deployed", "days"), [(True, 29), (False, 0.9)])
def test_a_site_keeps_its_part_after_the_last_round_in_case_the_server_has_not_completed_it(
    clients: Make, monkeypatch: pytest.MonkeyPatch, deployed: bool, days: float
) -> None:
    monkeypatch.setattr("regl_app.rounds.client_state.is_deployed", lambda: deployed)
    one = clients("fedrep", rounds=1)[0]
    train_round(one, RoundTask(1, run="r"), one.model().state_dict())
    state = ClientState.of(one, "r")

    def later(days: float) -> bool:
        for path in state.folder.iterdir():
            times = path.stat()
            os.utime(path, (times.st_atime, times.st_mtime - days * 24 * 3600))
        train_round(one, RoundTask(1, run="another"), one.model().state_dict())
        return state.before(2, one.template).round == 1

    assert later(days)
    assert not later(1.1)


def test_a_client_is_tested_with_its_own_head(clients: Make) -> None:
    one = clients("fedrep", **{"train.steps": 30})[0]
    result = train_round(one, RoundTask(1, run="r"), one.model().state_dict())
    assert result.weights is not None
    assert not any(name.startswith("head.") for name in result.weights)
    own = evaluate_round(one, 1, result.weights, run="r")
    stranger = evaluate_round(one, 1, result.weights, run="another")
    assert own.loss < stranger.loss


@pytest.mark.parametrize("method", ["scaffold", "moon", "fedrep"])
def test_nobody_goes_on_from_a_diverged_round(clients: Make, method: str) -> None:
    sound = clients(method)[0]
    weights = sound.model().state_dict()
    train_round(sound, RoundTask(1, run="r"), weights)
    wild = clients(method, **{"train.lr": 1e30, "train.clip-norm": 0.0})[0]
    assert diverged(train_round(wild, RoundTask(2, run="r"), weights))
    assert ClientState.of(sound, "r").before(3, sound.template).round == 1
    assert not diverged(train_round(sound, RoundTask(3, run="r"), weights))


def test_the_loop_leaves_a_diverged_client_out_as_a_run_by_flower_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys: dict[str, Scalar] = {
        "method": "fedavg", "rounds": 1, "data.max-train": 100, "data.max-test": 20,
        "train.steps": 4, "model.width": 4, "cache-dir": str(tmp_path),
    }  # fmt: skip
    wild = {**keys, "train.lr": 1e30, "train.clip-norm": 0.0}
    with pytest.raises(Exception, match="0 clients have a model to average"):
        federate(RunConfig.from_flat(wild), 2)
    assert "client 0 left out" in caplog.text


def test_the_loop_leaves_a_client_out_whose_own_part_diverged(
    tmp_path: Path, offer: Offer, caplog: pytest.LogCaptureFixture
) -> None:
    offer(EndlessHead)
    keys: dict[str, Scalar] = {
        "method": "fedavg", "objective": "hers", "rounds": 1, "data.max-train": 100,
        "data.max-test": 20, "train.steps": 1, "model.width": 4, "cache-dir": str(tmp_path),
    }  # fmt: skip
    with pytest.raises(RunError, match="0 clients have a model to average"):
        federate(RunConfig.from_flat(keys), 2)
    assert "client 0 left out: " in caplog.text and "'head.bias'" in caplog.text


def test_the_loop_leaves_nothing_behind_that_clients_kept(tmp_path: Path) -> None:
    keys: dict[str, Scalar] = {
        "method": "fedrep", "rounds": 2, "data.max-train": 100, "data.max-test": 20,
        "train.steps": 2, "model.width": 4, "cache-dir": str(tmp_path),
    }  # fmt: skip
    federate(RunConfig.from_flat(keys), 2)
    assert not list(tmp_path.glob("state/*"))


def test_without_its_newest_file_a_client_goes_on_from_the_one_before(tmp_path: Path) -> None:
    state, one = ClientState(tmp_path), {"w": torch.ones(1)}
    for number in (1, 2):
        state.save(Memory(number, kept={"c": torch.full((1,), float(number))}))
    assert state.before(3, one).kept["c"] == 2
    newest = tmp_path / "round-0002.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert (state.before(3, one).round, float(state.before(3, one).kept["c"])) == (1, 1.0)


@pytest.mark.parametrize(("fraction", "level"), [(1.0, logging.WARNING), (0.5, logging.INFO)])
def test_a_first_round_that_comes_late_is_a_warning_only_where_all_take_part(
    clients: Make, fraction: float, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    one = clients("moon", **{"server.fraction": fraction})[0]
    caplog.set_level(logging.INFO, "regl")
    train_round(one, RoundTask(2, run="r"), one.model().state_dict())
    (record,) = [r for r in caplog.records if "nothing of an earlier round" in r.getMessage()]
    assert record.levelno == level
