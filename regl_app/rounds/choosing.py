"""Which round is the best so far, and whether to go on: by the clients' validation images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from regl_app.config.validation_section import ValidationConfig
from regl_app.core.errors import RunError
from regl_app.rounds.exchange import EvaluationResult, Validation


def pooled_validation(results: Iterable[EvaluationResult]) -> Validation:
    """Return what ``results`` come to.

    Raises:
        RunError: no client measured a validation image.
    """
    found = [each.validation for each in results if each.validation is not None]
    images = sum(each.images for each in found)
    if images == 0:
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

    It follows from the rounds' validation alone, so that a resumed run adds those of its history
    again and is where it was.
    """

    config: ValidationConfig
    best: int = 0
    value: float = -math.inf
    last: int = 0
    bests: dict[int, int] = field(default_factory=dict)
    """By round, which was the best when it was complete."""

    def add(self, number: int, found: Validation) -> bool:
        """Take note of round ``number``; return whether it is the best so far.

        A loss that is no finite number is no candidate: the history does not tell such apart.
        """
        self.last = number
        value = found.accuracy if self.config.metric == "accuracy" else -found.loss
        better = math.isfinite(value) and value > self.value
        if better:
            self.best, self.value = number, value
        self.bests[number] = self.best
        return better

    @property
    def exhausted(self) -> bool:
        """Whether the last ``validation.patience`` rounds brought nothing better."""
        return 0 < self.config.patience <= self.last - self.best

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
