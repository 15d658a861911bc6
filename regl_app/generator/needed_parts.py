"""Which parts of a pipeline's folder have to be there, and whether each can be read at all."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from regl_app.core.errors import GeneratorError
from regl_app.core.unread_weights import damage, is_pointer, why_unread
from regl_app.generator.weight_files import (
    INDEX,
    cannot_load,
    files_read,
    names_in,
    parts_of,
    read_index,
    variant_of,
)

_TOLD_BY_T5 = ("text_encoder_3", "tokenizer_3")
"""What Stable Diffusion 3 can do without: where the folders were deleted, it is told by CLIP."""
_OF_PICTURES = frozenset({"feature_extractor", "image_encoder"})
"""What reads pictures: nothing is drawn by it."""
_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",))
_SENTENCEPIECE = ".model"
_TOKENIZER_CONFIG = "tokenizer_config.json"


def left_out(folder: Path) -> list[str]:
    """Return the parts that are not in ``folder`` and that its pipeline can do without.

    Stable Diffusion 3's T5 is one whether model_index.json names it or not.

    Raises:
        GeneratorError: model_index.json cannot be read.
    """
    index, names = read_index(folder), names_in(folder)
    absent = {part for part in (*_OF_PICTURES, *_TOLD_BY_T5) if not _within(names, part)}
    spared = [part for part in parts_of(index) if part in _OF_PICTURES & absent]
    told_by_clip = str(index.get("_class_name", "")).startswith("StableDiffusion3")
    if told_by_clip and _TOLD_BY_T5[0] in absent:
        spared += [part for part in _TOLD_BY_T5 if part in absent]
    return spared


def absent_parts(folder: Path) -> list[str]:
    """Return the parts not in ``folder`` that model_index.json names, but for what reads pictures.

    Stable Diffusion 3's T5 among them: of a repository it is there, unless a download broke off.

    Raises:
        GeneratorError: model_index.json cannot be read.
    """
    named, names = parts_of(read_index(folder)), names_in(folder)
    return [part for part in named if part not in _OF_PICTURES and not _within(names, part)]


def check_parts(folder: Path) -> None:
    """Refuse a pipeline's folder that lacks a part, a part's config, or a tokenizer's words.

    Raises:
        GeneratorError: names the part, what it lacks, and the remedy.
    """
    index, names, spared = read_index(folder), names_in(folder), left_out(folder)
    parts = [part for part in parts_of(index) if part not in spared]
    if absent := [repr(part) for part in parts if not _within(names, part)]:
        raise GeneratorError(
            f"{cannot_load(folder)}: its {' and '.join(absent)}, which {INDEX} names, "
            f"{'is' if len(absent) == 1 else 'are'} missing (fetch it again, whole)"
        )
    for part in parts:
        if not part.startswith("tokenizer"):
            _check_config(folder, part)
        elif part.replace("tokenizer", "text_encoder") not in spared:
            _check_tokenizer(folder, part, index[part], _within(names, part))


def check_readable(folder: Path, *, weights: bool = True) -> None:
    """Refuse files of a pipeline's folder that stand for others, and weights that were cut.

    Args:
        folder: the pipeline's; what it is not loaded from may be as it likes.
        weights: whether all are read: of a folder beside a single file those are that it lacks.

    Raises:
        GeneratorError: names the file, what it is, and the remedy.
    """
    names, parts = names_in(folder), parts_of(read_index(folder))
    for name in files_read(names, parts, variant_of(names, parts)):
        file = folder / name
        if name.endswith(".safetensors"):
            problem = damage(file) if weights else ""
        else:
            problem = why_unread(file, "") if is_pointer(file) else ""
        if problem:
            raise GeneratorError(f"{cannot_load(folder)}: {str(file)!r} cannot be read: {problem}")


def _check_config(folder: Path, part: str) -> None:
    if part == "feature_extractor":
        return  # its config has several names, and what loads it says which
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    file, again = folder / part / name, " (fetch that folder again, whole)"
    problem = ""
    try:
        if not isinstance(json.loads(file.read_text(encoding="utf-8")), dict):
            problem = f"has a {name} that holds no object{again}"
    except FileNotFoundError:
        problem = f"has no {name}{again}"
    except PermissionError:
        raise  # told with its own remedy
    except OSError as error:
        problem = f"has a {name} that cannot be read: {error.strerror}{again}"
    except ValueError as error:
        problem = f"has a {name} that cannot be read: " + (
            why_unread(file, error) if is_pointer(file) else f"{error}{again}"
        )
    if problem:
        raise GeneratorError(f"{cannot_load(folder)}: its {part!r} {problem}")


def _check_tokenizer(folder: Path, part: str, kind: object, names: Collection[str]) -> None:
    found = any(name.endswith(_SENTENCEPIECE) for name in names)
    if not found and not any(set(names).issuperset(each) for each in _VOCABULARIES):
        raise GeneratorError(
            f"{cannot_load(folder)}: its {part!r} has no vocabulary, as {str(folder / part)!r} "
            "holds no tokenizer.json, no vocab.json with merges.txt and no SentencePiece .model "
            "(fetch that folder again, whole)"
        )
    # Without it a CLIP's texts have no end, and its pipelines pad to that.
    if "CLIP" in str(kind) and _TOKENIZER_CONFIG not in names:
        raise GeneratorError(
            f"{cannot_load(folder)}: its {part!r} has no {_TOKENIZER_CONFIG}, which says how long "
            "a text may be (fetch that folder again, whole)"
        )


def _within(names: Collection[str], part: str) -> list[str]:
    """Return those of ``names`` in the folder of ``part``, by their names within it."""
    return [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
