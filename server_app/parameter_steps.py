"""A server's optimizer steps parameters that were trained, and nothing else.

Flower's FedOpt strategies and FedAvgM step every array of a model. An adaptive step is about as
long however small the change: the rounding of an average of equal numbers would move what nobody
trains, and a running variance would go below zero.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, Message
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from regl_app.flower.messages.content import ARRAYS


def step_parameters_only(
    stepped: ArrayRecord,
    start: ArrayRecord,
    replies: Sequence[Message],
    buffers: Collection[str],
    weighted_by: str = "num-examples",
) -> ArrayRecord:
    """Return ``stepped`` with the plain average of buffers, and with what no client changed.

    Args:
        stepped: the model that the strategy made.
        start: the model that the round began with.
        replies: what was averaged, each with one record of arrays.
        buffers: names of arrays that are no parameters, such as running means.
        weighted_by: the metric that replies weigh by.
    """
    averaged = (
        aggregate_arrayrecords([reply.content for reply in replies], weighted_by)
        if buffers
        else ArrayRecord()
    )
    kept = {}
    for name, before in start.items():
        array = before.numpy()
        told = (reply.content.array_records[ARRAYS][name].numpy() for reply in replies)
        if all(np.array_equal(each, array) for each in told):
            kept[name] = before
        elif name in buffers:
            mean = averaged[name].numpy()
            whole = np.issubdtype(array.dtype, np.integer)
            kept[name] = Array((np.rint(mean) if whole else mean).astype(array.dtype))
        else:
            kept[name] = stepped[name]
    return ArrayRecord(kept)
