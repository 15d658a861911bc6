"""Every kind of file that is kept, cut off and with bits flipped: absent, never loaded wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.errors import RunError
from regl_app.core.tensor_files import save_tensors
from regl_app.generator.adaptation.cache import METADATA, AdapterCache
from regl_app.generator.adaptation.lora import TunedAdapter
from regl_app.generator.adapters import WEIGHTS
from regl_app.generator.pool import load_pool
from regl_app.rounds.client_state import ClientState, Memory
from regl_app.runs.folder import Checkpoint, RunFolder
from regl_app.supplement.image_store import SupplementStore

ONE = {"w": torch.tensor([1.0, -2.0])}
TUNED = TunedAdapter(
    {"unet.conv.lora_A.weight": torch.ones(1, 2), "unet.conv.lora_B.weight": torch.ones(2, 1)},
    3,
    0.5,
    1.0,
)


def cuts(whole: bytes) -> Iterator[bytes]:
    """Yield the content cut off at some places."""
    for length in (0, 7, 8, 60, len(whole) // 2, len(whole) - 1):
        yield whole[:length]


def flips(whole: bytes) -> Iterator[bytes]:
    """Yield the content with one bit flipped, at about a hundred places of all parts."""
    for place in range(0, len(whole), max(1, len(whole) // 97)):
        yield whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]


def check(path: Path, load: Callable[[], torch.Tensor | None], expected: torch.Tensor) -> None:
    """Damage ``path`` in turn; a flip in what names no tensor (a note, a blank) may pass."""
    whole = path.read_bytes()
    for damaged in cuts(whole):
        path.write_bytes(damaged)
        assert load() is None
    seen = []
    for damaged in flips(whole):
        path.write_bytes(damaged)
        found = load()
        assert found is None or torch.equal(found, expected)
        seen.append(found is None)
    assert sum(seen) > len(seen) / 4
    path.write_bytes(whole)
    found = load()
    assert found is not None and torch.equal(found, expected)


def test_an_adapter(tmp_path: Path) -> None:
    cache = AdapterCache(tmp_path)
    kept = cache.put({"seed": 1}, TUNED)
    weights = kept.path / WEIGHTS
    whole = weights.read_bytes()
    for damaged in (*cuts(whole), *flips(whole)):
        weights.write_bytes(damaged)
        assert cache.get({"seed": 1}) is None
        assert cache.find(kept.path.name) is None
    weights.write_bytes(whole)
    assert cache.get({"seed": 1}) is not None
    described = kept.path / METADATA
    described.write_bytes(described.read_bytes()[:-9])
    assert cache.get({"seed": 1}) is None
    assert cache.put({"seed": 1}, TUNED).digest == kept.digest
    assert cache.get({"seed": 1}) is not None


def test_stored_images(tmp_path: Path) -> None:
    store, images = SupplementStore(tmp_path), torch.arange(32, dtype=torch.uint8).view(2, 1, 4, 4)
    store.put({"seed": 1}, images)
    (path,) = tmp_path.rglob("*.safetensors")
    check(path, lambda: store.get({"seed": 1}, 2), images)


def test_a_pool(tmp_path: Path) -> None:
    path, images = tmp_path / "pool.safetensors", torch.arange(32).to(torch.uint8).view(2, 1, 4, 4)
    save_tensors(path, {"latents": torch.zeros(2, 4, 2, 2), "images": images})

    def load() -> torch.Tensor | None:
        pool = load_pool(path, 1, 2)
        return None if pool is None else pool.images.images

    check(path, load, images)


@pytest.mark.parametrize("planned", [False, True])
def test_a_clients_state(tmp_path: Path, planned: bool) -> None:
    state, held = ClientState(tmp_path), np.array([3, 0])
    state.save(Memory(1, held=held, discrepancy=held * 0.5) if planned else Memory(1, ONE))
    (path,) = tmp_path.iterdir()

    def load() -> torch.Tensor | None:
        memory = state.before(2, ONE)
        if memory.round == 0:
            return None
        return memory.weights["w"] if memory.held is None else torch.from_numpy(memory.held)

    check(path, load, torch.from_numpy(held) if planned else ONE["w"])


def test_a_checkpoint_of_model_and_state_is_one_unit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    quotas = torch.tensor([5, 0])
    paths = [
        folder.checkpoint(Checkpoint(n, {"w": torch.tensor([n])}, {"q": quotas * n}))
        for n in (1, 2)
    ]

    def newest() -> torch.Tensor | None:
        found = folder.read_checkpoint()
        assert found is not None
        assert found.weights["w"].tolist() == [found.round]
        assert torch.equal(found.state["q"], quotas * found.round)
        return None if found.round == 1 else found.state["q"]

    check(paths[1], newest, quotas * 2)
    assert f"{paths[1]}: damaged" in caplog.text
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match="2 checkpoints, all damaged"):
        folder.read_checkpoint()


def test_the_final_model(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)

    def load() -> torch.Tensor | None:
        try:
            return folder.load_model()["w"]
        except RunError as error:
            assert "is damaged" in str(error)
            return None

    check(folder.save_model(ONE), load, ONE["w"])
