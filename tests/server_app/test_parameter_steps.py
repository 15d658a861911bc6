"""A server's optimizer leaves alone what is no trained parameter."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from regl_app.config import RunConfig
from regl_app.config.choices import STRATEGIES
from server_app.flower_strategies import make_strategy
from server_app.parameter_steps import step_parameters_only

OPTIMIZERS = [name for name, choice in STRATEGIES.items() if choice.settings]


def record(**arrays: NDArray[np.generic]) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def reply(arrays: ArrayRecord, images: int) -> Message:
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 0, 1
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": images})})
    return Message(content, dst_node_id=1, message_type="train")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_buffers_are_averaged_and_what_nobody_trains_stays(name: str) -> None:
    frozen = np.float32([0.1, 0.7, 1e-9])
    start = record(
        w=np.zeros(3, np.float32), frozen=frozen, var=np.float32([1e-3]), seen=np.int64([4])
    )
    settings = {"server.strategy": name} | ({} if name == "fedavgm" else {"server.tau": 1e-9})
    strategy = make_strategy(RunConfig.from_flat(settings).server)
    # What configure_train notes.
    strategy.current_arrays = (  # type: ignore[attr-defined]
        start if name == "fedavgm" else {key: each.numpy() for key, each in start.items()}
    )
    replies = [
        reply(
            record(w=np.full(3, value), frozen=frozen, var=np.float32([var]), seen=np.int64([9])),
            images,
        )
        for value, var, images in (
            (np.float32(0.2), 4e-4, 3),
            (np.float32(0.5), 1e-4, 7),
            (np.float32(0.5), 1e-4, 13),
        )
    ]
    stepped, _ = strategy.aggregate_train(1, replies)
    assert stepped is not None
    if name != "fedavgm":  # the rounding of a mean of equal numbers, at the smallest tau
        assert not np.allclose(stepped["frozen"].numpy(), frozen, atol=1e-5)
    after = step_parameters_only(stepped, start, replies, ["var", "seen"])
    assert list(after) == list(start)
    assert np.array_equal(after["frozen"].numpy(), frozen)
    assert after["var"].numpy() == pytest.approx((3 * 4e-4 + 20 * 1e-4) / 23)
    assert after["seen"].numpy() == 9 and after["seen"].numpy().dtype == np.int64
    assert np.array_equal(after["w"].numpy(), stepped["w"].numpy())
    assert np.all(after["w"].numpy() > 0)
