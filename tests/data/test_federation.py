"""Clients' data from a run configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regl_app.config import RunConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.core.types import Scalar
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.data.sources.registry import load_source


def _config(**changes: Scalar) -> RunConfig:
    return RunConfig.from_flat(
        {"data.image-size": 8, **{key.replace("__", "."): v for key, v in changes.items()}}
    )


def _fingerprints(images: ImageSet) -> list[bytes]:
    return sorted(image.numpy().tobytes() for image in images.images)


@pytest.mark.parametrize("beta", [0.01, 0.1, 10.0])
def test_clients_share_out_the_training_set(beta: float) -> None:
    federation = Federation.load(_config(partition__beta=beta), 10)
    everything = ImageSet.concat(
        [part for k in range(10) for c in [federation.client(k)] for part in (c.train, c.test)]
    )
    assert _fingerprints(everything) == _fingerprints(federation.source.train)
    assert np.array_equal(
        federation.counts(),
        np.stack([federation.client(k).train.counts(10) for k in range(10)]),
    )
    assert len(federation.pooled()) == federation.counts().sum()


def test_the_personalized_test_set_is_drawn_like_the_client() -> None:
    federation = Federation.load(_config(partition__beta=0.5), 5)
    for k in range(5):
        client = federation.client(k)
        train, test = client.train.counts(10), client.test.counts(10)
        total = train + test
        assert abs(len(client.test) - 0.2 * total.sum()) <= 1
        assert (np.abs(test - 0.2 * total)[total > 4] < 1.01).all()
        assert (train[total > 0] > 0).all()


def test_data_seed_and_run_seed_are_apart() -> None:
    base = Federation.load(_config(), 10).counts()
    assert np.array_equal(base, Federation.load(_config(seed=5), 10).counts())
    assert not np.array_equal(base, Federation.load(_config(data__seed=5), 10).counts())


def test_central_pools_everything_at_client_0_and_keeps_the_tests() -> None:
    usual = Federation.load(_config(method="fedavg", partition__beta=0.1), 4)
    central = Federation.load(_config(method="central", partition__beta=0.1), 4)
    assert torch.equal(central.client(0).train.images, usual.pooled().images)
    assert [len(central.client(k).train) for k in (1, 2, 3)] == [0, 0, 0]
    assert central.counts()[1:].sum() == 0
    for k in range(4):
        assert torch.equal(central.client(k).test.images, usual.client(k).test.images)
        assert len(usual.client(k).test) > 0


def test_more_clients_than_images_leaves_empty_ones() -> None:
    federation = Federation.load(_config(data__max_train=12), 30)
    sizes = [len(federation.client(k).train) for k in range(30)]
    assert 0 in sizes
    assert sum(sizes) + sum(len(federation.client(k).test) for k in range(30)) == 12


def test_a_client_with_one_image_trains_on_it() -> None:
    federation = Federation.load(
        _config(data__max_train=10, partition__scheme="iid", partition__test_fraction=0.9), 10
    )
    assert [len(federation.client(k).train) for k in range(10)] == [1] * 10
    assert [len(federation.client(k).test) for k in range(10)] == [0] * 10


def test_a_long_tail_thins_train_and_is_tested_beside_the_whole_test_set() -> None:
    federation = Federation.load(_config(long_tail__factor=10.0), 3)
    tail = federation.source
    counts = tail.train.counts(10)
    assert counts[0] == max(counts)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.1)
    assert len(tail.test) == 540
    assert federation.tail_test is not None
    tested = federation.tail_test.counts(10)
    assert tested[9] < tested[0] / 5
    assert Federation.load(_config(), 3).tail_test is None


def test_loading_is_cached_whatever_the_method() -> None:
    first = Federation.load(_config(method="fedavg"), 6)
    assert Federation.load(_config(method="regl", seed=3), 6) is first
    assert load_source(_config().data) is load_source(_config(seed=3).data)


def test_an_unknown_client_is_refused() -> None:
    federation = Federation.load(_config(), 3)
    with pytest.raises(DataError, match="partition-id must be between 0 and 2, got 3"):
        federation.client(3)


def test_links_of_a_folder_lead_into_the_allowed_folders_only(
    tmp_path: Path, photos: Callable[..., Path]
) -> None:
    folder = photos(tmp_path / "set", {"cat": 6, "dog": 6}, width=9, height=9)
    secret = photos(tmp_path / "secret", {"x": 2}, width=9, height=9)
    (folder / "cat" / "more").symlink_to(secret / "x")
    config = RunConfig.from_flat(
        {"data.source": "folder", "data.path": str(folder), "data.image-size": 8}
    )
    assert Federation.load(config, 2, AllowedFolders()) is Federation.load(config, 2)
    with pytest.raises(DataError, match=r"a folder of data\.path must lie in"):
        Federation.load(config, 2, AllowedFolders((folder.resolve(),)))


def test_validation_images_leave_training_alone() -> None:
    keys: dict[str, Scalar] = {"partition.beta": 0.5, "data.max-train": 300}
    plain = Federation.load(RunConfig.from_flat(keys), 3)
    held = Federation.load(RunConfig.from_flat({**keys, "validation.fraction": 0.25}), 3)
    for client in range(3):
        before, after = plain.client(client), held.client(client)
        assert before.validation is None and after.validation is not None
        assert torch.equal(before.test.images, after.test.images)
        assert len(after.train) + len(after.validation) == len(before.train)
        assert 0 < len(after.validation) <= round(0.25 * len(before.train))
        counts = after.train.counts(10)
        assert ((counts > 0) == (before.train.counts(10) > 0)).all()  # a class's last is trained on
        assert (counts == held.counts()[client]).all()
        places = [*held.train_indices[client], *held.validation_indices[client]]
        assert sorted(places) == sorted(plain.train_indices[client])


def test_central_holds_everybodys_out() -> None:
    keys: dict[str, Scalar] = {"method": "central", "validation.fraction": 0.25}
    held = Federation.load(RunConfig.from_flat(keys), 3)
    found = [held.client(client).validation for client in range(3)]
    assert [len(each) if each is not None else None for each in found] == [
        sum(map(len, held.validation_indices)),
        0,
        0,
    ]


def _pictures(root: Path, names: Sequence[str], wards: Sequence[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), len(name), dtype=np.uint8)).save(root / name)
    lines = [f"{name},{ward}" for name, ward in zip(names, wards, strict=True)]
    (root / "metadata.csv").write_text("\n".join(["file_name,ward", *lines]))
    return root


def test_the_digest_tells_whether_two_machines_deal_the_same_rows(tmp_path: Path) -> None:
    names = [f"{kind}/{number}.png" for kind in "ab" for number in range(8)]
    wards = ["north", "south"] * 8

    def digest(folder: Path, **changes: Scalar) -> str:
        keys: dict[str, Scalar] = {
            "data.source": "folder",
            "data.path": str(folder),
            "data.image-size": 8,
            "partition.scheme": "column",
            "partition.column": "ward",
        }
        return Federation.load(RunConfig.from_flat({**keys, **changes}), 2).digest

    here = digest(_pictures(tmp_path / "here", names, wards))
    assert digest(_pictures(tmp_path / "there", names, wards)) == here
    swapped = ["south", "north", *wards[2:]]
    assert digest(_pictures(tmp_path / "swapped", names, swapped)) != here
    fewer = _pictures(tmp_path / "fewer", names[:-1], wards[:-1])
    assert digest(fewer) != here
    renamed = _pictures(tmp_path / "renamed", [*names[:-1], "b/9.png"], wards)
    assert digest(renamed) != here
    assert digest(tmp_path / "here", **{"data.seed": 1}) != here  # another test set
    labels = Federation.load(_config(), 3)
    assert labels.digest == Federation.load(_config(seed=1), 3).digest
    assert len({labels.digest, Federation.load(_config(), 4).digest}) == 2
