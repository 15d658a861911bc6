"""Which round is the best so far, and whether to go on: by the clients' validation images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from regl_app.config.validation_section import ValidationConfig
from regl_app.core.errors import RunError
from regl_app.rounds.exchange import EvaluationResult, Validation

LOOKED_BACK = 5
"""So many rounds, the one at hand among them, say how many validation images there are to expect.

A site that is away for fewer is waited for; one that is away for longer no longer counts.
"""


def pooled_validation(
    results: Iterable[EvaluationResult], *, required: bool = True
) -> Validation | None:
    """Return what ``results`` come to, None where no client measured a validation image.

    Raises:
        RunError: none did, and it is ``required``.
    """
    found = [each.validation for each in results if each.validation is not None]
    images = sum(each.images for each in found)
    if images == 0:
        if not required:
            return None
        raise RunError(
            "no client measured a validation image: validation.fraction leaves a client with few "
            "images none, as a class's last image is trained on (raise it, or set it to 0)"
        )
    return Validation(
        images,
        sum(each.accuracy * each.images for each in found) / images,
        sum(each.loss * each.images for each in found) / images,
    )


@dataclass
class Choice:
    """The best round so far, 0 before the first; of equal ones the earlier.

    Rounds are compared where they were measured on equally many images. One that has fewer than
    another of the last `LOOKED_BACK`, as a site did not answer, is left aside: it is not the best
    and does not count against patience. One that has more than the best, or fewer when no more were
    seen for so long, begins anew: it is the best, as nothing before can be compared with it.

    It follows from the rounds' validation alone, so that a resumed run adds those of its history
    again and is where it was.
    """

    config: ValidationConfig
    best: int = 0
    value: float = -math.inf
    images: int = 0
    """On how many the best round was measured."""
    worse: int = 0
    """Rounds since the best one that were compared with it."""
    measured: bool = False
    """Whether any round was."""
    compared: bool = False
    """Whether the last round was a candidate."""
    recent: tuple[int, ...] = ()
    """The last rounds' images, `LOOKED_BACK` at most."""
    bests: dict[int, int] = field(default_factory=dict)
    """By round, which was the best when it was complete."""

    def add(self, number: int, found: Validation | None) -> bool:
        """Take note of round ``number``, None if nobody measured it; return whether it is the best.

        A loss that is no finite number is no candidate: the history does not tell such apart.
        """
        images = 0 if found is None else found.images
        self.recent = (*self.recent, images)[-LOOKED_BACK:]
        self.measured = self.measured or images > 0
        self.compared = images > 0 and images == max(self.recent)
        better = False
        if found is not None and self.compared:
            value = found.accuracy if self.config.metric == "accuracy" else -found.loss
            better = math.isfinite(value) and (images != self.images or value > self.value)
            self.worse += 1
            if better:
                self.best, self.value, self.images, self.worse = number, value, images, 0
        self.bests[number] = self.best
        return better

    @property
    def exhausted(self) -> bool:
        """Whether the last ``validation.patience`` rounds compared brought nothing better."""
        return 0 < self.config.patience <= self.worse

    @property
    def words(self) -> str:
        """What a log says of the best round."""
        if self.best == 0:
            return "none yet"
        value = (
            f"accuracy {self.value:.1%}"
            if self.config.metric == "accuracy"
            else f"loss {-self.value:.4f}"
        )
        return f"round {self.best}, validation {value}"
