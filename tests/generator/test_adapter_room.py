"""Memory that ends as an adapter is merged or its layers are wrapped leaves nothing behind."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import torch
from peft.tuners.lora.layer import LoraLayer

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.types import Tensors
from regl_app.data.images import ImageSet
from regl_app.generator import adapters
from regl_app.generator.adaptation.layers import wrapped_layers
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adapters import AdapterSlot, lora_update
from regl_app.generator.foundation import Foundation
from regl_app.generator.placement import Placement
from regl_app.generator.sampling import sample

LORA = LoraConfig(layers="all", rank=2, steps=2, batch_size=3, lr=1e-3)


@pytest.fixture
def config(second_pipeline: Path) -> GeneratorConfig:
    return GeneratorConfig(path=str(second_pipeline), steps=2, precision="fp32", batch_size=3)


@pytest.fixture
def foundation(config: GeneratorConfig) -> Foundation:
    return Foundation.load(config, ("the digit zero", "the digit one"))


def draw(foundation: Foundation, config: GeneratorConfig) -> torch.Tensor:
    return sample(foundation, [0, 1, 0], [0, 0, 1], config, stream=7)


def tuned(foundation: Foundation) -> Tensors:
    images = torch.randint(0, 256, (6, 3, 48, 48), generator=torch.Generator().manual_seed(0))
    real = ImageSet(images.byte(), torch.tensor([0, 0, 0, 1, 1, 1]))
    return tune_lora(foundation, real, LORA, seed=3, encoded_at_once=3).state


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_an_adapter_that_has_no_room_is_our_error_and_leaves_nothing(
    error: RuntimeError,
    foundation: Foundation,
    config: GeneratorConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state, expected = tuned(foundation), draw(foundation, config)
    added: list[torch.Tensor] = []

    def update(down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        added.append(up)
        if len(added) % 3 == 0:
            raise error
        return lora_update(down, up)

    monkeypatch.setattr(adapters, "lora_update", update)
    with (
        pytest.raises(GeneratorError, match=r"'a test' has no room on cpu .*adapter=frozen draws"),
        foundation.adapters.using(state, "a test"),
    ):
        pytest.fail("it has no room")
    assert not foundation.adapters.filled
    assert torch.equal(draw(foundation, config), expected)


def test_memory_that_ends_as_layers_are_wrapped_leaves_none_wrapped(
    foundation: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tuned(foundation)
    made: list[Any] = []
    plain = LoraLayer.update_layer

    def full(self: Any, *given: Any, **named: Any) -> None:
        made.append(self)
        if len(made) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        plain(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(LoraLayer, "update_layer", full)
        with pytest.raises(torch.OutOfMemoryError):
            tuned(foundation)
    assert not wrapped_layers(foundation.denoiser)
    again = tuned(foundation)
    assert all(torch.equal(again[name], value) for name, value in expected.items())


def test_a_generator_that_nobody_uses_any_more_is_gone_at_once() -> None:
    slot = AdapterSlot(torch.nn.Conv2d(1, 1, 1), "unet", torch.device("cpu"))
    place = Placement(None, None, slot, torch.device("cpu"), "", "fp32")
    left = ref(place)
    gc.disable()
    try:
        del place
        assert left() is None and not slot.make_room()
    finally:
        gc.enable()
