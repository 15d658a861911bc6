"""The loop that every adapter is tuned by."""

from __future__ import annotations

import pytest
import torch

from regl_app.core.errors import GeneratorError
from regl_app.generator.adaptation.fit import fit_layers, refuse_divergence
from regl_app.generator.learning_rate import warm_cosine


def test_golden_learning_rates() -> None:
    rate = warm_cosine(10, 2)
    assert [rate(step) for step in range(3)] == [0.5, 1.0, 1.0]
    assert rate(6) == pytest.approx(0.5)
    assert rate(10) == pytest.approx(0.0)
    assert warm_cosine(1, 1)(0) == 1.0


def test_it_is_clipped_adamw_at_that_rate_and_reports_every_tenth_step() -> None:
    parameter, twin = (torch.nn.Parameter(torch.tensor([5.0, -3.0])) for _ in range(2))
    seen: list[tuple[int, int]] = []
    losses = fit_layers(
        [parameter],
        lambda: parameter.square().sum(),
        steps=25,
        lr=0.1,
        progress=lambda *at: seen.append(at),
    )
    optimizer = torch.optim.AdamW([twin], lr=0.1, weight_decay=0.0)
    rate = warm_cosine(25, 2)
    for step in range(25):
        optimizer.param_groups[0]["lr"] = 0.1 * rate(step)
        optimizer.zero_grad()
        loss = twin.square().sum()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_([twin], 1.0)
        optimizer.step()
        torch.testing.assert_close(losses[step], loss.detach())
    torch.testing.assert_close(parameter, twin)
    assert seen == [(10, 25), (20, 25), (25, 25)]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_divergence_names_the_key_to_lower(loss: float) -> None:
    with pytest.raises(GeneratorError, match=r"tuning diverged: .* 7 steps \(lower lora.lr, now 3"):
        refuse_divergence("tuning", loss, 7, "lora.lr", 3.0)
    refuse_divergence("tuning", 0.1, 7, "lora.lr", 3.0)
