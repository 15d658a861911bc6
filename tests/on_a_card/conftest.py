"""A pretended card for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.generator.families.conftest import pipelines
from tests.on_a_card.pretended_card import pretended_card

__all__ = ["pipelines"]


@pytest.fixture(autouse=True)
def _none_here() -> None:
    if torch.cuda.is_available():
        pytest.skip("a real card is here, and has tests of its own: generator/test_on_cuda.py")


@pytest.fixture
def card(_none_here: None) -> Iterator[torch.device]:
    """Put a pretended card in."""
    with pretended_card() as device:
        yield device


@pytest.fixture
def fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processor train as an old pretended card does: in fp32, in the layout of cards."""
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
