"""No class is cut off by a cap that has room for it, and those without an image are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.data.absent_classes import absent_classes
from regl_app.data.concepts import concepts_of
from regl_app.data.images import ImageSet
from regl_app.data.source import Source
from regl_app.data.sources.folder import load_folder
from regl_app.data.sources.site import SiteFolder, load_site
from regl_app.data.stratified import stratified_sample
from tests.data.sources.test_folder_layouts import fill

SIZES = {"a": 60, "b": 40, "c": 2, "d": 1}


def held(counts: list[int]) -> ImageSet:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return ImageSet(torch.zeros(len(labels), 1, 4, 4, dtype=torch.uint8), labels)


def source(train: list[int], test: list[int]) -> Source:
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: len(train)])
    return Source("x", held(train), held(test), names, concepts_of(names))


def test_a_cap_keeps_one_image_of_each_class(tmp_path: Path) -> None:
    path = str(fill(tmp_path, SIZES))
    for most in (4, 5, 20):
        config = DataConfig(source="folder", path=path, image_size=8, max_train=most)
        counts = load_folder(config).train.counts(4)
        assert counts.sum() == most and counts.min() >= 1
        assert counts[0] >= counts[1] >= counts[2]


def test_a_draw_that_loses_no_class_is_what_it_was() -> None:
    labels = np.repeat(np.arange(3), [50, 30, 20])
    for total in (7, 30, 100):
        one, two = (
            stratified_sample(labels, total, np.random.default_rng(5), keep_one=keep)
            for keep in (False, True)
        )
        assert np.array_equal(one, two)


def test_a_cap_of_fewer_than_the_classes_names_what_it_leaves_out() -> None:
    config = DataConfig(max_train=2)
    (told,) = absent_classes(source([1, 0, 1, 0], [1, 1, 1, 1]), config)
    assert "no training image of 'b', 'd'" in told and "data.max-train=2" in told
    assert absent_classes(source([1, 2], [1, 1]), config) == []


def test_classes_that_nothing_is_tested_on_are_named() -> None:
    (told,) = absent_classes(source([3, 3, 1], [1, 1, 0]), DataConfig(max_test=2))
    assert "no test image of 'c'" in told and "data.max-test=2" in told
    (told,) = absent_classes(source([3] * 26, [1] + [0] * 25), DataConfig())
    assert "'k' and 15 more" in told and "data.max-test" not in told
    site = DataConfig(source="site", classes="a,b")
    assert absent_classes(source([0, 0], [0, 0]), site) == []
    (told,) = absent_classes(source([0, 0], [2, 0]), site)
    assert "no test image of 'b'" in told


def test_a_site_keeps_one_of_each_or_names_what_it_leaves_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = SiteFolder(fill(tmp_path / "site", SIZES), AllowedFolders())
    for most, left_out in ((4, ""), (3, "no image of 'c', 'd' is used: data.max-train=3")):
        config = DataConfig(
            source="site", classes="a,b,c,d,e", image_size=8, channels=1, max_train=most
        )
        counts = load_site(folder, config, 0, 0.0).train.counts(5)
        assert counts.sum() == most and (counts[:4] == 0).any() == bool(left_out)
        assert left_out in caplog.text and ("is used" in caplog.text) == bool(left_out)
