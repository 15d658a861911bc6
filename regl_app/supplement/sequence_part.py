"""Stretches of image sequences, cut into portions that are sampled and stored one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SequencePart:
    """The images ``first .. last - 1`` of the sequence of class ``label``."""

    label: int
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first

    @property
    def positions(self) -> list[tuple[int, int]]:
        """Return (class, index in its sequence) of every image."""
        return [(self.label, index) for index in range(self.first, self.last)]


def portions(parts: Sequence[SequencePart], size: int) -> list[list[SequencePart]]:
    """Return ``parts`` in order, in lists of at most ``size`` images; a part may be cut."""
    result: list[list[SequencePart]] = []
    free = 0
    for part in parts:
        first = part.first
        while first < part.last:
            if free <= 0:
                result.append([])
                free = size
            last = min(part.last, first + free)
            result[-1].append(SequencePart(part.label, first, last))
            free -= last - first
            first = last
    return result
