"""What a model takes pictures for, as a table for people and programs."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities ``(N, C)`` of ``class_names`` for N ``files``."""

    files: tuple[Path, ...]
    probabilities: torch.Tensor
    class_names: tuple[str, ...]

    def best(self, place: int, count: int = 1) -> list[tuple[str, float]]:
        """Return the ``count`` likeliest classes of the picture at ``place``, in that order."""
        values, found = self.probabilities[place].topk(min(count, len(self.class_names)))
        return [
            (self.class_names[label], float(value))
            for label, value in zip(found.tolist(), values, strict=True)
        ]

    def to_csv(self) -> str:
        """Return one line per picture: file, label, probability, and of every class ``p(NAME)``."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["file", "label", "probability", *(f"p({name})" for name in self.class_names)]
        )
        for place, file in enumerate(self.files):
            label, probability = self.best(place)[0]
            shares = self.probabilities[place].tolist()
            writer.writerow(
                [shown(file), label, *(f"{p:.{_DIGITS}f}" for p in (probability, *shares))]
            )
        return text.getvalue()

    def to_json(self) -> str:
        """Return a list of objects: file, label, probability, and probabilities by class."""
        rows = []
        for place, file in enumerate(self.files):
            label, probability = self.best(place)[0]
            shares = [round(share, _DIGITS) for share in self.probabilities[place].tolist()]
            rows.append(
                {
                    "file": shown(file),
                    "label": label,
                    "probability": round(probability, _DIGITS),
                    "probabilities": dict(zip(self.class_names, shares, strict=True)),
                }
            )
        return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def shown(file: Path) -> str:
    """Return a path as text that can be written: what is no UTF-8 in it as in ``\\xff``."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")


def predictions(
    files: Sequence[Path], log_probs: torch.Tensor, class_names: tuple[str, ...]
) -> Predictions:
    """Return the predictions of log-probabilities ``(N, C)``."""
    return Predictions(tuple(files), log_probs.double().exp(), class_names)
