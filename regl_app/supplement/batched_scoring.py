"""Many models' answers on the same images: one batched pass, or one model after the other."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch.func import functional_call, vmap

from regl_app.core.types import Weights
from regl_app.data.images import to_float
from regl_app.generator.ran_out import tried
from regl_app.learning.models.classifier import Classifier

_IMAGES_AT_ONCE = 512


@torch.no_grad()
def score_models(
    states: Sequence[Weights],
    architecture: Classifier,
    images: torch.Tensor,
    device: torch.device | str,
    *,
    batched: bool | None = None,
) -> torch.Tensor:
    """Return log-probabilities ``(K, N, C)`` float32, on the CPU, of K models on N images.

    Args:
        states: the models' weights, at least one.
        architecture: a model of their kind; its own weights do not matter and stay.
        images: uint8 ``(N, C, H, W)``.
        device: where to compute.
        batched: all models in one pass (``torch.func``), if the device holds them; None: on
            accelerators only, and only classifiers of ours. On processors the grouped convolutions
            that this becomes took twice as long as a loop (benchmarks/scoring.py).
    """
    device = torch.device(device)
    if batched is None:
        batched = device.type != "cpu" and not architecture.foreign
    given = states, architecture, images, device
    logits = tried(partial(_batched, *given)) if batched else None
    if logits is None:
        logits = _looped(*given)
    return logits.float().log_softmax(dim=-1).cpu()


def _looped(
    states: Sequence[Weights], architecture: Classifier, images: torch.Tensor, device: torch.device
) -> torch.Tensor:
    model = copy.deepcopy(architecture).to(device).eval()
    logits = []
    for state in states:
        model.load_state_dict(dict(state))
        parts = torch.split(images, _IMAGES_AT_ONCE)
        logits.append(torch.cat([model(to_float(part.to(device))) for part in parts]))
    return torch.stack(logits)


def _batched(
    states: Sequence[Weights], architecture: Classifier, images: torch.Tensor, device: torch.device
) -> torch.Tensor:
    # Weights come from outside, each name's in one piece: the module that is called needs none.
    skeleton = copy.deepcopy(architecture).to("meta").eval()
    stacked = {
        name: torch.stack([state[name].to(device, like.dtype) for state in states])
        for name, like in architecture.state_dict().items()
    }

    def call(own: dict[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = functional_call(skeleton, own, (batch,))
        return logits

    every = vmap(call, in_dims=(0, None))
    at_once = max(1, _IMAGES_AT_ONCE // len(states))
    parts = [every(stacked, to_float(part.to(device))) for part in torch.split(images, at_once)]
    return torch.cat(parts, dim=1)
