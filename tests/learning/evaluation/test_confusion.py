"""Precision, recall, F1 and counts of each class, of one set of images and of several parties'."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from regl_app.learning.evaluation.confusion import confusion_counts, metrics_of
from regl_app.learning.evaluation.metrics import score

CLASSES = 5


def _answers(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, CLASSES, 60), rng.integers(0, CLASSES, 60)


@pytest.mark.parametrize("seed", range(3))
def test_as_scikit_learn_has_it(seed: int) -> None:
    labels, predicted = _answers(seed)
    log_probs = torch.nn.functional.one_hot(torch.tensor(predicted), CLASSES).float().log()
    found = score(log_probs, torch.tensor(labels), CLASSES)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted)
    assert found.precision == pytest.approx(precision.tolist())
    assert found.per_class == pytest.approx(recall.tolist())
    assert found.f1 == pytest.approx(f1.tolist())
    assert found.confusion is not None
    assert found.confusion.tolist() == confusion_matrix(labels, predicted).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_counts_added_up_tell_the_same(seed: int) -> None:
    labels, predicted = _answers(seed)
    log_probs = torch.nn.functional.one_hot(torch.tensor(predicted), CLASSES).float().log()
    whole = score(log_probs, torch.tensor(labels), CLASSES)
    parts = [
        confusion_counts(labels[part], predicted[part], CLASSES)
        for part in (slice(0, 20), slice(20, 60))
    ]
    pooled = metrics_of(np.sum(parts, axis=0), 0.0)
    for name in ("precision", "per_class", "f1"):
        assert getattr(pooled, name) == pytest.approx(getattr(whole, name))
    assert np.array_equal(pooled.confusion, whole.confusion)


def test_a_class_without_images_is_not_zero_and_one_never_named_has_no_precision() -> None:
    # Class 0: right; class 1: taken for 0; class 2: no image, but taken for once; class 3: nothing.
    labels, predicted = np.array([0, 1, 0]), np.array([0, 0, 2])
    log_probs = torch.nn.functional.one_hot(torch.tensor(predicted), 4).float().log()
    one = score(log_probs, torch.tensor(labels), 4)
    for found in (one, metrics_of(confusion_counts(labels, predicted, 4), 0.0)):
        assert found.per_class == pytest.approx([0.5, 0.0, None, None])
        assert found.precision == pytest.approx([0.5, None, None, None])
        assert found.f1 == pytest.approx([0.5, 0.0, None, None])
        assert found.macro_f1 == pytest.approx(0.25)
