"""Whether a generator and a federation fit together, as far as the generator tells."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from regl_app.config.choices import SOURCES
from regl_app.config.sections import DataConfig
from regl_app.core.errors import GeneratorError
from regl_app.data.concepts import DIGIT_WORDS
from regl_app.generator.bundled import BUNDLED, ENVIRONMENT

ORIGIN = "public.json"
"""In the generator's folder: which public part of which data set it was trained on."""


def check_public_part(folder: Path, data: DataConfig) -> None:
    """Refuse a federation whose clients or tests would hold what the generator was trained on.

    Args:
        folder: the generator's.
        data: the federation's.

    Raises:
        GeneratorError: same source, but another ``data.public-fraction``; or the file is damaged.
    """
    path = folder / ORIGIN
    if not path.is_file():
        return
    try:
        origin = json.loads(path.read_text(encoding="utf-8"))
        source, fraction = str(origin["source"]), float(origin["public-fraction"])
        place = str(origin["path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GeneratorError(
            f"{path} cannot be read ({error}): make the generator again by regl pretrain"
        ) from error
    # Named sources are the same wherever they lie.
    same = source == data.source and place == data_place(data)
    if same and fraction != data.public_fraction:
        raise GeneratorError(
            f"generator.path {str(folder)!r} was trained on {100 * fraction:g} % of {source}; with "
            f"data.public-fraction={data.public_fraction:g} clients and tests would hold some of "
            f"that (set data.public-fraction={fraction:g})"
        )


def data_place(data: DataConfig) -> str:
    """Return what tells a folder or hub data set from others of its kind; '' for named sources."""
    if not SOURCES[data.source].placed:
        return ""
    path = Path(data.path).expanduser()
    return str(path.resolve()) if path.exists() else data.path


def check_concepts(path: str, concepts: Sequence[str]) -> None:
    """Refuse classes that a generator is known not to know: it would draw something else.

    Only the bundled one says what it knows: digits.

    Args:
        path: ``generator.path``.
        concepts: what each class shows ('the digit three'), ``(C,)``.

    Raises:
        GeneratorError: the bundled generator does not know some of ``concepts``.
    """
    if path != BUNDLED or os.environ.get(ENVIRONMENT):  # an override may be another generator
        return
    unknown = [each for each in concepts if not set(each.lower().split()) & set(DIGIT_WORDS)]
    if unknown:
        shown = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise GeneratorError(
            f"generator.path='bundled' knows the ten digits only, not {shown} (give generator.path "
            "a text-to-image checkpoint, a diffusers folder or hub id, or take a method that "
            "generates nothing, such as method='fedavg')"
        )
