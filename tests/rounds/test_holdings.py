"""What clients are taken to hold: told, told under noise, or guessed; and noise that lasts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.types import Counts, Floats, Scalar, Weights
from regl_app.data.client import ClientData
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.rounds.client import Client
from regl_app.rounds.disclosure import shared_discrepancy, shared_noisy_counts
from regl_app.rounds.exchange import RoundResult, RoundTask
from regl_app.rounds.holdings import discrepancy, noisy, updates
from regl_app.rounds.holdings.registry import holdings

ROWS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
KEYS: dict[str, Scalar] = {
    "method": "fedavg",
    "teaching.head": "experts",
    "teaching.say": "noisy",
    "share-diagnostics": False,
    "data.max-train": 100,
    "data.max-test": 20,
}


def upload(key: int, moved: torch.Tensor, images: int, number: int = 2) -> RoundResult:
    return RoundResult(key, number, images, images, 0.0, {"head.weight": ROWS + moved})


def start() -> Weights:
    return {"head.weight": ROWS}


def test_real_images_lengthen_their_rows() -> None:
    # Client 0 lengthens the first row by 3 and the second by 1; client 1 shortens all of them.
    first = torch.tensor([[3.0, 9.0], [7.0, 1.0], [0.0, 0.0]])
    found = updates.guessed(start(), [upload(0, first, 40), upload(1, -0.1 * ROWS, 10)], 3)
    np.testing.assert_allclose(found, [[30, 10, 0], [0, 0, 0]], atol=1e-9)


def test_in_round_1_it_counts_who_moves_a_row_otherwise() -> None:
    moved = [torch.zeros(3, 2) for _ in range(4)]
    moved[2][1] = torch.tensor([0.0, 4.0])
    found = updates.guessed(start(), [upload(k, m, 10, 1) for k, m in enumerate(moved)], 3)
    assert found[2].argmax() == 1 and found[2, 1] == 10
    assert found[2, 1] == found[:, 1].max()


def test_a_say_does_not_depend_on_the_order_of_clients() -> None:
    random = torch.Generator().manual_seed(0)
    results = [upload(k, torch.randn((3, 2), generator=random), 10 + k) for k in range(5)]
    found = updates.guessed(start(), results, 3)
    np.testing.assert_allclose(updates.guessed(start(), results[::-1], 3), found[::-1])
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), [10, 11, 12, 13, 14])  # some row of each grows


def test_of_a_vector_the_other_sign_counts() -> None:
    one = dataclasses.replace(upload(0, ROWS, 5), discrepancy=np.array([0.5, -0.25, 0.0]))
    found = discrepancy.guessed(start(), [one, upload(1, ROWS, 5)], 3)
    np.testing.assert_array_equal(found, [[0, 0.25, 0], [0, 0, 0]])


def test_noisy_counts_below_zero_are_none() -> None:
    one = dataclasses.replace(upload(0, ROWS, 5), noisy_counts=np.array([-3.5, 2.5, 0.0]))
    found = noisy.told(start(), [one, upload(1, ROWS, 5)], 3)
    np.testing.assert_array_equal(found, [[0, 2.5, 0], [0, 0, 0]])


def test_only_those_with_a_model_are_asked() -> None:
    config = RunConfig.from_flat(KEYS | {"teaching.say": "updates"})
    results = {0: upload(0, ROWS, 5), 1: dataclasses.replace(upload(1, ROWS, 0), weights=None)}
    assert holdings(config, start(), results, 3).shape == (1, 3)


def client(folder: Path, key: int = 0, **changes: Scalar) -> Client:
    config = RunConfig.from_flat(KEYS | {k.replace("_", "-"): v for k, v in changes.items()})
    federation = Federation.load(config, 3)
    data = federation.client(key)
    return Client(
        config, key, federation.source, data, torch.device("cpu"), folder, f"client {key}"
    )


def told(of: Client) -> Counts:
    found = shared_noisy_counts(of)
    assert found is not None
    return np.round(found, 9)


def test_who_is_asked_again_says_the_same(tmp_path: Path) -> None:
    first = told(client(tmp_path / "a"))
    np.testing.assert_array_equal(told(client(tmp_path / "a", seed=3)), first)  # another run
    assert not np.array_equal(told(client(tmp_path / "b")), first)  # another site's secret
    assert (tmp_path / "a" / "noise-secret").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("changed", ["client", "noise", "counts"])
def test_another_answer_has_another_noise(tmp_path: Path, changed: str) -> None:
    one = client(tmp_path)
    other = client(tmp_path, 1) if changed == "client" else one
    scale = 1.0
    if changed == "noise":
        other, scale = client(tmp_path, **{"privacy.histogram_noise": 8.0}), 2.0
    if changed == "counts":
        train = one.data.train
        fewer = ImageSet(train.images[1:], train.labels[1:])
        other = dataclasses.replace(one, data=ClientData(0, fewer, one.data.test))
    noise = told(one) - one.data.label_counts(10)
    assert not np.isclose(scale * noise, told(other) - other.data.label_counts(10)).any()


def test_a_round_that_is_repeated_tells_the_same_vector(tmp_path: Path) -> None:
    keys: dict[str, Scalar] = {"method": "regl-dpd", "privacy.noise": 4.0, "rounds": 9}
    vector = np.linspace(-0.3, 0.3, 10)

    def told_of(
        which: Client, number: int = 4, run: str = "a run", vector: Floats = vector
    ) -> Floats:
        found = shared_discrepancy(which, RoundTask(number, run=run), vector)
        assert found is not None
        return found

    one = client(tmp_path / "a", **keys)
    first = told_of(one)
    np.testing.assert_array_equal(told_of(client(tmp_path / "a", **keys)), first)
    others = (
        told_of(one, number=5),
        told_of(one, run="another"),
        told_of(one, vector=np.nextafter(vector, 1.0)),
        told_of(client(tmp_path / "a", 1, **keys)),
        told_of(client(tmp_path / "b", **keys)),  # another site's secret
    )
    for other in others:
        assert np.abs(other - first).max() > 1e-3


def test_noise_from_the_seed_is_repeatable(tmp_path: Path) -> None:
    keys: dict[str, Scalar] = {"privacy.reproducible": True}
    first = told(client(tmp_path / "a", **keys))
    np.testing.assert_array_equal(told(client(tmp_path / "b", **keys)), first)
    assert not (tmp_path / "a" / "noise-secret").exists()
    assert not np.array_equal(told(client(tmp_path / "a", seed=1, **keys)), first)


def test_nothing_is_told_where_nobody_asks(tmp_path: Path) -> None:
    keys: dict[str, Scalar] = {"teaching.say": "updates"}
    assert shared_noisy_counts(client(tmp_path, **keys)) is None
    assert not (tmp_path / "noise-secret").exists()
