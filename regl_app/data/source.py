"""Data sources by name: labelled images for training and test, with their classes' names."""

from __future__ import annotations

from dataclasses import dataclass

from regl_app.data.concepts import Concept
from regl_app.data.depth import UsedDepth
from regl_app.data.images import ImageSet


@dataclass(frozen=True)
class Source:
    """A classification data set at the classifier's resolution."""

    name: str
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    """Short names, e.g. ``3``."""
    concepts: tuple[Concept, ...]
    """Phrases for text prompts, e.g. ``the digit three``; several of a class are used in turn."""
    unreadable: int = 0
    """Files that could not be decoded and were left out, as ``data.unreadable=skip`` has it."""
    depth: UsedDepth | None = None
    """By which scales deep greyscale was read; None without any."""
    left_out: str = ""
    """What else of a folder is not read, in words, if pictures may be missed."""

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.class_names)
