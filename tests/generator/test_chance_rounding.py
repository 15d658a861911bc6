"""By what chance adapters are rounded: the same on every device, in every layout, unbiased."""

from __future__ import annotations

import pytest
import torch

from regl_app.core.seeding import derive_seed
from regl_app.generator import chance_rounding
from regl_app.generator.adapters import AdapterSlot
from regl_app.generator.chance_rounding import chance, rounded

CPU = torch.device("cpu")


def plain(name: str, place: int) -> int:
    """Return the chance of a place by Python's integers."""
    seed, value = derive_seed(0, "merge", name), place
    for word in (seed % 2**32, seed // 2**32):
        value = (value + word) % 2**32
        for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
            value = (value ^ (value >> shift)) * factor % 2**32
        value ^= value >> 15
    return value % 2**16


def test_the_bits_are_a_hash_of_name_and_place() -> None:
    assert chance("mid.attn.to_q", 0, 4, CPU).tolist() == [45954, 24241, 22220, 19610]
    for first in (0, 2**31 - 2, 2**33):
        expected = [plain("a layer", first + place) for place in range(5)]
        assert chance("a layer", first, 5, CPU).tolist() == expected
    assert not torch.equal(chance("a layer", 0, 9, CPU), chance("another", 0, 9, CPU))


def test_they_are_spread_evenly_and_tell_nothing_of_their_neighbours() -> None:
    found = torch.stack([chance(name, 0, 2**20, CPU) for name in ("one", "two")]).double()
    counts = torch.bincount((found.flatten() / 2**8).long(), minlength=2**8)
    assert float((counts - 2**13).square().sum()) / 2**13 == pytest.approx(2**8, abs=100)
    unit = (found - found.mean()) / found.std()
    for lag in (1, 2, 3, 64, 320, 1280):
        assert float((unit[0, lag:] * unit[0, :-lag]).mean()) == pytest.approx(0, abs=0.005)
    assert float((unit[0] * unit[1]).mean()) == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize("shape", [(7, 5), (6, 4, 3, 3)])
def test_neither_slices_nor_layout_change_a_bit(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = rounded(exact.clone(), torch.bfloat16, "a layer")
    added = chance("a layer", 0, exact.numel(), CPU).view(shape)
    by_hand = ((exact.view(torch.int32) + added) & -(2**16)).view(torch.float32)
    assert torch.equal(expected.float(), by_hand)
    monkeypatch.setattr(chance_rounding, "_AT_ONCE", 11)
    assert torch.equal(rounded(exact.clone(), torch.bfloat16, "a layer"), expected)
    turned = exact.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(rounded(turned, torch.bfloat16, "a layer"), expected)


def test_a_value_takes_its_share_in_the_mean() -> None:
    step = 2.0**-7  # of bf16 from 1 on
    drawn = rounded(torch.full((512, 512), 1 + 0.3 * step), torch.bfloat16, "a layer").float()
    assert set(drawn.unique().tolist()) == {1.0, 1 + step}
    assert float((drawn - 1).mean() / step) == pytest.approx(0.3, abs=0.005)


def test_adapters_are_merged_by_it() -> None:
    layer = torch.nn.Linear(3, 2, bias=False, dtype=torch.bfloat16)
    denoiser = torch.nn.Sequential(layer)
    state = {
        "unet.0.lora_A.weight": torch.full((1, 3), 0.1),
        "unet.0.lora_B.weight": torch.full((2, 1), 0.1),
    }
    with AdapterSlot(denoiser, "unet", CPU).using(state, "a test"):
        merged = layer.weight.detach().clone()
    update = state["unet.0.lora_B.weight"] @ state["unet.0.lora_A.weight"]
    exact = layer.weight.detach().float() + update
    assert torch.equal(merged, rounded(exact, torch.bfloat16, "0"))
