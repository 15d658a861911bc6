"""The plain loop gives what Flower's run gives, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from regl_app import Federation, RunConfig, RunFolder, TrainedModel, federate, run_in_process
from regl_app.core.errors import ConfigError
from regl_app.core.types import Scalar
from regl_app.data.images import ImageSet
from regl_app.rounds.client import Client
from regl_app.rounds.exchange import RoundResult
from regl_app.rounds.federate import FederatedRound
from regl_app.runs.records import RoundRecord
from regl_app.supplement.image_quality import MEASURES

pytestmark = pytest.mark.usefixtures("short_calibration")

MOBILE = "torchvision:mobilenet_v3_small"
SMALL: dict[str, Scalar] = {
    "rounds": 2,
    "data.max-train": 200,
    "data.max-test": 60,
    "train.steps": 3,
    "model.width": 4,
    "supplement.cap": 3,
    "lora.steps": 2,
    "lora.min-images": 2,
    "dpo.steps": 2,
    "pool.per-class": 3,
    "probe.per-class": 2,
    "generator.steps": 2,
    "server.tune-steps": 2,
    "teaching.steps": 3,
    "report": False,
    "tensorboard": False,
}

BUNDLED: dict[str, Scalar] = {"method": "regl", "long-tail.factor": 5.0, "rounds": 3}
"""With the generator that is shipped, in its precision; all others with a quicker one."""
# A client that sits out a round comes back in the third.
SOME: dict[str, Scalar] = {"server.fraction": 0.7, "rounds": 3}


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "fedavg", **SOME, "server.personalized-every": 2},
        BUNDLED,
        {"method": "scaffold", **SOME},
        {"method": "moon"},
        {"method": "fedlc"},
        {"method": "fedrs", **SOME},
        {"method": "regl-free", "objective": "balanced-softmax"},
        {"method": "fedntd"},
        {"method": "ccvr", **SOME},
        {"method": "regl-free", "objective": "ccvr"},
        {"method": "regl-free", "objective": "ccvr", **SOME},
        {"method": "fedrep"},
        {"method": "regl-shared", "lora.rounds": 2},
        {"method": "regl-shared", "lora.min-images": 60, **SOME},
        {"method": "regl-dpd", "objective": "scaffold", "supplement.adapter": "frozen"},
        {"method": "regl-dpd", "supplement.adapter": "dpo"},
        {"method": "regl-free", "supplement.ratio": 0.05},  # fewer images than lacking classes
        {"method": "feddpd", "supplement.site": "download"},
        {"method": "feddpd", "supplement.site": "download", "supplement.decay": 2.0, **SOME},
        {"method": "feddpd", "supplement.site": "server"},
        {
            "method": "regl",
            "labels.by": "global",
            "teaching.head": "experts",
            "teaching.distill": "experts",
        },
        {"method": "regl-free", "teaching.head": "experts", "share-diagnostics": False},
        {
            "method": "fedavg",
            "teaching.head": "experts",
            "teaching.say": "noisy",
            "share-diagnostics": False,
            "privacy.reproducible": True,
        },
        {
            "method": "regl-dpd",
            "supplement.adapter": "frozen",
            "teaching.head": "experts",
            "teaching.say": "discrepancy",
        },
        {"method": "feddpd", "supplement.site": "download", "labels.by": "experts"},
        {"method": "feddpd", "teaching.distill": "experts", "teaching.head": "experts"},
        {"method": "fedavg", "teaching.first-steps": 3},
        {"method": "regl-free", "objective": "ccvr", "teaching.first-steps": 3},
        {"method": "feddpd", "teaching.first-steps": 3},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_the_history_is_that_of_a_run_by_flower(
    settings: dict[str, Scalar], quick_generator: dict[str, Scalar], tmp_path: Path
) -> None:
    generator = {} if settings == BUNDLED else quick_generator
    folders = {"out-dir": str(tmp_path), "cache-dir": str(tmp_path / "cache")}
    config = RunConfig.from_flat({**SMALL, **generator, **settings, **folders})
    run = RunFolder.open(run_in_process(config, clients=3))
    found = federate(config.updated({"cache-dir": str(tmp_path / "other")}), 3)
    history = run.read_history()
    assert [record.round for record in history] == [each.number for each in found.rounds]
    for record, each in zip(history, found.rounds, strict=True):
        assert record.metrics.accuracy == each.metrics.accuracy
        assert record.metrics.loss == each.metrics.loss
        assert record.metrics.per_class == each.metrics.per_class
        assert (record.tail is None) == (each.tail is None)
        if record.tail is not None and each.tail is not None:
            assert record.tail.accuracy == each.tail.accuracy
        for name in ("discrepancy", "real_counts", "synthetic_counts"):
            assert getattr(record, name) == _rows(each.results, name)
        assert record.quotas == _rows(each.results, "held")
        assert _quality(record) == _measured(each.results)
        facts = {key: dict(result.facts) for key, result in each.results.items()}
        assert record.clients == facts
        tested = {k: r.accuracy for k, r in each.evaluated.items() if r.num_examples}
        assert (record.personalized.per_client if record.personalized else {}) == tested
    kept = load_file(run.path / "model.safetensors")
    state = found.model.state_dict()
    assert kept.keys() == state.keys()
    assert all(torch.equal(kept[name], state[name].cpu()) for name in state)


def _rows(results: object, name: str) -> list[list[float] | None] | None:
    assert isinstance(results, dict)
    rows = [getattr(results[key], name) if key in results else None for key in range(3)]
    listed = [None if row is None else np.asarray(row).tolist() for row in rows]
    return listed if any(row is not None for row in listed) else None


def _quality(record: RoundRecord) -> dict[str, object]:
    return record.quality.model_dump() if record.quality else {}


def _measured(results: Mapping[int, RoundResult]) -> dict[str, object]:
    """Return what a history has of the images' quality."""
    rows = {
        name: [
            None
            if key not in results or (quality := results[key].quality) is None
            else [None if np.isnan(value) else value for value in getattr(quality, name).tolist()]
            for key in range(3)
        ]
        for name in ("images", *MEASURES)
    }
    return dict(rows) if any(row is not None for row in rows["images"]) else {}


@pytest.mark.parametrize(
    ("settings", "clients", "words"),
    [
        ({}, 0, "clients must be >= 1, got 0"),
        ({"data.source": "site", "data.classes": "a,b"}, 2, "deployment"),
        ({"server.strategy": "fedadam"}, 2, "run_in_process"),
    ],
)
def test_what_the_loop_cannot_do_is_refused(
    settings: dict[str, Scalar], clients: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        federate(RunConfig.from_flat({"method": "fedavg", **settings}), clients)


def test_images_of_one_s_own_replace_the_planned_supplement(tmp_path: Path) -> None:
    keys = {**SMALL, "method": "fedavg", "cache-dir": str(tmp_path)}
    config = RunConfig.from_flat(keys)
    plain = federate(config, 2)
    asked: list[tuple[int, int]] = []

    def none(client: Client, number: int) -> ImageSet:
        asked.append((client.partition_id, number))
        return ImageSet.empty(client.data.train.shape)

    empty = federate(config.updated({"method": "regl", "labels.by": "hard"}), 2, own_images=none)
    assert asked == [(key, number) for number in (1, 2) for key in (0, 1)]
    assert [each.metrics for each in empty.rounds] == [each.metrics for each in plain.rounds]

    def first(client: Client, _: int) -> ImageSet:
        return client.source.train.subset(range(5))

    more = federate(config, 2, own_images=first)
    for result in more.rounds[-1].results.values():
        assert result.num_examples == result.real_images + 5
        assert result.synthetic_counts is not None and result.synthetic_counts.sum() == 5
        assert result.discrepancy is None
    assert more.rounds[-1].metrics != plain.rounds[-1].metrics


@pytest.mark.parametrize("given", ["float64", "no gradients", "inference", "meta"])
def test_what_a_notebook_has_set_in_pytorch_changes_nothing(given: str, tmp_path: Path) -> None:
    """And is there again after the call."""
    model = MOBILE if given == "float64" else "cnn"
    keys = {**SMALL, "method": "fedavg", "model.name": model, "rounds": 1}
    paths = {"cache-dir": str(tmp_path), "out-dir": str(tmp_path)}
    config = RunConfig.from_flat({**keys, **paths, "data.max-train": 50})
    plain = federate(config, 2).rounds[-1].metrics
    images = Federation.load(config, 2).source.test.subset(range(3))
    with ExitStack() as stack:
        if given == "float64":
            torch.set_default_dtype(torch.float64)
            stack.callback(torch.set_default_dtype, torch.float32)
        else:
            stack.enter_context(
                {
                    "no gradients": torch.no_grad,
                    "inference": torch.inference_mode,
                    "meta": lambda: torch.device("meta"),
                }[given]()
            )
        was = defaults()
        assert federate(config, 2).rounds[-1].metrics == plain
        run = RunFolder.open(run_in_process(config, clients=2))
        assert run.read_history()[-1].metrics.loss == plain.loss
        found = TrainedModel.of(run).log_probs(images)
        assert found.dtype == torch.float32 and found.shape == (3, 10)
        assert defaults() == was
    assert defaults() == (torch.float32, torch.device("cpu"), True, False)


def defaults() -> tuple[object, ...]:
    device = torch.get_default_device()
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    return torch.get_default_dtype(), device, grad, inference


def test_a_run_to_go_on_with_is_refused() -> None:
    config = RunConfig.from_flat({**SMALL, "method": "fedavg", "resume": "runs/a"})
    with pytest.raises(ConfigError, match=r"resume='runs/a': run_in_process does"):
        federate(config, 2)


def test_uploads_are_there_for_whoever_looks_in_time(tmp_path: Path) -> None:
    config = RunConfig.from_flat({**SMALL, "method": "scaffold", "cache-dir": str(tmp_path)})
    seen: list[int] = []

    def look(done: FederatedRound) -> None:
        seen.append(sum(each.weights is not None for each in done.results.values()))

    rounds = federate(config, 2, on_round=look).rounds
    assert seen == [0, *[2] * (len(rounds) - 1)] and len(rounds) > 2
    for done in rounds[:-1]:
        assert all(each.weights is None and not each.sent for each in done.results.values())
    assert all(each.weights is not None for each in rounds[-1].results.values())
