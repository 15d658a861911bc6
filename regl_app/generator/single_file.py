"""A checkpoint that is one safetensors file, as UIs trade them: where its configs are.

The file holds weights alone. What they mean, and the tokenizers, is in a folder of the same name
beside it (``sd.safetensors`` and ``sd/``, a diffusers pipeline folder whose weights may be left
out), or in the pipeline at the hub that diffusers takes the file for by its tensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from regl_app.core.errors import GeneratorError
from regl_app.generator.hub_checkpoint import HubId, fetch_configs
from regl_app.generator.weight_files import INDEX

if TYPE_CHECKING:
    import torch

SUFFIX = ".safetensors"


def config_beside(file: Path) -> Path | None:
    """Return the folder of the configs that were laid beside the file; None: there is none."""
    folder = file.with_suffix("")
    return folder if (folder / INDEX).is_file() else None


def config_folder(file: Path, *, fetch: bool = True) -> Path:
    """Return the pipeline folder that says how ``file`` is read: beside it, or of the hub's cache.

    Args:
        file: of all of a pipeline's weights.
        fetch: whether the hub may be asked for configs that are not in its cache.

    Raises:
        GeneratorError: it is no such file, or its configs are nowhere.
    """
    shapes = _shapes(file)
    if beside := config_beside(file):
        return beside
    origin = _origin(shapes)
    try:
        return fetch_configs(HubId(origin), fetch=fetch)
    except GeneratorError as error:
        kinds = " ".join(f"--include '{kind}'" for kind in ("*.json", "*.txt", "*.model"))
        raise GeneratorError(
            f"generator.path {str(file)!r} holds weights alone, of {origin!r} as diffusers has it, "
            f"and that one's configs are not to be had ({error}). Put them beside it: the folder "
            f"{str(file.with_suffix(''))!r} with {INDEX} and each part's config (hf download "
            f"{origin} {kinds} --local-dir {file.with_suffix('').name})"
        ) from error


def _shapes(file: Path) -> dict[str, torch.Tensor]:
    """Return tensors without content, by name: nothing is read but the file's head."""
    import torch  # the digest of a generator is asked for by what needs no torch

    try:
        with safe_open(file, "pt") as content:
            names = content.keys()
            shapes = {name: content.get_slice(name).get_shape() for name in names}
    except (OSError, SafetensorError) as error:
        raise GeneratorError(
            f"generator.path {str(file)!r} cannot be read as safetensors: {error}"
        ) from error
    if any("lora" in name for name in shapes):
        raise GeneratorError(
            f"generator.path {str(file)!r} is a LoRA, which only changes another checkpoint (give "
            "that one)"
        )
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _origin(shapes: dict[str, torch.Tensor]) -> str:
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    return str(fetch_diffusers_config(shapes)["pretrained_model_name_or_path"])
