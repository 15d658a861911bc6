"""Numbers in replies are bounded: nothing that is computed of them can overflow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from flwr.app import RecordDict

from regl_app.core.bounds import MOST_IMAGES
from regl_app.core.errors import ProtocolError
from regl_app.flower.messages.content import OURS
from regl_app.flower.messages.evaluate import EvaluateReply
from regl_app.flower.messages.train import TrainReply

WEIGHTS = {"w": torch.zeros(2)}
REPLY = TrainReply(0, 4, 7, 7, 0.5, WEIGHTS)


def _read(content: RecordDict) -> TrainReply:
    return TrainReply.read(content, server_round=4, template=WEIGHTS, num_classes=3)


@pytest.mark.parametrize(
    ("counts", "examples", "told"),
    [
        ((2**63 - 1, 110, 2**63 - 8), 101, "confusion must be 4 whole numbers from 0 to "),
        ((2**62, 0, 0), 2**62, "num-examples must be a whole number from 0 to "),
        ((2**62, 0, 0), 10, "confusion must be 4 whole numbers from 0 to "),
        ((MOST_IMAGES, 1, 0), MOST_IMAGES, f"={MOST_IMAGES} images, got {MOST_IMAGES + 1}"),
    ],
)
def test_confusion_of_more_images_than_anybody_has_is_refused(
    counts: tuple[int, int, int], examples: int, told: str
) -> None:
    confusion = np.array([*counts, 0], dtype=np.int64).reshape(2, 2)
    content = EvaluateReply(3, 2, examples, confusion=confusion).to_content()
    with pytest.raises(ProtocolError, match=told):
        EvaluateReply.read(content, server_round=2, num_classes=2)


@pytest.mark.parametrize("key", ["held", "real-counts", "synthetic-counts", "quality-images"])
def test_counts_of_more_images_than_anybody_has_are_refused(key: str) -> None:
    content = REPLY.to_content()
    content.config_records[OURS][key] = [0, MOST_IMAGES + 1, 0]
    with pytest.raises(ProtocolError, match=f"{key} must be 3 whole numbers from 0 to "):
        _read(content)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("facts.local_accuracy", 5e6, r"a number from 0 to 1, got 5000000\.0"),
        ("facts.local_accuracy", True, "a number from 0 to 1, got True"),
        ("facts.unreadable", "abc", r"a whole number from 0 to .*, got 'abc'"),
        ("facts.unreadable", 0.5, r"a whole number from 0 to .*, got 0\.5"),
        ("facts.unreadable", -1, r"a whole number from 0 to .*, got -1"),
        ("facts.adapter_steps", "many", r"a whole number from 0 to "),
        ("facts.loss", "low", r"a number from -1e\+39 to 1e\+39, got 'low'"),
        ("facts.adapter_loss", -1e40, r"a number from -1e\+39 to 1e\+39"),
        ("facts.anything", 1e308, r"a text or a number from -1e\+39 to 1e\+39"),
        ("seconds.any", 2e9, r"a number from 0 to 1e\+09"),
    ],
)
def test_facts_and_durations_that_cannot_be_are_refused(
    key: str, value: bool | float | str, told: str
) -> None:
    content = REPLY.to_content()
    content.config_records[OURS][key] = value
    with pytest.raises(ProtocolError, match=f"{key} must be {told}"):
        _read(content)


def test_a_loss_of_more_than_any_model_has_is_refused() -> None:
    content = EvaluateReply(3, 2, 10, loss=1e308).to_content()
    with pytest.raises(ProtocolError, match=r"loss must be a finite number .*got 1e\+308"):
        EvaluateReply.read(content, server_round=2, num_classes=2)


def test_numbers_of_images_have_a_bound() -> None:
    content = dataclasses.replace(REPLY, num_examples=MOST_IMAGES + 1).to_content()
    with pytest.raises(ProtocolError, match="num-examples must be a whole number from 0 to "):
        _read(content)
    content = dataclasses.replace(REPLY, real_images=MOST_IMAGES + 1).to_content()
    with pytest.raises(ProtocolError, match="real-images must be <= "):
        _read(content)
