"""The device of a run where there is a GPU that nothing was ever tried on."""

from __future__ import annotations

import logging

import pytest

from regl_app.core import devices
from regl_app.core.devices import resolve_device
from regl_app.core.errors import ConfigError


@pytest.mark.parametrize("apple", [True, False])
def test_an_apple_gpu_is_not_used_and_the_log_says_so_once(
    apple: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="regl")
    devices._tell_once.cache_clear()
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: apple)
    assert [str(resolve_device("auto")) for _ in range(3)] == ["cpu"] * 3
    assert len(caplog.messages) == apple
    assert ("device='auto': the processor is used, not the Apple GPU" in caplog.text) == apple
    caplog.clear()
    devices._tell_once.cache_clear()
    resolve_device("cpu")  # nothing was left to the machine
    assert not caplog.messages


def test_a_gpu_that_only_nvml_knows_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its driver is too old for PyTorch's CUDA: PyTorch counts it all the same."""

    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12040).\nx")

    devices._tell_once.cache_clear()
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.init", init)
    assert str(resolve_device("auto")) == "cpu" == str(resolve_device("auto"))
    told = [each.getMessage() for each in caplog.records]
    assert len(told) == 1 and told[0].endswith("is too old (found version 12040).")
    assert told[0].startswith("1 GPU is here and cannot be used: ")
    with pytest.raises(ConfigError, match=r"one of this machine's 0 usable CUDA devices"):
        resolve_device("cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert str(resolve_device("auto")) == "cuda"
