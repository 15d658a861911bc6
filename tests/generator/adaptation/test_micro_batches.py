"""Tuning where memory is short: batches in parts, gradient checkpointing, and the same adapter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation import micro_batches
from regl_app.generator.adaptation.dpo import PreferenceTuned, tune_dpo
from regl_app.generator.adaptation.lora import TunedAdapter, tune_lora
from regl_app.generator.adaptation.micro_batches import BatchLoss, MicroBatches
from regl_app.generator.foundation import Foundation
from regl_app.generator.pool import sample_pool

CONCEPTS = ("a cat", "a dog", "a horse")
LORA = LoraConfig(layers="all", rank=2, steps=3, batch_size=5, lr=1e-3)
DPO = DpoConfig(steps=3, batch_size=5, lr=1e-3, beta=100.0)
Watch = Callable[[Callable[[int, bool], bool]], list[int]]


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    micro_batches._learnt.clear()


@pytest.fixture(scope="module")
def foundation(second_pipeline: Path) -> Foundation:
    config = GeneratorConfig(path=str(second_pipeline), precision="fp32", steps=2, guidance=1.0)
    return Foundation.load(config, CONCEPTS)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Return what makes a list of the images that go through a denoiser that is tuned.

    It runs out of memory unless ``fits``, of images and whether checkpointing is on.
    """

    def start(fits: Callable[[int, bool], bool]) -> list[int]:
        asked: list[int] = []
        plain = Foundation.predict

        def spy(self: Foundation, latents: torch.Tensor, *rest: Any) -> torch.Tensor:
            if torch.is_grad_enabled():
                asked.append(len(latents))
                if not fits(len(latents), self.denoiser.is_gradient_checkpointing):
                    if len(asked) % 2:  # of the processor's memory torch tells so
                        torch.empty(10**15)
                    raise torch.OutOfMemoryError("CUDA out of memory")
            return plain(self, latents, *rest)

        monkeypatch.setattr(Foundation, "predict", spy)
        return asked

    return start


def lora(foundation: Foundation, config: LoraConfig = LORA, **more: Any) -> TunedAdapter:
    images = torch.randint(0, 256, (6, 3, 48, 48), generator=torch.Generator().manual_seed(0))
    real = ImageSet(images.byte(), torch.tensor([0, 0, 0, 1, 1, 1]))
    return tune_lora(foundation, real, config, seed=3, **more)


def preferences(foundation: Foundation) -> PreferenceTuned:
    latents = torch.randn((6, *foundation.latent_shape), generator=torch.Generator().manual_seed(0))
    rows, pairs = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([[0, 2, 4], [1, 3, 5]])
    return tune_dpo(foundation, latents, rows, pairs, DPO, LORA, seed=3)


def same(found: Any, expected: Any) -> None:
    """An Adam step turns rounding into as much as a step where a gradient is next to nothing."""
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    assert found.state.keys() == expected.state.keys()
    far = [(found.state[n] - value).abs().mean() for n, value in expected.state.items()]
    assert max(far) < 0.02 * LORA.lr


def test_the_gradients_of_the_parts_are_those_of_the_batch(foundation: Foundation) -> None:
    inputs = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    found = []
    for at_once in (7, 4, 3, 1):
        weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0]))

        def each(part: slice, weight: torch.nn.Parameter = weight) -> torch.Tensor:
            return (inputs[part] @ weight).square()

        loss = micro_batches._backward(BatchLoss(7, each), at_once, None)
        assert weight.grad is not None
        found.append((loss, weight.grad))
    for loss, gradient in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        torch.testing.assert_close(gradient, found[0][1])


def test_a_batch_that_fits_is_one_pass_to_the_bit(foundation: Foundation, memory: Watch) -> None:
    expected = lora(foundation)
    asked = memory(lambda *_: True)
    found = lora(foundation)
    assert asked == [5, 5, 5]
    assert found.loss == expected.loss
    assert all(torch.equal(found.state[name], each) for name, each in expected.state.items())


@pytest.mark.parametrize("tune", [lora, preferences])
def test_large_images_go_one_by_one_on_a_processor(
    foundation: Foundation,
    memory: Watch,
    tune: Callable[[Foundation], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = tune(foundation)
    each = 1 if tune is lora else 2
    monkeypatch.setattr(micro_batches, "ON_PROCESSORS", 2 * 48 * 48)
    asked = memory(lambda *_: True)
    same(tune(foundation), expected)
    assert asked == [2 * each, 2 * each, each] * 3
    assert not micro_batches._learnt  # nothing had to be learnt
    monkeypatch.setattr(micro_batches, "ON_PROCESSORS", 1)
    asked.clear()
    same(tune(foundation), expected)
    assert asked == [each] * 15


def test_small_images_and_cards_know_no_such_bound(foundation: Foundation) -> None:
    assert micro_batches.most_at_once(replace(foundation, image_size=512)) == 1
    assert micro_batches.most_at_once(replace(foundation, image_size=1024)) == 1
    for side, count in ((32, 250), (64, 32)):  # batches of the bundled one's kind stay whole
        assert micro_batches.most_at_once(replace(foundation, image_size=side)) >= count
    card = replace(foundation, image_size=1024, device=torch.device("cuda", 0))
    assert micro_batches.most_at_once(card) > 10**6


@pytest.mark.parametrize("tune", [lora, preferences])
def test_a_step_that_does_not_fit_is_halved_and_remembered(
    foundation: Foundation,
    memory: Watch,
    tune: Callable[[Foundation], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="regl")
    expected = tune(foundation)
    each = 1 if tune is lora else 2  # images of an example
    asked = memory(lambda images, _: images <= 2 * each)
    same(tune(foundation), expected)
    step = [2 * each, 2 * each, each]
    assert asked == [5 * each, *step, *step, *step]
    what, of = ("tuning", "images") if tune is lora else ("preference tuning", "pairs")
    key = "lora" if tune is lora else "dpo"
    assert caplog.messages == [
        f"{what} at 48 x 48 pixels: the memory of cpu holds 2 {of} at once, from now on; the "
        f"gradients of all 5 in a batch are added up ({key}.batch-size=5)"
    ]
    asked.clear()
    same(tune(foundation), expected)
    assert asked == [*step, *step, *step]  # for the rest of the process
    assert len(caplog.messages) == 1


def test_margins_are_those_of_the_whole_batch(foundation: Foundation, memory: Watch) -> None:
    expected = preferences(foundation).margins
    memory(lambda images, _: images <= 2)
    assert preferences(foundation).margins == pytest.approx(expected, rel=1e-2, abs=1e-6)
    assert expected[-1] != 0


@pytest.mark.parametrize("tune", [lora, preferences])
def test_where_one_does_not_fit_activations_are_computed_twice(
    foundation: Foundation,
    memory: Watch,
    tune: Callable[[Foundation], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = tune(foundation)
    each = 1 if tune is lora else 2
    asked = memory(lambda images, twice: twice and images <= 3 * each)
    same(tune(foundation), expected)
    # 5, 2, 1 without; then again 5, then 2, 2, 1 in every step
    step = [2 * each, 2 * each, each]
    assert asked == [5 * each, 2 * each, each, 5 * each, *step * 3]
    assert len(caplog.messages) == 1
    assert "at once, with gradient checkpointing, from now on" in caplog.text
    assert not foundation.denoiser.is_gradient_checkpointing
    asked.clear()
    same(tune(foundation), expected)
    assert asked == step * 3
    assert not foundation.denoiser.is_gradient_checkpointing


@pytest.mark.parametrize(("tune", "of"), [(lora, "image"), (preferences, "pair")])
def test_what_does_not_fit_at_all_is_our_error(
    foundation: Foundation, memory: Watch, tune: Callable[[Foundation], Any], of: str
) -> None:
    before = {name: value.clone() for name, value in foundation.denoiser.state_dict().items()}
    memory(lambda *_: False)
    with pytest.raises(GeneratorError) as error:
        tune(foundation)
    assert f"tuning on a single {of} of 48 x 48 pixels in fp32 does not fit into" in str(
        error.value
    )
    assert "lower lora.rank, set generator.precision=bf16 or fp16" in str(error.value)
    after = foundation.denoiser.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not foundation.denoiser.is_gradient_checkpointing


def test_memory_that_ends_on_the_way_back_leaves_no_gradient(foundation: Foundation) -> None:
    class Full(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
            context.count = len(values)
            return values.clone()

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
            if context.count > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return gradient

    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    inputs = torch.tensor([1.0, 2.0, 3.0])

    def each(part: slice) -> torch.Tensor:
        # The first example of a part has got its gradient when the rest run out.
        return torch.cat([inputs[part][:1] * weight, Full.apply(inputs[part][1:] * weight)])

    batches = MicroBatches(foundation, "a test", "image", "")
    loss = batches.backward(BatchLoss(3, each), optimizer, None)
    torch.testing.assert_close(loss, torch.tensor(4.0))
    torch.testing.assert_close(weight.grad, torch.tensor([2.0]))


def test_scaled_gradients_add_up_too(foundation: Foundation, memory: Watch) -> None:
    scaled = replace(foundation, precision="fp16")
    config = LORA.model_copy(update={"steps": 2})
    expected = lora(scaled, config)
    asked = memory(lambda images, _: images <= 2)
    found = lora(scaled, config)
    assert asked[0] == 5
    assert max(asked[1:]) == 2
    assert found.loss == pytest.approx(expected.loss, rel=0.02)


def test_images_of_the_lacking_classes_are_in_the_batch(
    foundation: Foundation, memory: Watch, tmp_path: Path
) -> None:
    config = GeneratorConfig(path="", steps=2, guidance=1.0)
    pool = sample_pool(foundation, config, (3, 48, 48), per_class=2, stream=1, path=tmp_path / "p")
    weighed = LORA.model_copy(update={"prior_weight": 0.5})
    expected = lora(foundation, weighed, prior=pool)
    asked = memory(lambda images, _: images <= 3)
    same(lora(foundation, weighed, prior=pool), expected)
    assert asked[:4] == [7, 3, 3, 1]


def test_other_errors_pass(foundation: Foundation) -> None:
    def wrong(_: slice) -> torch.Tensor:
        raise RuntimeError("shapes")

    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    batches = MicroBatches(foundation, "a test", "image", "")
    with pytest.raises(RuntimeError, match="shapes"):
        batches.backward(BatchLoss(3, wrong), optimizer, None)
