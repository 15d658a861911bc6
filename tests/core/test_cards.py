"""Which of several GPUs a worker computes on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from regl_app.core import cards
from regl_app.core.cards import card_lost, own_card, share_cards, use_card
from regl_app.core.devices import resolve_device
from regl_app.core.errors import ConfigError

CLAIM = """
import sys
from pathlib import Path
from regl_app.core.cards import own_card, share_cards
share_cards(Path(sys.argv[1]))
print(own_card(2), own_card(2), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for each in started:
        each.kill()
        each.communicate()


def test_workers_of_a_machine_claim_the_card_that_fewest_have(
    tmp_path: Path,
    processes: list[subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def claim() -> str:
        process = subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip()

    assert [claim() for _ in range(3)] == ["0 0", "1 1", "0 0"]
    processes[1].kill()
    processes[1].wait()
    assert claim() == "1 1"  # what a killed one had is free


def test_cards_have_the_names_that_others_see(
    tmp_path: Path, processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, MIG-GPU-a/1/0")
    assert cards._names(2) == ["3", "MIG-GPU-a_1_0"]
    assert cards._names(1) == ["0"]  # the variable is not what torch goes by
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cards._names(2) == ["0", "1"]


def test_a_thread_s_own_card_is_what_auto_and_cuda_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regl_app.core.devices.usable_cards", lambda: 2)
    seen: list[torch.device] = []

    def work() -> None:
        use_card(1)
        seen.extend(resolve_device(each) for each in ("auto", "cuda", "cuda:0", "cpu"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [str(each) for each in seen] == ["cuda:1", "cuda:1", "cuda:0", "cpu"]
    assert own_card(2) is None
    assert str(resolve_device("auto")) == "cuda"


def test_a_process_claims_no_card_before_it_needs_one_of_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cards, "_process", {})
    monkeypatch.setattr(cards, "_claims", claims := [])
    share_cards(tmp_path)
    for found, device in ((0, "cpu"), (1, "cuda")):
        monkeypatch.setattr("regl_app.core.devices.usable_cards", lambda found=found: found)
        assert str(resolve_device("auto")) == device
        assert not list(tmp_path.iterdir())
    monkeypatch.setattr("regl_app.core.devices.usable_cards", lambda: 2)
    assert str(resolve_device("auto")) == "cuda:0"
    assert [path.name for path in tmp_path.iterdir()] == ["gpu-0.0.lock"]
    for each in claims:
        each.close()


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regl_app.core.devices.usable_cards", lambda: 1)
    with pytest.raises(
        ConfigError, match=r"one of this machine's 1 usable CUDA devices .* got 'cuda:1'"
    ):
        resolve_device("cuda:1")


@pytest.mark.parametrize("fails", [True, False])
def test_a_card_that_has_failed_for_good_is_told(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def synchronize(card: int) -> None:
        asked.append(card)
        if fails:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("torch.cuda.is_initialized", lambda: False)
    assert not card_lost()
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda card: 4096 * (card == 1))
    monkeypatch.setattr("torch.cuda.synchronize", synchronize)
    assert card_lost() == fails
    assert asked == [1], "a card that is not used would be, by being asked"
