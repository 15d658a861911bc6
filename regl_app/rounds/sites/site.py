"""What every site does for a round at the server; each site's file shows only its difference."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from regl_app.core.types import Counts, Weights
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.shared import SharedAdapter
from regl_app.rounds.exchange import RoundResult
from regl_app.rounds.shared_adapter import SharedTuning
from regl_app.rounds.teaching import Teacher
from regl_app.supplement.payload import Payload

Results = Mapping[int, RoundResult]
"""The usable results of a round, by partition."""


class Site:
    """The server's half of the supplement: what goes out to whom, and what becomes of the results.

    In a round: ``quotas``, ``payload`` and ``adapter`` go out; ``answered``, ``unreadable``,
    ``before_average``, ``teach`` and ``after_average`` see what came back, in this order. ``notes``
    are what the server found out in the round, for its history, and ``seconds`` what that took, by
    part.

    Args:
        teacher: improves the average, where the run wants that.
    """

    notes: Mapping[int, Mapping[str, Any]]

    def __init__(self, teacher: Teacher | None = None) -> None:
        self.teacher = teacher
        self.notes = {}
        self._seconds: Mapping[str, float] = {}

    @property
    def seconds(self) -> Mapping[str, float]:
        """Return what the parts of this round took."""
        return self._seconds if self.teacher is None else {**self._seconds, **self.teacher.seconds}

    def quotas(self, partition_id: int, number: int) -> Counts | None:
        """Return the quotas ``(C,)`` of round ``number``, None where the client plans itself."""
        return None

    def payload(self, partition_id: int, number: int) -> Payload | None:
        """Return the images to be sent in round ``number``, None if there are none."""
        return None

    def adapter(self, partition_id: int) -> SharedAdapter | None:
        """Return the adapter of all clients, None if there is none."""
        return None

    def share(self, tuning: SharedTuning) -> None:
        """Take what all clients have tuned together, before round 1."""

    def answered(self, asked: Collection[int], results: Results) -> None:
        """Take note of who of those that were ``asked`` answered."""

    def unreadable(self, results: Results) -> set[int]:
        """Return whose uploaded models give answers that are no finite numbers."""
        return set()

    def before_average(self, number: int, results: Results) -> Mapping[int, Weights]:
        """Return models to average instead of the uploaded ones, and plan round ``number + 1``."""
        return {}

    def teach(self, number: int, average: Weights, results: Results, start: Weights) -> Weights:
        """Return the global model that is made of the average; ``start`` is the one before it."""
        if self.teacher is None:
            return average
        return self.teacher.teach(number, average, results, start, self._taught_on())

    def _taught_on(self) -> ImageSet | None:
        """Return the images to distill on; None: the shared pool."""
        return None

    def after_average(self, number: int, weights: Weights, results: Results) -> None:
        """Prepare round ``number + 1`` by the new global model."""

    def memory(self) -> dict[str, Any]:
        """Return what is kept from round to round, as fields of the server's memory."""
        return {}

    def restore(self, memory: Mapping[str, Any]) -> None:
        """Go on from what :meth:`memory` returned."""
