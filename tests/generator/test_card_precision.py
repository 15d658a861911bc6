"""What 'auto' means on cards of all generations; none of them is here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.generator import card_precision, held_weights
from regl_app.generator.card_precision import precision_on, precision_words
from regl_app.supplement.cache_keys import CacheKeys

CUDA = torch.device("cuda", 0)
Card = Callable[[str, int, int], None]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """Return what puts a card of that name and capability in, and makes checkpoints large."""
    monkeypatch.setattr(held_weights, "SMALL", 1)

    def put(name: str, major: int, minor: int) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (major, minor))

    return put


@pytest.mark.parametrize(
    ("name", "major", "minor", "expected"),
    [
        ("NVIDIA H200", 9, 0, "bf16"),
        ("NVIDIA A100-SXM4-80GB", 8, 0, "bf16"),
        ("NVIDIA T4", 7, 5, "fp16"),
        ("Tesla T4", 7, 5, "fp16"),
        ("Tesla V100-SXM2-16GB", 7, 0, "fp16"),
        ("NVIDIA GeForce RTX 2080 Ti", 7, 5, "fp16"),
        ("NVIDIA TITAN V", 7, 0, "fp16"),
        ("NVIDIA GeForce GTX 1660", 7, 5, "fp32"),
        ("NVIDIA T400", 7, 5, "fp32"),
        ("NVIDIA TITAN Xp", 6, 1, "fp32"),
        ("Tesla P100-PCIE-16GB", 6, 0, "fp32"),
    ],
)
def test_a_card_runs_what_it_is_built_for(
    second_pipeline: Path, card: Card, name: str, major: int, minor: int, expected: str
) -> None:
    card(name, major, minor)
    assert precision_on("auto", CUDA, second_pipeline) == expected
    assert precision_on("fp32", CUDA, second_pipeline) == "fp32"
    assert precision_on("bf16", CUDA, second_pipeline) == "bf16"


def test_small_checkpoints_and_processors_are_as_before(
    second_pipeline: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    card("Tesla T4", 7, 5)
    monkeypatch.setattr(card_precision, "resolve_precision", lambda *_: "fp32")
    assert precision_on("auto", torch.device("cpu"), second_pipeline) == "fp32"
    monkeypatch.setattr(held_weights, "SMALL", 2**28)
    assert precision_on("auto", CUDA, second_pipeline) == "fp32"


def test_what_overflows_in_fp16_stays_in_fp32(
    second_pipeline: Path,
    card: Card,
    tmp_path: Path,
) -> None:
    card("Tesla T4", 7, 5)
    copy = Path(shutil.copytree(second_pipeline, tmp_path / "copy"))
    config = copy / "unet" / "config.json"
    whole = json.loads(config.read_text())

    def edited(**change: Any) -> str:
        config.write_text(json.dumps({**whole, **change}))
        return precision_on("auto", CUDA, copy)

    assert edited() == "fp16"
    assert edited(upcast_attention=True) == "fp32"
    assert edited(_class_name="Unknown") == "fp32"
    shutil.move(copy / "unet", copy / "transformer")
    (copy / "transformer" / "config.json").write_text('{"_class_name": "SanaTransformer2DModel"}')
    assert precision_on("auto", CUDA, copy) == "fp32"


def test_images_are_kept_under_what_they_are_drawn_in(second_pipeline: Path, card: Card) -> None:
    card("Tesla T4", 7, 5)
    config = RunConfig.from_flat({"generator.path": str(second_pipeline)})
    key = CacheKeys(config, ("a cat", "a dog"), (3, 32, 32), CUDA).pool("frozen", 1, 2)
    assert (key["precision"], key["held"]) == ("fp16", "fp16")


@pytest.mark.parametrize(
    ("name", "major", "minor", "expected"),
    [
        ("NVIDIA T4", 7, 5, "fp16, weights held in fp16"),
        ("NVIDIA H200", 9, 0, "bf16, weights held"),
    ],
)
def test_what_auto_became_is_said_with_the_device(
    second_pipeline: Path,
    card: Card,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    major: int,
    minor: int,
    expected: str,
) -> None:
    card(name, major, minor)
    monkeypatch.setattr(card_precision, "resolve_device", lambda _wanted: CUDA)
    config = RunConfig.from_flat({"generator.path": str(second_pipeline)})
    words = precision_words(config)
    assert words.startswith(expected)
    assert words.endswith(" on the server's cuda (of a client elsewhere its log says it)")
    named = config.updated({"generator.precision": "fp32"})
    assert precision_words(named) == "fp32, weights held in fp32"


def test_a_server_that_cannot_know_leaves_it_to_its_clients(
    second_pipeline: Path, tmp_path: Path
) -> None:
    absent = RunConfig.from_flat({"generator.path": str(tmp_path / "absent")})
    assert precision_words(absent) == "as fits each client's device, told in its log"
    # On a server's processor fp16 is an error, at its clients perhaps not.
    named = {"generator.path": str(second_pipeline), "generator.precision": "fp16", "device": "cpu"}
    assert precision_words(RunConfig.from_flat(named)) == "fp16"
    assert precision_words(RunConfig.from_flat({"method": "fedavg"})) == ""
