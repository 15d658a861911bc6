from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.rounds.client_state import ClientState, Memory

WEIGHTS = {"a.weight": torch.tensor([[1.0, 2.0]]), "a.bias": torch.tensor([3.0])}


@pytest.fixture
def state(tmp_path: Path) -> ClientState:
    return ClientState(tmp_path / "run" / "client-00")


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


def test_a_round_that_is_repeated_finds_what_it_found_the_first_time(state: ClientState) -> None:
    for number in range(1, 6):
        state.save(Memory(number, {"w": torch.tensor(float(number))}))
    template = {"w": torch.tensor(0.0)}
    for repeated in (6, 5, 4):
        assert state.before(repeated, template).weights["w"] == repeated - 1
    assert state.before(3, template) == Memory(), "more is kept than the server can go back to"
    # What it does then is a new past for the rounds after it.
    state.save(Memory(4, {"w": torch.tensor(40.0)}))
    assert state.before(6, template).weights["w"] == 40


def test_a_run_begun_anew_does_not_see_its_own_future(state: ClientState) -> None:
    state.save(Memory(4, WEIGHTS))
    for earlier in (1, 4):
        assert state.before(earlier, WEIGHTS) == Memory()


def test_another_models_or_a_damaged_file_counts_as_absent(state: ClientState) -> None:
    state.save(Memory(1, WEIGHTS))
    assert state.before(2, WEIGHTS | {"b": torch.zeros(1)}) == Memory()
    assert state.before(2, {name: torch.zeros(9) for name in WEIGHTS}) == Memory()
    (path,) = state.folder.iterdir()
    content = path.read_bytes()
    for damaged in (b"", content[:40], content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(damaged)
        assert state.before(2, WEIGHTS) == Memory()


def test_a_finished_run_is_forgotten_after_a_day_another_after_a_month(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished, broken, new = (ClientState(tmp_path / run / "client-00") for run in "abc")
    for each in (finished, broken):
        each.save(Memory(1, WEIGHTS))
    finished.finish()
    now, day = time.time(), 24 * 3600
    seen = {}
    for days in (0.5, 2, 29, 31):
        monkeypatch.setattr(
            "regl_app.rounds.client_state.time.time", lambda days=days: now + days * day
        )
        new.save(Memory(1, WEIGHTS))
        seen[days] = [each.folder.parent.exists() for each in (finished, broken)]
    assert seen == {0.5: [True, True], 2: [False, True], 29: [False, True], 31: [False, False]}


def test_a_client_that_joins_a_run_late_removes_what_others_left(tmp_path: Path) -> None:
    broken, new = (ClientState(tmp_path / run / "client-00") for run in "ab")
    broken.save(Memory(1, WEIGHTS))
    month_ago = time.time() - 31 * 24 * 3600
    for path in broken.folder.iterdir():
        os.utime(path, (month_ago, month_ago))
    new.save(Memory(4, WEIGHTS))
    assert not broken.folder.parent.exists()
    assert new.before(5, WEIGHTS).round == 4
