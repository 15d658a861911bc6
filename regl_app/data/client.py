"""One client's images."""

from __future__ import annotations

from dataclasses import dataclass

from regl_app.core.types import Counts
from regl_app.data.depth import UsedDepth
from regl_app.data.images import ImageSet


@dataclass(frozen=True)
class ClientData:
    """One client's images; either set may be empty."""

    partition_id: int
    train: ImageSet
    test: ImageSet
    """Drawn like the client's own data: the personalized test set."""
    unreadable: int = 0
    """Files of its own folder that could not be decoded and were left out."""
    left_out: str = ""
    """What of its own folder is not read, in words, if pictures may be missed."""
    validation: ImageSet | None = None
    """Training images that are held out to choose by; None where a run holds none out."""
    depth: UsedDepth | None = None
    """By which scales deep greyscale of its own folder was read; None without any."""
    whole: Counts | None = None
    """Images of its own folder per class, ``(C,)``, before some were left out (``data.max-train``);
    None: ``train``, ``test`` and ``validation`` are all there are."""

    def label_counts(self, num_classes: int) -> Counts:
        """Return all the client's images per class, ``(C,)``, however they are split.

        One image more or less changes one count, by one: of those trained on it may change any, as
        the split gives classes their shares by largest remainder (``stratified``).
        """
        if self.whole is not None:
            return self.whole
        counts = self.train.counts(num_classes) + self.test.counts(num_classes)
        return counts if self.validation is None else counts + self.validation.counts(num_classes)
