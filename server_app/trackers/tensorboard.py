"""TensorBoard's view of a run, in ``<run>/tensorboard``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regl_app.core.array_files import Array
from server_app.trackers.tracker import Status, TrackedRun

FOLDER = "tensorboard"


class TensorBoard:
    """Writes event files; what an interrupted run wrote of repeated rounds is taken back."""

    def __init__(self) -> None:
        self._writer: Any = None

    def begin(self, run: TrackedRun) -> None:
        """Open the event file; tell the classes and the configuration as texts."""
        from torch.utils.tensorboard import SummaryWriter

        folder = str(run.folder.path / FOLDER)
        self._writer = SummaryWriter(folder, purge_step=run.first_round or None)
        classes = [
            (str(label), name, *concept) for label, (name, *concept) in enumerate(_named(run))
        ]
        head = ("number", "class", "concept")[: len(classes[0])] if classes else ()
        self._writer.add_text("run/classes", _table(head, classes), run.first_round)
        keys = [(key, str(value)) for key, value in run.config.to_flat().items()]
        self._writer.add_text("run/configuration", _table(("key", "value"), keys), run.first_round)

    def scalars(self, values: Mapping[str, float], number: int) -> None:
        """Write one round's numbers."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, number)
        self._writer.flush()

    def picture(self, name: str, pixels: Array, number: int) -> None:
        """Write a picture."""
        self._writer.add_image(name, pixels, number, dataformats="HWC")
        self._writer.flush()

    def files(self, paths: Sequence[Path]) -> None:
        """Leave the files where they are: beside the event files."""

    def end(self, status: Status) -> None:
        """Close the event file."""
        self._writer.close()


def _named(run: TrackedRun) -> list[tuple[str, ...]]:
    names, concepts = run.facts.class_names, run.facts.concepts
    if len(concepts) != len(names):
        return [(name,) for name in names]
    return list(zip(names, concepts, strict=True))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table in which nothing is taken for Markdown."""
    lines = [head, ["---"] * len(head), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _plain(text: str) -> str:
    shown = "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|~" else c for c in " ".join(text.split()))
    return shown.replace("&", "&amp;").replace("<", "&lt;")
