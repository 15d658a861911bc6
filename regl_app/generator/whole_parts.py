"""A pipeline's parts with every weight that they are made of: what no file has would be random.

Transformers draws such a weight anew at each load and only logs it; diffusers leaves it without
content.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from regl_app.core.errors import GeneratorError
from regl_app.generator.weight_files import (
    check_no_pickle,
    part_variant,
    parts_of,
    read_index,
    weights_read,
)


def transformers_parts(kind: Any, folder: Path) -> dict[str, Any]:
    """Return the classes of the parts that transformers loads, by name.

    Args:
        kind: the pipeline's class.
        folder: the pipeline's.

    Raises:
        GeneratorError: its model_index.json cannot be read.
    """
    import transformers

    index, taken = read_index(folder), inspect.signature(kind).parameters
    found = {}
    for part in (each for each in parts_of(index) if each in taken):
        told = index[part]
        if not isinstance(told, list) or len(told) != 2 or told[0] != "transformers":
            continue
        model = getattr(transformers, str(told[1]), None)
        if inspect.isclass(model) and issubclass(model, transformers.PreTrainedModel):
            found[part] = model
    return found


def load_whole(
    parts: Mapping[str, Any],
    folder: Path,
    types: Mapping[str, torch.dtype],
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Return those of ``parts`` that have weights in ``folder``, each with all of them.

    Args:
        parts: what ``transformers_parts`` returned.
        folder: the pipeline's.
        types: as for ``load_pipeline``.
        checkpoint: what errors name, where it is not the folder: the file that it lies beside.

    Raises:
        GeneratorError: one lacks weights, or has them in a pickle alone. Weights that are tied to
            others, and buffers that are computed, are not lacked.
        Exception: what transformers raises where weights and config do not fit.
    """
    found = {}
    for part, kind in parts.items():
        if not weights_read(folder, part):
            check_no_pickle(folder, part)
            continue  # diffusers' matter
        found[part], report = kind.from_pretrained(
            folder / part,
            dtype=types.get(part, types.get("default")),
            variant=part_variant(folder, part),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        lacked, instead = report["missing_keys"], report["unexpected_keys"]
        _refuse(checkpoint or folder, found[part], part, lacked, instead)
    return found


def check_whole(checkpoint: Path, parts: Mapping[str, Any]) -> None:
    """Refuse parts that have weights without content.

    Args:
        checkpoint: folder or file, for the error.
        parts: by name; what is no module is passed over.

    Raises:
        GeneratorError: one has.
    """
    for part, model in parts.items():
        if isinstance(model, torch.nn.Module):
            empty = [name for name, weight in model.named_parameters() if weight.is_meta]
            _refuse(checkpoint, model, part, empty)


def _refuse(
    checkpoint: Path,
    model: Any,
    part: str,
    lacked: Iterable[str],
    instead: Iterable[str] = (),
) -> None:
    lacked, instead = sorted(lacked), sorted(instead)
    if not lacked:
        return
    other = f"; of no use to it is {instead[0]!r}" if instead else ""
    raise GeneratorError(
        f"generator.path={str(checkpoint)!r}: its {part!r} lacks {len(lacked)} of the weights of "
        f"a {type(model).__name__}, such as {lacked[0]!r}{other}. What is lacked would be random "
        "(fetch the checkpoint again, whole; where a tool has its own names or configs of another "
        "kind are beside it, save it from there by diffusers' pipeline.save_pretrained(folder))"
    )
