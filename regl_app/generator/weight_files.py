"""Which files of a pipeline are read: its parts' safetensors, in one variant, and their configs.

Names follow diffusers: ``unet/diffusion_pytorch_model.safetensors``, for a variant
``unet/diffusion_pytorch_model.fp16.safetensors``, in shards
``text_encoder/model[.fp16]-00001-of-00002.safetensors``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from regl_app.core.errors import GeneratorError
from regl_app.core.unread_weights import is_pointer, why_unread

INDEX = "model_index.json"
"""In a pipeline's folder: its class and its parts."""
PICKLES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl"})
"""Endings of files that can only be read by unpickling, which runs what they hold."""

_CONTENT = frozenset({".safetensors", ".json", ".txt", ".model"})
_UNREAD = frozenset({"safety_checker"})  # pipelines are loaded without it
_WITH_WEIGHTS = re.compile(r"unet|transformer\w*|vae|\w*encoder\w*")
_WEIGHTS = re.compile(
    r"(diffusion_pytorch_model|model)(\.(?P<variant>\w+))?(-(?P<shard>\d{5})-of-(?P<shards>\d{5}))?"
    r"(\.(?P<old>\w+))?\.safetensors"
)
_SHARDS_OF_VARIANT = re.compile(r".*\.safetensors\.index\.(?P<variant>\w+)\.json")
_PREFERRED = ("fp32", "bf16", "fp16")


def read_index(folder: Path) -> dict[str, object]:
    """Return what the folder's model_index.json says.

    Raises:
        GeneratorError: it cannot be read.
    """
    path = folder / INDEX
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if path.is_file() and is_pointer(path):
            raise GeneratorError(f"{path} cannot be read: {why_unread(path, error)}") from error
        raise GeneratorError(f"{path} cannot be read ({error}): fetch it again") from error
    if not isinstance(content, dict):
        raise GeneratorError(f"{path} must hold an object, got {type(content).__name__}")
    return content


def parts_of(index: dict[str, object]) -> tuple[str, ...]:
    """Return the parts of a pipeline that are loaded, each the name of its folder."""
    return tuple(
        name
        for name, value in index.items()
        if isinstance(value, list) and all(value) and name not in _UNREAD and name[0] != "_"
    )


def names_in(folder: Path) -> list[str]:
    """Return the relative names of all files below ``folder``, also behind links, sorted."""
    return sorted(file.relative_to(folder).as_posix() for file in _files_below(folder, ()))


def _files_below(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """Yield all files below ``folder``; ``above``: which folders led there by links."""
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        yield from (file for name in names if (file := here / name).is_file())
        for link in (here / name for name in folders):
            if not link.is_symlink():
                continue
            # One that leads to where it lies in has no end. Two that lead to one folder have: a
            # part may be another's.
            way, target = (*above, here.resolve()), link.resolve()
            if not any(place.is_relative_to(target) for place in way):
                yield from _files_below(link, way)


def variant_of(names: Collection[str], parts: Iterable[str]) -> str | None:
    """Return the variant to load: None where every part has its weights in full precision.

    Else the one of the most precision that fills all gaps; some of ``names`` may be no weights.
    """
    gaps = [found for part in parts if (found := _variants(names, part)) and None not in found]
    common = {name for name in set[str | None]().union(*gaps) if all(name in gap for gap in gaps)}
    known = [name for name in _PREFERRED if name in common]
    rest = sorted(name for name in common if name is not None)
    return next(iter([*known, *rest]), None)


def files_read(names: Collection[str], parts: Iterable[str], variant: str | None) -> list[str]:
    """Return which of the files ``names`` the parts are loaded from, sorted; others never are."""
    read = [INDEX] if INDEX in names else []
    for part in parts:
        chosen = variant if variant in _variants(names, part) else None
        read += [name for name in _of_part(names, part) if _is_read(name, chosen)]
    return sorted(read)


def weights_read(folder: Path, part: str) -> list[Path]:
    """Return the safetensors files that ``part`` of the pipeline in ``folder`` is loaded from."""
    names, variant = _chosen(folder, part)
    read = files_read(names, [part], variant)
    return [folder / name for name in read if name.endswith(".safetensors")]


def part_variant(folder: Path, part: str) -> str | None:
    """Return the variant of those files; None: full precision, also where the part has no other."""
    names, variant = _chosen(folder, part)
    return variant if variant in _variants(names, part) else None


def _chosen(folder: Path, part: str) -> tuple[list[str], str | None]:
    """Return all files of the pipeline that ``part`` is of, and which variant of it is loaded."""
    names = names_in(folder)
    parts = parts_of(read_index(folder)) if INDEX in names else (part,)
    return names, variant_of(names, parts)


def cannot_load(folder: Path) -> str:
    """Return how what is said of a pipeline's folder that is refused begins."""
    return f"the generator in {str(folder)!r} cannot be loaded"


def check_weights(folder: Path) -> None:
    """Refuse a pipeline folder that has a part without safetensors, or not all of its shards.

    Parts whose folder is absent are the matter of ``check_parts``.

    Raises:
        GeneratorError: names the part, what it has instead, and the remedy.
    """
    names = names_in(folder)
    parts = parts_of(read_index(folder))
    variant = variant_of(names, parts)
    for part in parts:
        files = _of_part(names, part)
        if not files or not _WITH_WEIGHTS.fullmatch(part):
            continue
        found = [_match(name) for name in files_read(names, [part], variant)]
        weights = [match for match in found if match]
        if not weights:
            raise GeneratorError(f"{cannot_load(folder)}: {_no_weights(part, _pickles(files))}")
        shards = {match["shard"]: int(match["shards"]) for match in weights if match["shard"]}
        whole = any(not match["shard"] for match in weights)
        if shards and not whole and len(shards) < max(shards.values()):
            raise GeneratorError(
                f"{cannot_load(folder)}: its {part!r} has {len(shards)} of {max(shards.values())} "
                "shards (fetch the others too)"
            )


def check_no_pickle(folder: Path, part: str) -> None:
    """Refuse weights of ``part`` that are pickles alone; that it has none is no matter.

    Raises:
        GeneratorError: names one, and the remedy.
    """
    pickles = _pickles(_of_part(names_in(folder), part))
    if pickles and not weights_read(folder, part):
        raise GeneratorError(f"{cannot_load(folder)}: {_no_weights(part, pickles)}")


def _no_weights(part: str, pickles: list[str]) -> str:
    if not pickles:
        return f"its {part!r} has no safetensors weights (fetch all of the pipeline's files)"
    return (
        f"its {part!r} has no safetensors weights but {pickles[0]!r}, a pickle, which could run "
        "any code and is never read (take a checkpoint with safetensors, or where you trust the "
        "file convert it: load the pipeline in diffusers and call pipeline.save_pretrained(folder))"
    )


def _pickles(names: Iterable[str]) -> list[str]:
    return [name for name in names if PurePosixPath(name).suffix in PICKLES]


def _of_part(names: Collection[str], part: str) -> list[str]:
    """Return which of ``names`` lie in the folder of ``part``."""
    return [name for name in names if name.startswith(f"{part}/")]


def _match(name: str) -> re.Match[str] | None:
    return _WEIGHTS.fullmatch(PurePosixPath(name).name)


def _variants(names: Collection[str], part: str) -> set[str | None]:
    """Return the variants that ``part`` has weights in; None: full precision."""
    found = [match for name in _of_part(names, part) if (match := _match(name))]
    return {match["variant"] or match["old"] for match in found}


def _is_read(name: str, variant: str | None) -> bool:
    path = PurePosixPath(name)
    if path.suffix not in _CONTENT:
        return False
    if weights := _match(name):
        return (weights["variant"] or weights["old"]) == variant
    if shards := _SHARDS_OF_VARIANT.fullmatch(path.name):
        return bool(shards["variant"] == variant)
    return True
