"""Averages of uploaded models, weighted by the images they were trained on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from regl_app.rounds.exchange import RoundResult


def fedavg(results: Mapping[int, RoundResult]) -> dict[str, torch.Tensor]:
    """Return FedAvg's new global model, ``sum_k n_k / n * L_k`` (McMahan et al., 2017).

    Term by term in the uploads' type, as Flower's strategy of that name adds up: the same sums in
    the same order give the same bits.

    Args:
        results: by partition, ascending; at least one of them with a model.
    """
    uploads = [(r.num_examples, r.weights) for r in results.values() if r.weights is not None]
    images = sum(count for count, _ in uploads)
    averaged: dict[str, torch.Tensor] = {}
    for name, like in uploads[0][1].items():
        total = None
        for count, weights in uploads:
            term = weights[name].detach().cpu().numpy() * (count / images)
            total = term if total is None else total + term
        array = np.asarray(total, dtype=like.detach().cpu().numpy().dtype)
        averaged[name] = torch.from_numpy(array)
    return averaged


def mean_weights(results: Mapping[int, RoundResult]) -> dict[str, torch.Tensor]:
    """Return the uploaded models' average in double precision, shapes as uploaded.

    What the server compares uploads with before they are averaged.

    Args:
        results: by partition, at least one of them with a model.
    """
    uploads = [(r.num_examples, r.weights) for r in results.values() if r.weights is not None]
    images = sum(count for count, _ in uploads)
    return {
        name: (
            torch.stack([count * weights[name].double() for count, weights in uploads]).sum(0)
            / images
        ).to(value.dtype)
        for name, value in uploads[0][1].items()
    }
