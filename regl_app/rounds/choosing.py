"""Which round is the best so far, and whether to go on: by the clients' validation images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from regl_app.config.validation_section import ValidationConfig
from regl_app.core.errors import RunError
from regl_app.rounds.exchange import EvaluationResult, Validation

LOOKED_BACK = 5
"""So many rounds, the one at hand among them, say how many validation images there are to expect.

A site that is away for fewer is waited for; one that is away for longer no longer counts.
"""
_MOST = 4
"""Numbers of images whose best rounds are known: each has its model on the disk."""


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


@dataclass(frozen=True)
class _Best:
    """The best round of those that were measured on equally many images."""

    round: int = 0
    value: float = -math.inf
    worse: int = 0
    """Rounds since that were compared with it."""


@dataclass
class Choice:
    """The best round so far, 0 before the first; of equal ones the earlier.

    Rounds are compared where they were measured on equally many images. One that has fewer than
    another of the last `LOOKED_BACK`, as a site did not answer, is left aside: it is not the best
    and does not count against patience. Where there are more than before, or fewer and no more were
    seen for so long, the best is that of the rounds with so many, earlier ones among them; of the
    last `_MOST` such numbers.

    It follows from the rounds' validation alone, so that a resumed run adds those of its history
    again and is where it was.
    """

    config: ValidationConfig
    images: int = 0
    """On how many the last round was measured that was compared."""
    compared: bool = False
    """Whether the last round was."""
    recent: tuple[int, ...] = ()
    """The last rounds' images, `LOOKED_BACK` at most."""
    needed: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """By round, those whose models it or a later one may come to: the best of each number of images
    when it was complete."""
    _bests: dict[int, _Best] = field(default_factory=dict)

    def add(self, number: int, found: Validation | None) -> bool:
        """Take note of round ``number``, None if nobody measured it; return whether it is the best.

        A loss that is no finite number is no candidate: the history does not tell such apart.
        """
        images = 0 if found is None else found.images
        self.recent = (*self.recent, images)[-LOOKED_BACK:]
        self.compared = images > 0 and images == max(self.recent)
        better = False
        if found is not None and self.compared:
            best = self._bests.pop(images, _Best())
            value = found.accuracy if self.config.metric == "accuracy" else -found.loss
            better = math.isfinite(value) and value > best.value
            best = _Best(number, value) if better else replace(best, worse=best.worse + 1)
            self._bests[images] = best  # as the last
            if best.round or not self.best:
                self.images = images
            for old in list(self._bests)[:-_MOST]:
                del self._bests[old]
        self.needed[number] = tuple(each.round for each in self._bests.values() if each.round)
        return better

    def forget(self, number: int) -> None:
        """Take round ``number`` for none of the best: its model is gone."""
        for images, best in self._bests.items():
            if best.round == number:
                self._bests[images] = _Best()

    @property
    def measured(self) -> bool:
        """Whether any round was."""
        return bool(self._bests)

    @property
    def best(self) -> int:
        """The best round."""
        return self._best.round

    @property
    def _best(self) -> _Best:
        return self._bests.get(self.images, _Best())

    @property
    def exhausted(self) -> bool:
        """Whether the last ``validation.patience`` rounds compared brought nothing better."""
        return 0 < self.config.patience <= self._best.worse

    @property
    def words(self) -> str:
        """What a log says of the best round."""
        if self.best == 0:
            return "none yet"
        value = (
            f"accuracy {self._best.value:.1%}"
            if self.config.metric == "accuracy"
            else f"loss {-self._best.value:.4f}"
        )
        return f"round {self.best}, validation {value}"
