"""Load a pipeline as diffusers has it: from a folder, in the variant it has, or from one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import safe_open

from regl_app.core.errors import GeneratorError
from regl_app.generator.needed_parts import left_out
from regl_app.generator.pipeline_config import text_to_image_class
from regl_app.generator.single_file import config_beside, config_folder
from regl_app.generator.weight_files import names_in, parts_of, read_index, variant_of
from regl_app.generator.whole_parts import check_whole, load_whole, transformers_parts

_THEIR_OWN: Mapping[str, torch.dtype] = MappingProxyType({})


def load_pipeline(checkpoint: Path, types: Mapping[str, torch.dtype] = _THEIR_OWN) -> Any:
    """Return the text-to-image pipeline in a folder, or in a file of all its weights.

    Safetensors alone are read, and nothing but this machine's files.

    Args:
        checkpoint: what ``resolve_generator`` returned.
        types: of the parts of a folder, by name, 'default' of those without; empty: the library's
            choice, as for a single file.

    Raises:
        GeneratorError: it is of no text-to-image kind, or of one that diffusers does not read from
            one file, or lacks weights.
        Exception: what diffusers raises where weights and configs do not fit.
    """
    import diffusers

    folder = checkpoint if checkpoint.is_dir() else config_folder(checkpoint)
    kind = getattr(diffusers, text_to_image_class(folder))
    if checkpoint.is_dir():
        pipeline = _from_folder(kind, folder, types)
    elif hasattr(kind, "from_single_file"):
        pipeline = _from_single_file(kind, checkpoint, folder)
    else:
        raise GeneratorError(
            f"generator.path {str(checkpoint)!r}: a {kind.__name__} cannot be read from one file "
            "(give the pipeline's folder, as written by pipeline.save_pretrained(folder))"
        )
    check_whole(checkpoint, pipeline.components)
    return pipeline


def _from_folder(kind: Any, folder: Path, types: Mapping[str, torch.dtype]) -> Any:
    names, parts = names_in(folder), parts_of(read_index(folder))
    return kind.from_pretrained(
        folder,
        variant=variant_of(names, parts),
        use_safetensors=True,
        safety_checker=None,
        local_files_only=True,
        **({"dtype": dict(types)} if types else {}),
        **dict.fromkeys(left_out(folder)),  # diffusers asks that they be named
        **load_whole(transformers_parts(kind, folder), folder, types),
    )


def _from_single_file(kind: Any, file: Path, folder: Path) -> Any:
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    try:
        return kind.from_single_file(
            str(file), config=str(folder), local_files_only=True, **_beside(kind, file, folder)
        )
    except NotImplementedError as error:  # what stayed empty cannot be moved
        raise GeneratorError(_lacks_weights(file, folder)) from error
    except SingleFileComponentError as error:
        raise GeneratorError(
            f"generator.path {str(file)!r} lacks a part that {str(folder)!r} names: "
            f"{str(error).splitlines()[0]} (give the whole checkpoint, or lay that part's weights "
            f"into that folder)"
        ) from error


def _beside(kind: Any, file: Path, folder: Path) -> dict[str, Any]:
    """Return the parts that ``file`` lacks and whose weights were laid into the folder beside it.

    Of the hub's pipeline none is taken: its weights count in no digest.
    """
    from diffusers.loaders.single_file_utils import (
        is_clip_model_in_single_file,
        is_t5_in_single_file,
    )

    if folder != config_beside(file):
        return {}
    with safe_open(file, "np") as content:
        names = set(content.keys())
    lacked = {
        part: model
        for part, model in transformers_parts(kind, folder).items()
        if not (
            is_t5_in_single_file(names)
            if "T5" in model.__name__
            else is_clip_model_in_single_file(model, names)
        )
    }
    return load_whole(lacked, folder, {}, file)


def _lacks_weights(file: Path, folder: Path) -> str:
    return (
        f"generator.path {str(file)!r} lacks weights that the configs in {str(folder)!r} describe "
        "(is it of another kind, or cut off?)"
    )
