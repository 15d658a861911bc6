"""How good a client's synthetic images are, class by class: reading, fidelity, diversity, copies.

Fidelity and diversity are read off an untrained classifier's features: they are the same for all
clients and rounds, and know no class (Naeem et al. 2020, section 4, recommend random embeddings
where images are unlike ImageNet's). Where a class has too few real images, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from regl_app.core.seeding import torch_generator
from regl_app.core.types import Counts, Floats
from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.features import features
from regl_app.learning.evaluation.manifold import density, spread
from regl_app.learning.evaluation.metrics import predict_log_probs
from regl_app.learning.models.classifier import Classifier
from regl_app.supplement.near_copies import CopyTest, near_copies, thumbnails

MEASURES = ("reading", "fidelity", "diversity", "near_copies")
"""What is measured, each ``(C,)``."""
LEAST = 10
"""Real and synthetic images of a class below which fidelity and diversity are not measured."""
_MOST, _MOST_PER_CLASS, _FEWEST_PER_CLASS = 500, 100, 20
_MOST_TRAIN = 5000
_MOST_HELD_OUT = 200


@dataclass(frozen=True)
class ImageQuality:
    """What was measured of a client's synthetic images, each ``(C,)``; NaN where it was not.

    ``images`` were looked at. ``reading``: share that the global model takes for their class.
    ``fidelity``: density among the class's real images, 1 = like real ones, 0 = unlike any.
    ``diversity``: mean distance between two images over that between two real ones.
    ``near_copies``: share closer to a training image, of whatever class, than
    ``near_copies.CHANCE`` of new real ones would be; not of a class with training images that are
    too few to tell. ``distances``: of all images together, as ``image_distance`` has them, where
    they were asked for.
    """

    images: Counts
    reading: Floats
    fidelity: Floats
    diversity: Floats
    near_copies: Floats
    distances: Mapping[str, float] = field(default_factory=dict)

    def overall(self) -> dict[str, float]:
        """Return the mean of each over images, of those for which it was measured, if any.

        And the distances of all images together.
        """
        found = dict(self.distances)
        for name in MEASURES:
            values: Floats = getattr(self, name)
            known = np.isfinite(values) & (self.images > 0)
            if known.any():
                found[name] = float(np.average(values[known], weights=self.images[known]))
        return found


def is_measured(round_number: int) -> bool:
    """Return whether images are measured in a round: 1, 2, 4, 8, ...

    Rounds that nobody has to remember, few in a long run; early ones, since budgets shrink.
    """
    return round_number & (round_number - 1) == 0


def measure_quality(
    made: ImageSet,
    train: ImageSet,
    held_out: ImageSet,
    embedding: Classifier,
    reader: Classifier | None,
    device: torch.device | str,
) -> ImageQuality:
    """Return the quality of the synthetic images ``made``.

    Of a class at most 100 of each kind are looked at, about 500 in all, and at most 5000 training
    images are searched for what was copied. The same images give the same numbers.

    Args:
        made: what is judged.
        train: the client's training images.
        held_out: real images of the client's that are not trained on; may be empty.
        embedding: the run's classifier, untrained.
        reader: the global model; None while that is untrained.
        device: where both compute.
    """
    classes = embedding.head.out_features
    there = made.counts(classes)
    looked_at = made.subset(_some_of_each(made, _most(int((there > 0).sum()))))
    images = looked_at.counts(classes)
    fidelity, diversity = _likeness(looked_at, train, embedding, device)
    reading = np.full(classes, np.nan)
    if reader is not None and len(looked_at):
        read = predict_log_probs(reader, looked_at.images, device).argmax(dim=1)
        reading = _shares(read == looked_at.labels, looked_at.labels, images)
    copies = np.full(classes, np.nan)
    tests = _copy_tests(train, held_out, classes)
    if tests and len(looked_at):
        found = near_copies(thumbnails(looked_at.images), list(tests.values()))
        copies = _shares(found, looked_at.labels, images)
        held = np.flatnonzero(train.counts(classes))
        copies[[label for label in held if label not in tests]] = np.nan
    return ImageQuality(images, reading, fidelity, diversity, copies)


def _likeness(
    made: ImageSet, train: ImageSet, embedding: Classifier, device: torch.device | str
) -> tuple[Floats, Floats]:
    """Return fidelity and diversity of each class."""
    classes = embedding.head.out_features
    fidelity, diversity = np.full(classes, np.nan), np.full(classes, np.nan)
    enough = (made.counts(classes) >= LEAST) & (train.counts(classes) >= LEAST)
    if not enough.any():
        return fidelity, diversity
    chosen = made.subset(np.flatnonzero(enough[made.labels.numpy()]))
    real = train.subset(np.flatnonzero(enough[train.labels.numpy()]))
    real = real.subset(_some_of_each(real, _most(int(enough.sum()))))
    ours = torch.from_numpy(features(embedding, chosen, device)).double()
    theirs = torch.from_numpy(features(embedding, real, device)).double()
    for label in np.flatnonzero(enough):
        one, other = ours[chosen.labels == label], theirs[real.labels == label]
        fidelity[label] = density(other, one)
        apart = spread(other)
        if apart > 0:
            diversity[label] = spread(one) / apart
    return fidelity, diversity


def _copy_tests(train: ImageSet, held_out: ImageSet, classes: int) -> dict[int, CopyTest]:
    """Return, by class, the training images that a copy can be told of."""
    known = train.subset(_some(len(train), _MOST_TRAIN))
    ours, others = thumbnails(known.pixels), thumbnails(held_out.pixels)
    found = {
        label: CopyTest.of(
            ours[known.labels == label], others[held_out.labels == label], _MOST_HELD_OUT
        )
        for label in range(classes)
    }
    return {label: test for label, test in found.items() if test is not None}


def _shares(found: torch.Tensor, labels: torch.Tensor, images: Counts) -> Floats:
    """Return the share of each class's images for which ``found`` ``(N,)``; NaN without any."""
    hits = np.bincount(labels[found].numpy(), minlength=len(images))
    shares: Floats = np.where(images > 0, hits / np.maximum(images, 1), np.nan)
    return shares


def _most(classes: int) -> int:
    """Return how many images of each of ``classes`` classes are looked at, at most."""
    return max(_FEWEST_PER_CLASS, min(_MOST_PER_CLASS, _MOST // max(classes, 1)))


def _some_of_each(images: ImageSet, most: int) -> torch.Tensor:
    """Return the places of at most ``most`` images of each class, in ascending order."""
    places = [torch.nonzero(images.labels == label).flatten() for label in _classes(images)]
    chosen = [of_class[_some(len(of_class), most)] for of_class in places]
    return torch.cat(chosen).sort().values if chosen else torch.empty(0, dtype=torch.int64)


def _classes(images: ImageSet) -> list[int]:
    return sorted(set(images.labels.tolist()))


def _some(count: int, most: int) -> torch.Tensor:
    """Return at most ``most`` places below ``count``, ascending, by no rule of a sequence's."""
    if count <= most:
        return torch.arange(count)
    order = torch.randperm(count, generator=torch_generator(0, "image quality"))
    return order[:most].sort().values
