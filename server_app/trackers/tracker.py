"""What a tracker is told of a run: five calls, each of which may fail without harm to the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from regl_app.config import RunConfig
from regl_app.core.array_files import Array
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import FederationFacts

Status = Literal["finished", "failed", "stopped"]


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker sees it begin; what was told of ``first_round`` and later is told anew."""

    folder: RunFolder
    config: RunConfig
    facts: FederationFacts
    first_round: int = 0

    @property
    def resumed(self) -> bool:
        """Return whether the run goes on after rounds that were told already."""
        return self.first_round > 0


class Tracker(Protocol):
    """A place that numbers and pictures of a run are sent to.

    Every call may raise: the tracker is then left alone for the rest of the run, with a warning.
    """

    def begin(self, run: TrackedRun) -> None:
        """Open the place: the same as before, if the run is a resumed one."""

    def scalars(self, values: Mapping[str, float], number: int) -> None:
        """Take the numbers of round ``number``, by name."""

    def picture(self, name: str, pixels: Array, number: int) -> None:
        """Take a picture, ``(H, W, 3)`` uint8, that is of round ``number``."""

    def files(self, paths: Sequence[Path]) -> None:
        """Take what the run has left behind, once it is over."""

    def end(self, status: Status) -> None:
        """Close the place."""
