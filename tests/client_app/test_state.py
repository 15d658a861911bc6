from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from client_app.state import ClientState, Memory

WEIGHTS = {"a.weight": torch.tensor([[1.0, 2.0]]), "a.bias": torch.tensor([3.0])}


@pytest.fixture
def state(tmp_path: Path) -> ClientState:
    return ClientState(tmp_path / "run" / "client-00.safetensors")


def test_what_was_kept_comes_back_in_a_later_round(state: ClientState) -> None:
    assert state.before(1, WEIGHTS) == Memory()
    state.save(Memory(1, WEIGHTS, "ab12"))
    found = state.before(2, WEIGHTS)
    assert (found.round, found.preferred) == (1, "ab12")
    assert found.weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(found.weights[name], value) for name, value in WEIGHTS.items())
    assert found.held is found.discrepancy is None
    # A client that sat out some rounds compares with the last model it trained.
    assert state.before(5, WEIGHTS).round == 1


def test_a_plan_is_kept_without_a_model(state: ClientState) -> None:
    held, discrepancy = np.array([1, 0]), np.array([0.5, -0.25])
    state.save(Memory(1, held=held, discrepancy=discrepancy))
    found = state.before(2, WEIGHTS)
    assert not found.weights
    assert found.held is not None
    assert found.discrepancy is not None
    np.testing.assert_array_equal(found.held, held)
    np.testing.assert_array_equal(found.discrepancy, discrepancy)


def test_a_run_begun_anew_does_not_see_its_own_future(state: ClientState) -> None:
    state.save(Memory(4, WEIGHTS))
    for earlier in (1, 4):
        assert state.before(earlier, WEIGHTS) == Memory()


def test_another_models_or_a_damaged_file_counts_as_absent(state: ClientState) -> None:
    state.save(Memory(1, WEIGHTS))
    assert state.before(2, WEIGHTS | {"b": torch.zeros(1)}) == Memory()
    assert state.before(2, {name: torch.zeros(9) for name in WEIGHTS}) == Memory()
    content = state.path.read_bytes()
    for damaged in (b"", content[:40], content[:-1] + bytes([content[-1] ^ 1])):
        state.path.write_bytes(damaged)
        assert state.before(2, WEIGHTS) == Memory()


def test_the_last_client_takes_the_folder_along(state: ClientState) -> None:
    other = ClientState(state.path.with_name("client-01.safetensors"))
    for each in (state, other):
        each.save(Memory(1, WEIGHTS))
    state.forget()
    assert other.path.exists()
    other.forget()
    assert not state.path.parent.exists()
    other.forget()
