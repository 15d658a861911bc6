"""A classifier that is trained on a pretended card has the processor's weights, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.choices import AUGMENTATIONS, METHODS
from regl_app.config.presets import PRESETS
from regl_app.core.types import Scalar
from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.metrics import evaluate
from regl_app.learning.methods.registry import make_method
from regl_app.learning.models.build import build_model
from regl_app.learning.training.augment import make_augment
from regl_app.learning.training.loop import TrainResult, train_local
from tests.on_a_card.card_tensors import CARD
from tests.on_a_card.pretended_card import pretended_card

pytestmark = pytest.mark.usefixtures("fp32")
State = Mapping[str, torch.Tensor]
STEPS: Mapping[str, Scalar] = {"train.steps": 3, "train.batch-size": 8, "model.width": 4}


def drawn(count: int = 24, channels: int = 1) -> ImageSet:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, channels, 16, 16), dtype=torch.uint8, generator=random)
    return ImageSet(pixels, torch.arange(count) % 3)


def trained(
    keys: Mapping[str, Scalar], device: torch.device, **told: Any
) -> tuple[State, list[TrainResult], float]:
    """Return what two rounds on ``device`` leave: weights, what they keep and send, the loss."""
    config, data = RunConfig.from_flat({**STEPS, **keys}), drawn(channels=told.pop("channels", 1))
    model = build_model(config.model, 3, data.shape[0], 16, 0)
    method, results, kept = make_method(config), [], {}
    received = method.template(model)
    for seed in range(2):
        results.append(
            train_local(
                model,
                data,
                config,
                method=method,
                seed=seed,
                device=device,
                real_images=15,
                kept=kept,
                received={name: value + 0.01 for name, value in received.items()},
                **told,
            )
        )
        kept = dict(results[-1].kept)
    loss = evaluate(model, data, 3, device).loss
    return {name: value.cpu() for name, value in model.state_dict().items()}, results, loss


def assert_alike(keys: Mapping[str, Scalar], **told: Any) -> None:
    found = []
    for place in (nullcontext(torch.device("cpu")), pretended_card(bf16=False)):
        with place as device:
            found.append(trained(keys, device, **told))
    (expected, results, loss), (state, on_card, loss_there) = found
    assert loss == loss_there and [each.loss for each in results] == [each.loss for each in on_card]
    for one, other in (
        (expected, state),
        *((a.kept, b.kept) for a, b in zip(results, on_card, strict=True)),
        *((a.sent, b.sent) for a, b in zip(results, on_card, strict=True)),
    ):
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("objective", METHODS)
def test_every_objective(objective: str) -> None:
    keys = {"method": objective} if objective in PRESETS else {"objective": objective}
    assert_alike(keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"train.optimizer": "adam", "train.real-share": 0.5, "train.class-weights": "balanced"},
        {"model.name": "resnet18"},
        {"model.name": "torchvision:mobilenet_v3_small", "model.input-size": 32},
    ],
)
def test_every_kind_of_classifier_and_optimizer(keys: Mapping[str, Scalar]) -> None:
    assert_alike(keys)


def test_soft_labels() -> None:
    assert_alike({}, targets=torch.full((9, 3), 1 / 3))


# torchvision resizes whole numbers as such on a processor, and as floats elsewhere.
@pytest.mark.parametrize("name", sorted(set(AUGMENTATIONS) - {"crop"}))
def test_every_augmentation(name: str) -> None:
    assert_alike({"train.augment": name}, channels=3)


def test_new_cards_train_in_bf16() -> None:
    data, config = drawn(), RunConfig.from_flat(STEPS)
    with pretended_card():
        model = build_model(config.model, 3, 1, 16, 0)
        seen: list[torch.dtype] = []
        model.head.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
        train_local(model, data, config, seed=0, device=CARD)
        assert set(seen) == {torch.bfloat16}
        assert {each.dtype for each in model.parameters()} == {torch.float32}
        assert evaluate(model, data, 3, CARD).images == len(data)
        assert seen[-1] == torch.float32


def test_crops_are_the_processors_but_for_rounding(card: torch.device) -> None:
    images = drawn(channels=3).images
    augment = [make_augment(("crop",), 16, 0) for _ in range(2)]
    expected, found = augment[0](images, 1), augment[1](images.to(card), 1)
    assert found.device == card
    assert (expected.float() - found.cpu().float()).abs().max() <= 1
