"""What lives is counted once, and until it is gone; norms see what they see on a card."""

from __future__ import annotations

import torch
from torch.nn import functional

from regl_app.generator import without_values
from regl_app.generator.without_values import Alive


def test_memory_counts_as_long_as_it_lives() -> None:
    alive = Alive()
    with alive:
        first = torch.zeros(1000)
        view = first[:500].view(5, 100)
        second = first + 1
        del first
        third = torch.zeros(250)  # the view still holds the first
        del view, second
        fourth = torch.zeros(500)
    assert alive.most == 4 * (1000 + 1000 + 250)
    assert (len(third), len(fourth)) == (250, 500)


def test_what_is_left_out_does_not_count() -> None:
    alive, weight = Alive(), torch.ones(10, 10)
    alive.leave_out(weight)
    with alive:
        torch.mm(weight.t(), weight)
    assert alive.most == 4 * 100


def test_norms_are_computed_in_float32_as_by_a_card_s_autocast() -> None:
    own, given = functional.layer_norm, torch.zeros(2, 4, dtype=torch.bfloat16)
    layer = torch.nn.LayerNorm(4, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(given).dtype == torch.bfloat16
        with without_values._as_on_a_card():
            assert layer(given).dtype == torch.float32
            assert torch.nn.GroupNorm(2, 4, dtype=torch.bfloat16)(given).dtype == torch.float32
    with without_values._as_on_a_card():
        assert layer(given).dtype == torch.bfloat16  # without autocast as ever
    assert functional.layer_norm is own
