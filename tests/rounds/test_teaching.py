"""What teaching changes in a federation, what it leaves alone, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app import RunConfig, federate
from regl_app.core.errors import RunError
from regl_app.core.types import Scalar
from regl_app.learning.models.build import build_model
from regl_app.rounds.exchange import RoundResult
from regl_app.rounds.federate import Federated
from regl_app.rounds.teaching import Teacher

SMALL: dict[str, Scalar] = {
    "rounds": 2,
    "data.max-train": 200,
    "data.max-test": 60,
    "train.steps": 3,
    "model.width": 4,
    "supplement.cap": 3,
    "lora.steps": 2,
    "pool.per-class": 3,
    "probe.per-class": 2,
    "generator.steps": 2,
    "labels.by": "hard",
    "teaching.head": "average",
    "teaching.distill": "none",
}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Federated]:
    def run(**changes: Scalar) -> Federated:
        keys = {k.replace("__", ".").replace("_", "-"): v for k, v in changes.items()}
        return federate(RunConfig.from_flat({**SMALL, **keys, "cache-dir": str(tmp_path)}), 3)

    return run


def equal(one: Federated, other: Federated) -> bool:
    states = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_soft_labels_begin_in_round_2(run: Callable[..., Federated]) -> None:
    hard, soft = run(method="regl-free"), run(method="regl-free", labels__by="global")
    assert hard.rounds[1].metrics == soft.rounds[1].metrics
    assert hard.rounds[2].metrics != soft.rounds[2].metrics
    assert equal(hard, run(method="regl-free", labels__by="global", labels__share=0.0))


def test_each_way_of_teaching_changes_the_average_and_repeats_itself(
    run: Callable[..., Federated],
) -> None:
    plain = run(method="regl-free")
    for keys in ({"teaching__head": "experts"}, {"teaching__distill": "experts"}):
        taught = run(method="regl-free", **keys)
        assert not equal(taught, plain)
        assert equal(taught, run(method="regl-free", **keys))
    head = run(method="regl-free", rounds=1, teaching__head="experts").model.state_dict()
    once = run(method="regl-free", rounds=1).model.state_dict()
    changed = {name for name, value in head.items() if not torch.equal(value, once[name])}
    assert changed == {"head.weight", "head.bias"}


def test_who_has_no_supplement_can_be_taught_too(run: Callable[..., Federated]) -> None:
    plain = run(method="fedavg")
    taught = run(method="fedavg", teaching__distill="experts", teaching__head="experts")
    assert not equal(taught, plain)
    for each in taught.rounds[-1].results.values():
        assert each.num_examples == each.real_images


def test_synthetic_images_need_not_weigh_in_the_average(run: Callable[..., Federated]) -> None:
    usual, real = run(method="regl-free"), run(method="regl-free", server__weights="real")
    for result in usual.rounds[1].results.values():
        assert result.num_examples > result.real_images
    for result in real.rounds[1].results.values():
        assert result.num_examples == result.real_images
    assert not equal(usual, real)


def test_a_distillation_that_diverges_leaves_the_average(
    run: Callable[..., Federated], caplog: pytest.LogCaptureFixture
) -> None:
    keys = {"method": "fedavg", "train__clip_norm": 0.0, "rounds": 1}
    taught = run(**keys, teaching__distill="experts", teaching__lr=1e30)
    assert "lower teaching.lr=1e+30" in caplog.text
    assert equal(taught, run(**keys))


def test_a_first_model_is_taught_before_anybody_trains(run: Callable[..., Federated]) -> None:
    keys = {"method": "fedavg", "rounds": 1, "pool__per_class": 20, "generator__steps": 5}
    plain, taught = run(**keys), run(**keys, teaching__first_steps=40)
    untrained, first = (each.rounds[0].metrics for each in (plain, taught))
    assert first.loss < untrained.loss
    assert first.accuracy > 0.2 > untrained.accuracy  # of ten classes, from prompts alone
    assert not equal(taught, plain)
    assert equal(taught, run(**keys, teaching__first_steps=40))
    for each in taught.rounds[-1].results.values():
        assert each.num_examples == each.real_images


@pytest.mark.parametrize(("steps", "read"), [(0, False), (5, True)])
def test_who_has_a_first_model_has_a_reader_in_round_1(
    steps: int, read: bool, run: Callable[..., Federated]
) -> None:
    found = run(method="regl-free", rounds=1, teaching__first_steps=steps).rounds[1].results
    qualities = [each.quality for each in found.values() if each.quality is not None]
    assert qualities
    assert all(np.isfinite(each.reading).any() == read for each in qualities)


def test_a_first_model_that_diverges_ends_the_run(run: Callable[..., Federated]) -> None:
    keys = {"method": "fedavg", "train__clip_norm": 0.0, "rounds": 1, "train__lr": 1e30}
    with pytest.raises(RunError, match=r"lower train\.lr=1e\+30.*teaching\.first-steps=0, got 5"):
        run(**keys, teaching__first_steps=5)


@pytest.mark.parametrize(
    ("keys", "kept"),
    [
        ({"method": "fedavg"}, False),  # its average's row is everybody's mean, up to rounding
        ({"method": "fedavg", "server.strategy": "fedavgm"}, True),
        ({"method": "fedavg", "server.strategy": "fedmedian"}, True),
        ({"method": "feddpd", "supplement.site": "download"}, False),
        ({"method": "feddpd", "supplement.site": "server"}, True),  # averages tuned uploads
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_a_class_that_nobody_holds_keeps_the_row_of_the_runs_strategy(
    keys: dict[str, Scalar], kept: bool
) -> None:
    config = RunConfig.from_flat({**SMALL, "teaching.head": "experts", "model.width": 4, **keys})
    start, average, one, other = (build_model(config.model, 3, 1, 16, seed) for seed in range(4))
    results = {
        key: RoundResult(key, 1, 10, 10, 0.0, each.state_dict(), real_counts=np.array(counts))
        for key, each, counts in ((0, one, [5, 0, 0]), (1, other, [0, 5, 0]))
    }
    teacher = Teacher(config, start, device=torch.device("cpu"), synthesizer=None)
    taught = teacher.teach(1, average.state_dict(), results, start.state_dict())
    for name in ("head.weight", "head.bias"):
        rows = [each.state_dict()[name] for each in (average, one, other)]
        mean = ((rows[1].double() + rows[2].double()) / 2).float()
        assert torch.equal(taught[name][2], (rows[0] if kept else mean)[2])
        assert torch.equal(taught[name][:2], torch.stack([rows[1][0], rows[2][1]]))
