"""The denoiser of a checkpoint, its class and its tensors' shapes, without loading it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from regl_app.core.errors import GeneratorError
from regl_app.core.unread_weights import why_unread
from regl_app.generator.checkpoint import configs_of
from regl_app.generator.families.registry import FAMILIES, PARTS
from regl_app.generator.pipeline_config import part_config
from regl_app.generator.weight_files import weights_read


def denoiser_class(checkpoint: Path) -> tuple[str, str]:
    """Return the denoiser's part of the pipeline and its class, a key of ``FAMILIES``.

    Raises:
        GeneratorError: it is of no known family.
    """
    folder = configs_of(checkpoint)
    names = {part: str(part_config(folder, part).get("_class_name", "")) for part in PARTS}
    for part, name in names.items():
        if name in FAMILIES:
            return part, name
    what = f"generator.path {str(checkpoint)!r}"
    if not any(names.values()):
        raise GeneratorError(
            f"{what} has no safetensors of a denoiser: no {' and no '.join(PARTS)}"
        )
    raise GeneratorError(f"{what} has a denoiser of none of {', '.join(FAMILIES)}")


def denoiser_shapes(checkpoint: Path) -> Mapping[str, list[int]]:
    """Return the shapes of the denoiser's tensors, by diffusers' names.

    Of a folder they are read off the heads of its files. A single file has other names: there the
    denoiser is put together from its config, without weights.

    Raises:
        GeneratorError: it has no readable safetensors, or is of no known family.
    """
    part, name = denoiser_class(checkpoint)
    if checkpoint.is_dir():
        return _shapes(checkpoint, part)
    import diffusers

    with torch.device("meta"):
        denoiser = getattr(diffusers, name).from_config(part_config(configs_of(checkpoint), part))
    return {key: list(value.shape) for key, value in denoiser.state_dict().items()}


def _shapes(folder: Path, part: str) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = {}
    for file in weights_read(folder, part):
        try:
            with safe_open(file, "np") as content:
                names = content.keys()
                found |= {name: content.get_slice(name).get_shape() for name in names}
        except (MemoryError, OSError, SafetensorError) as error:
            raise GeneratorError(
                f"the denoiser of {str(folder)!r} cannot be read: {file.name}: "
                f"{why_unread(file, error)}"
            ) from error
    if not found:
        raise GeneratorError(f"the denoiser of {str(folder)!r} has no safetensors")
    return found
