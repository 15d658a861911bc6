"""What only a card can show: half precision, memory that really ends, weights that come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import DpoConfig, GeneratorConfig, LoraConfig
from regl_app.core.precision import DTYPES, Precision
from regl_app.core.types import Tensors
from regl_app.data.images import ImageSet
from regl_app.generator import held_weights, placement, portions
from regl_app.generator.adaptation import micro_batches
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adapters import AdapterSlot
from regl_app.generator.chance_rounding import chance
from regl_app.generator.foundation import Foundation
from regl_app.generator.memory_needs import drawing_needs, tuning_needs
from regl_app.generator.sampling import sample

HERE = torch.cuda.is_available()
NATIVE = HERE and torch.cuda.is_bf16_supported(including_emulation=False)
pytestmark = pytest.mark.skipif(not HERE, reason="NOT TESTED: no GPU")
BF16 = pytest.param("bf16", marks=pytest.mark.skipif(not NATIVE, reason="NOT TESTED: no bf16"))
CARD, CPU = torch.device("cuda", 0), torch.device("cpu")
CONCEPTS = ("the digit zero", "the digit one", "the digit two")
# As many steps as fp16's scaler may need to find its scale, and some.
LORA = LoraConfig(layers="attention", rank=2, alpha=2.0, steps=40, batch_size=4, lr=1e-3)


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    for learnt in (portions._fits, placement._learnt, micro_batches._learnt):
        learnt.clear()


@pytest.fixture
def load(second_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Foundation]:
    def loaded(precision: Precision, **keys: int) -> Foundation:
        monkeypatch.setattr(held_weights, "SMALL", 1)
        return Foundation.load(settings(second_pipeline, precision, **keys), CONCEPTS, CARD)

    return loaded


def settings(pipeline: Path, precision: str = "fp32", **keys: int) -> GeneratorConfig:
    told = {"path": str(pipeline), "precision": precision, "steps": 3, "guidance": 2.0}
    return GeneratorConfig.model_validate({**told, "guidance_stop": 1.0, **keys})


def draw(foundation: Foundation, config: GeneratorConfig, count: int = 6) -> torch.Tensor:
    labels = [place % 3 for place in range(count)]
    return sample(foundation, labels, list(range(count)), config, stream=7).cpu()


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the mean distance of images in levels."""
    return float((one.float() - other.float()).abs().mean())


def real() -> ImageSet:
    images = torch.randint(0, 256, (12, 3, 48, 48), generator=torch.Generator().manual_seed(0))
    return ImageSet(images.byte(), torch.arange(12) % 3)


def weights(foundation: Foundation) -> dict[str, torch.Tensor]:
    return {name: value.cpu() for name, value in foundation.denoiser.state_dict().items()}


@pytest.mark.parametrize("precision", [BF16, "fp16"])
def test_halves_draw_and_tune(
    load: Callable[..., Foundation], second_pipeline: Path, precision: Precision
) -> None:
    config, foundation = settings(second_pipeline, precision), load(precision)
    assert {each.dtype for each in foundation.denoiser.parameters()} == {DTYPES[precision]}
    exact = draw(load("fp32"), settings(second_pipeline))
    assert apart(draw(foundation, config), exact) < 3.0
    before = weights(foundation)
    latents = torch.randn((4, *foundation.latent_shape), generator=torch.Generator().manual_seed(0))
    pairs, rows = torch.tensor([[0, 2], [1, 3]]), torch.tensor([0, 0, 1, 1])
    dpo = DpoConfig(steps=40, batch_size=2, beta=100.0, lr=1e-3)
    for state in (
        tune_lora(foundation, real(), LORA, seed=1).state,
        tune_dpo(foundation, latents, rows, pairs, dpo, LORA, seed=1).state,
    ):
        assert all(each.dtype == torch.float32 and each.isfinite().all() for each in state.values())
        assert any(each.any() for name, each in state.items() if ".lora_B." in name)
    assert all(torch.equal(each, before[name]) for name, each in weights(foundation).items())


def test_adapters_merged_on_a_card_are_those_of_a_processor() -> None:
    assert_merged_alike(CARD)


def assert_merged_alike(card: torch.device) -> None:
    """Fail unless an adapter is rounded into half precision on ``card`` as on a processor."""
    assert torch.equal(chance("a", 5, 10**6, card).cpu(), chance("a", 5, 10**6, CPU))
    random = torch.Generator().manual_seed(0)
    state = {
        "unet.0.lora_A.weight": torch.randn(4, 96, 3, 3, generator=random) * 1e-2,
        "unet.0.lora_B.weight": torch.randn(64, 4, 1, 1, generator=random) * 1e-2,
    }
    kernel, merged = torch.randn(64, 96, 3, 3, generator=random).bfloat16(), []
    for device in (CPU, card):
        layer = torch.nn.Conv2d(96, 64, 3, bias=False, dtype=torch.bfloat16)
        layer.weight.data = kernel.to(device, memory_format=torch.channels_last)
        with AdapterSlot(torch.nn.Sequential(layer), "unet", device).using(state, "a test"):
            merged.append(layer.weight.detach().cpu())
        assert torch.equal(layer.weight.cpu(), kernel)
    assert torch.equal(*merged) and not torch.equal(merged[0], kernel)


@pytest.mark.parametrize("precision", [BF16, "fp16"])
def test_adapters_draw_the_same_layer_by_layer(
    load: Callable[..., Foundation], second_pipeline: Path, precision: Precision
) -> None:
    config, foundation = settings(second_pipeline, precision), load(precision)
    state: Tensors = tune_lora(foundation, real(), LORA, seed=1).state
    with foundation.adapters.using(state, "a test"):
        expected = draw(foundation, config)
    assert foundation.placement.take_turns() and foundation.placement.stream_layers()
    with foundation.adapters.using(state, "a test"):
        assert {each.device.type for each in foundation.denoiser.parameters()} == {"cpu"}
        assert torch.equal(draw(foundation, config), expected)


@contextmanager
def half_the_memory(peak: int) -> Iterator[None]:
    """Leave half of what was reserved beyond what is still there."""
    torch.cuda.empty_cache()
    left = torch.cuda.memory_reserved(CARD)
    total = torch.cuda.get_device_properties(CARD).total_memory
    torch.cuda.set_per_process_memory_fraction((left + (peak - left) / 2) / total, CARD)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, CARD)


def most_of(work: Callable[[], object], reserved: bool = False) -> int:
    """Return the most bytes that ``work`` takes: on top of what was there, or reserved in all."""
    work()  # what is set up once is there
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(CARD)
    before = torch.cuda.memory_allocated(CARD)
    work()
    torch.cuda.synchronize(CARD)
    most = torch.cuda.max_memory_allocated(CARD) - before
    return torch.cuda.max_memory_reserved(CARD) if reserved else most


def test_where_memory_ends_there_are_fewer_at_once(
    load: Callable[..., Foundation], second_pipeline: Path
) -> None:
    config = settings(second_pipeline, image_size=256, batch_size=32)
    foundation, tuning = load("fp32", image_size=256), LORA.model_copy(update={"batch_size": 32})
    tuning = tuning.model_copy(update={"steps": 2})
    peak = most_of(lambda: draw(foundation, config, 32), reserved=True)
    expected = draw(foundation, config, 32)
    with half_the_memory(peak):
        assert apart(draw(foundation, config, 32), expected) < 1.0
    assert portions._fits and max(portions._fits.values()) < 32
    peak = most_of(lambda: tune_lora(foundation, real(), tuning, seed=1), reserved=True)
    whole = tune_lora(foundation, real(), tuning, seed=1)
    with half_the_memory(peak):
        assert tune_lora(foundation, real(), tuning, seed=1).loss == pytest.approx(whole.loss, 0.01)
    assert micro_batches._learnt


def test_what_is_counted_is_what_a_card_takes(
    load: Callable[..., Foundation], second_pipeline: Path
) -> None:
    foundation, many = load("fp32", image_size=256), 32
    config = settings(second_pipeline, image_size=256, guidance=1)
    counted = drawing_needs(foundation, config, LORA)
    latents = torch.zeros(many, *foundation.latent_shape, device=CARD)
    rows = torch.zeros(many, dtype=torch.int64, device=CARD)
    with torch.no_grad():
        drawn = most_of(lambda: foundation.predict(latents, rows[0], rows))
        decoded = most_of(lambda: foundation.decode(latents))
    assert drawn / 2 < counted.images.of(many) < 2 * drawn
    assert decoded / 2 < counted.decoding.of(many) < 2 * decoded
    tuning = LORA.model_copy(update={"steps": 2, "batch_size": many})
    tuned = most_of(lambda: tune_lora(foundation, real(), tuning, seed=1))
    assert tuned / 2 < tuning_needs(foundation, tuning).step.of(many) < 2 * tuned
