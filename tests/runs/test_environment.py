"""What a run tells of the machine it was made on."""

from __future__ import annotations

import pytest

from regl_app.runs.environment import _device_name


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("cpu", "cpu"),
        ("auto", "cuda: card 0"),
        ("cuda", "cuda: card 0"),
        ("cuda:1", "cuda: card 1"),
        ("cuda:5", "cuda:5"),  # it is refused later, in one line
    ],
)
def test_the_card_that_computes_is_named(
    device: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda card: f"card {card.index or 0}")
    assert _device_name(device) == told
