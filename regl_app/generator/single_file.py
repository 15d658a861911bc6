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
from regl_app.core.unread_weights import why_unread
from regl_app.generator.file_kinds import seems_to_be
from regl_app.generator.hub_checkpoint import HubId, fetch_configs
from regl_app.generator.prediction import EPSILON, Told, check_prediction, told_by
from regl_app.generator.weight_files import INDEX

if TYPE_CHECKING:
    import torch

SUFFIX = ".safetensors"
_SD2, _SD2_BASE = "stabilityai/stable-diffusion-2-1", "stabilityai/stable-diffusion-2-1-base"
"""What diffusers takes every Stable Diffusion 2 for, and what half of them are."""


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
    shapes, told = _head(file)
    if beside := config_beside(file):
        check_prediction(file, beside, told, f"in {str(beside)!r}")
        return beside
    origin = _origin(shapes)
    if origin == _SD2:
        origin = _which_sd2(file, told)
    try:
        found = fetch_configs(HubId(origin), fetch=fetch)
    except GeneratorError as error:
        raise GeneratorError(
            f"generator.path {str(file)!r} holds weights alone, of {origin!r} as diffusers has it, "
            f"and that one's configs are not to be had ({error}). {_beside(file, origin)}"
        ) from error
    check_prediction(file, found, told, f"of {origin!r}. {_beside(file, origin)}, and there")
    return found


def _beside(file: Path, origin: str) -> str:
    kinds = " ".join(f"--include '{kind}'" for kind in ("*.json", "*.txt", "*.model"))
    return (
        f"Put them beside it: the folder {str(file.with_suffix(''))!r} with {INDEX} and each "
        f"part's config (hf download {origin} {kinds} --local-dir {file.with_suffix('').name})"
    )


def _which_sd2(file: Path, told: Told) -> str:
    """Return which pipeline a file of Stable Diffusion 2 is of: tensors alone do not tell."""
    if not told.prediction:
        raise GeneratorError(
            f"generator.path {str(file)!r} is a Stable Diffusion 2, and nothing in it says whether "
            f"it predicts noise or v (2-base, 2-1-base: 'epsilon'; 2, 2-1: 'v_prediction'). "
            f"{_beside(file, _SD2)}, and there prediction_type in scheduler/scheduler_config.json "
            f"and sample_size in unet/config.json as its author says (those of {_SD2_BASE} for a "
            "base one)"
        )
    return _SD2_BASE if told.prediction == EPSILON else _SD2


def _head(file: Path) -> tuple[dict[str, torch.Tensor], Told]:
    """Return tensors without content, by name, and what it tells of itself: its head is read."""
    import torch  # the digest of a generator is asked for by what needs no torch

    try:
        with safe_open(file, "np") as content:
            names = content.keys()
            shapes = {name: content.get_slice(name).get_shape() for name in names}
            told = told_by(names, content.metadata() or {})
    except (MemoryError, OSError, SafetensorError) as error:
        raise GeneratorError(
            f"generator.path {str(file)!r} cannot be read as safetensors: {why_unread(file, error)}"
        ) from error
    if any("lora" in name for name in shapes):
        raise GeneratorError(
            f"generator.path {str(file)!r} is a LoRA, which only changes another checkpoint (give "
            "that one)"
        )
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    if kind := seems_to_be(tensors):
        raise GeneratorError(
            f"generator.path {str(file)!r} has no denoiser: it seems to be {kind} (give the "
            "checkpoint that it goes with, or that it is a part of)"
        )
    return tensors, told


def _origin(shapes: dict[str, torch.Tensor]) -> str:
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    return str(fetch_diffusers_config(shapes)["pretrained_model_name_or_path"])
