"""The global model on the clients' test images together, where the server has none."""

from __future__ import annotations

import numpy as np

from regl_app.core.errors import RunError
from regl_app.flower.messages.evaluate import EvaluateReply
from regl_app.learning.evaluation.confusion import metrics_of
from regl_app.learning.evaluation.metrics import Metrics
from server_app.replies import Replies, listed


def pooled_metrics(evaluated: Replies[EvaluateReply], num_classes: int) -> Metrics:
    """Return the metrics over all images that were tested on, each the same weight.

    Exact where every client sent its confusion counts. Where one kept them, macro-F1 is the mean
    of the clients' own, weighted by images, and there is no recall per class.

    Raises:
        RunError: nobody tested.
    """
    replies = [reply for reply in evaluated.replies.values() if reply.num_examples > 0]
    if not replies:
        raise RunError(
            "no client could evaluate the global model, and the server has no test images "
            f"(data.path){listed(evaluated.failures)}"
        )
    images = sum(reply.num_examples for reply in replies)

    def mean(name: str) -> float:
        weighted = [getattr(reply, name) * reply.num_examples for reply in replies]
        return float(sum(weighted) / images)

    counted = [reply.confusion for reply in replies if reply.confusion is not None]
    if len(counted) == len(replies):
        return metrics_of(np.sum(counted, axis=0), mean("loss"))
    unknown: list[float | None] = [None] * num_classes
    return Metrics(mean("accuracy"), mean("macro_f1"), mean("loss"), unknown, images)
