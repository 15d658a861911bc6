"""How well a run's model does on labelled images, whose classes are matched by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from regl_app.core.errors import DataError
from regl_app.core.types import Counts
from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.metrics import Metrics, score
from regl_app.runs.trained.model import TrainedModel

_TOLD = 5


@dataclass(frozen=True, eq=False)
class ClassScore:
    """Of one class: how many images, and shares as ``Metrics`` has them."""

    name: str
    images: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, eq=False)
class TakenFor:
    """How often the class of a row was taken for that of a column, ``counts`` (rows, columns)."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: Counts


@dataclass(frozen=True, eq=False)
class Scores:
    """A model on a set of images: the whole, each class, and how often i was taken for j (C, C)."""

    metrics: Metrics
    confusion: Counts
    class_names: tuple[str, ...]

    @property
    def classes(self) -> list[ClassScore]:
        """Return how every class of the model fares."""
        found, held = self.metrics, self.confusion.sum(axis=1).tolist()
        columns = (self.class_names, held, found.precision, found.per_class, found.f1)
        return [ClassScore(*each) for each in zip(*columns, strict=True)]

    @property
    def balanced_accuracy(self) -> float:
        """Return the mean recall over the classes that the images hold."""
        recalls = [each.recall for each in self.classes if each.recall is not None]
        return sum(recalls) / len(recalls)

    @property
    def taken_for(self) -> TakenFor:
        """Return the confusion without the classes that no image is of, nor was taken for."""
        held, taken = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        rows, columns = np.flatnonzero(held), np.flatnonzero(held + taken)
        names_of_rows, names_of_columns = (
            tuple(self.class_names[place] for place in places) for places in (rows, columns)
        )
        return TakenFor(names_of_rows, names_of_columns, self.confusion[np.ix_(rows, columns)])

    def to_json(self) -> dict[str, object]:
        """Return all of it as plain values."""
        return {
            "images": self.metrics.images,
            "accuracy": self.metrics.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.metrics.macro_f1,
            "loss": self.metrics.loss,
            "classes": [vars(each) for each in self.classes],
            "confusion": self.confusion.tolist(),
        }


def scores_of(
    trained: TrainedModel,
    images: ImageSet,
    class_names: Sequence[str],
    device: torch.device | str = "cpu",
) -> Scores:
    """Return how ``trained`` does on ``images``, whose labels are places in ``class_names``.

    Raises:
        DataError: there is no image; or a class that images have is none of the model's.
    """
    if len(images) == 0:
        raise DataError("there is no image to evaluate on")
    known = {name: place for place, name in enumerate(trained.class_names)}
    counts = images.counts(len(class_names))
    unknown = [
        name for name, count in zip(class_names, counts, strict=True) if count and name not in known
    ]
    if unknown:
        more = f" and {len(unknown) - _TOLD} more" if len(unknown) > _TOLD else ""
        raise DataError(
            f"the images are of classes that the run does not know: "
            f"{', '.join(map(repr, unknown[:_TOLD]))}{more}; its classes are "
            f"{', '.join(map(repr, trained.class_names))} (rename the folders, or leave these out)"
        )
    places = torch.tensor([known.get(name, 0) for name in class_names])
    labels, count = places[images.labels], len(trained.class_names)
    log_probs = trained.log_probs(images, device)
    metrics = score(log_probs, labels, count)
    assert metrics.confusion is not None  # it is of images that were just looked at
    return Scores(metrics, metrics.confusion, trained.class_names)
