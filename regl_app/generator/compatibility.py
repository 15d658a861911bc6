"""Whether a generator and a federation fit together, as far as the generator tells."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regl_app.config import RunConfig
from regl_app.config.choices import SOURCES
from regl_app.config.run_config import BUNDLED
from regl_app.config.sections import DataConfig
from regl_app.config.supplement_sections import AS_NAMED
from regl_app.core.errors import GeneratorError
from regl_app.data.concepts import DIGIT_WORDS, Concept, phrasings
from regl_app.generator.bundled import ENVIRONMENT

if TYPE_CHECKING:
    from regl_app.data.source import Source

ORIGIN = "public.json"
"""In the generator's folder: which public part of which data set it was trained on."""
_DIGITS = re.compile(
    r"(q?mnist|mnistm|emnist(digits|mnist)|svhn(cropped|extra)?|usps"
    r"|(opt|pen|handwritten|synth|synthetic)?digits)"
    r"(png|jpe?g|images|dataset|data|train(ing)?|test(ing)?|original|784|28x28)*"
)
"""Data sets whose classes 0 to 9 are the digits, without separators."""


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


def check_source(config: RunConfig, source: Source) -> None:
    """Refuse classes that would be drawn as what they are not, or alike, whatever the generator.

    Args:
        config: the run.
        source: its data, with the concepts that prompts call its classes.

    Raises:
        GeneratorError: classes that are called by numbers alone may be no digits, two classes have
            one prompt, or the bundled generator does not know some.
    """
    _check_numbers(config, source)
    check_concepts(config.generator.path, source.concepts, source.class_names)


def _check_numbers(config: RunConfig, source: Source) -> None:
    names, data = source.class_names, config.data
    if config.generator.prompts or not all(re.fullmatch(r"-?\d+", name) for name in names):
        return
    place = SOURCES[data.source]
    if not (place.placed or place.local):  # a data set that is known to be of digits
        return
    # Who lists all ten for sites means digits; the name of a set may say so too.
    if place.local and sorted(names) == list("0123456789"):
        return
    if place.placed and _of_digits(source.name) and set(names) <= set("0123456789"):
        return
    raise GeneratorError(
        f"data.source={data.source!r} calls its classes by numbers alone, "
        f"{_shown([*names])}: what do they show? (set generator.prompts to a file that says it, "
        f'such as the JSON {{"{names[0]}": "a healthy leaf", "{names[1]}": "a rusty leaf"}}; to '
        f"{AS_NAMED!r} if they are digits)"
    )


def _of_digits(name: str) -> bool:
    """Return whether a data set of that name is one of digits, and none that is called after it."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return _DIGITS.fullmatch(plain) is not None


def check_concepts(
    path: str, concepts: Sequence[Concept], class_names: Sequence[str] | None = None
) -> None:
    """Refuse classes that a generator would draw alike, or that it is known not to know.

    Only the bundled one says what it knows: digits.

    Args:
        path: ``generator.path``.
        concepts: what each class shows ('the digit three'), ``(C,)``.
        class_names: the classes', for the error.

    Raises:
        GeneratorError: two classes are called the same, or the bundled generator does not know some
            of ``concepts``.
    """
    names = class_names or [f"number {label}" for label in range(len(concepts))]
    texts = [
        (name, text) for name, each in zip(names, concepts, strict=True) for text in phrasings(each)
    ]
    first: dict[str, str] = {}
    for name, text in texts:
        # Whether case counts is the text encoder's matter: T5 reads it, CLIP does not.
        other = first.setdefault(" ".join(text.split()), name)
        if other != name:
            raise GeneratorError(
                f"the classes {other!r} and {name!r} have one prompt, of {text!r}: the generator "
                "would draw the same for both (give each its own in a file, generator.prompts)"
            )
    if path != BUNDLED or os.environ.get(ENVIRONMENT):  # an override may be another generator
        return
    unknown = [text for _, text in texts if not set(text.lower().split()) & set(DIGIT_WORDS)]
    if unknown:
        raise GeneratorError(
            f"generator.path='bundled' knows the ten digits only, not {_shown(unknown)} (give "
            "generator.path "
            "a text-to-image checkpoint, a diffusers folder or hub id, or take a method that "
            "generates nothing, such as method='fedavg')"
        )


def _shown(texts: Sequence[str]) -> str:
    return ", ".join(map(repr, texts[:5])) + (", ..." if len(texts) > 5 else "")
