from __future__ import annotations

import pytest
import torch

from regl_app.core.transfer import to_device


def test_on_a_processor_nothing_is_copied() -> None:
    tensor = torch.arange(3)
    assert to_device(tensor, torch.device("cpu")) is tensor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED: no GPU")
def test_what_arrives_at_a_gpu_is_what_was_sent() -> None:
    device = torch.device("cuda", 0)
    tensor = torch.arange(1000.0)
    arrived = to_device(tensor, device)
    tensor.zero_()  # the copy is on its way from memory of its own
    assert arrived.device == device
    assert torch.equal(arrived.cpu(), torch.arange(1000.0))
    assert to_device(arrived, device) is arrived
