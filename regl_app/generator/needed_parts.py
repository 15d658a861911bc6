"""Which parts of a pipeline's folder have to be there, and whether each can be read at all."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from regl_app.core.errors import GeneratorError
from regl_app.generator.weight_files import names_in, parts_of, read_index

TOLD_BY_T5 = ("text_encoder_3", "tokenizer_3")
"""Parts that Stable Diffusion 3 can do without: their folders may be deleted."""
_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",))
_SENTENCEPIECE = ".model"
_TOKENIZER_CONFIG = "tokenizer_config.json"


def can_lack_t5(folder: Path) -> bool:
    """Return whether the pipeline in ``folder`` draws without ``TOLD_BY_T5`` as well."""
    return str(read_index(folder).get("_class_name", "")).startswith("StableDiffusion3")


def check_parts(folder: Path) -> None:
    """Refuse a pipeline's folder with a tokenizer that has no words, or takes texts of any length.

    Raises:
        GeneratorError: names the part, what it lacks, and the remedy.
    """
    names, index = names_in(folder), read_index(folder)
    without_t5 = can_lack_t5(folder) and not _below(names, TOLD_BY_T5[0])
    for part in parts_of(index):
        if part.startswith("tokenizer") and not (without_t5 and part in TOLD_BY_T5):
            _check_tokenizer(folder, part, index[part], _below(names, part))


def _check_tokenizer(folder: Path, part: str, kind: object, names: Collection[str]) -> None:
    found = any(name.endswith(_SENTENCEPIECE) for name in names)
    if not found and not any(set(names).issuperset(each) for each in _VOCABULARIES):
        raise GeneratorError(
            f"the generator in {str(folder)!r} cannot be loaded: its {part!r} has no vocabulary, "
            f"as {str(folder / part)!r} holds no tokenizer.json, no vocab.json with merges.txt and "
            "no SentencePiece .model (fetch that folder again, whole)"
        )
    # Without it a CLIP's texts have no end, and its pipelines pad to that.
    if "CLIP" in str(kind) and _TOKENIZER_CONFIG not in names:
        raise GeneratorError(
            f"the generator in {str(folder)!r} cannot be loaded: its {part!r} has no "
            f"{_TOKENIZER_CONFIG}, which says how long a text may be (fetch that folder again, "
            "whole)"
        )


def _below(names: Collection[str], part: str) -> list[str]:
    """Return which of ``names`` lie in the folder of ``part``, relative to that."""
    return [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
