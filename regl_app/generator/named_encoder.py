"""The image encoder that ``generator.image-encoder`` names, with its own preprocessing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from regl_app.core.errors import GeneratorError
from regl_app.core.log import logger
from regl_app.core.making_modules import MAKING_MODULES
from regl_app.core.unread_weights import LIFT_LIMIT, UNREAD, is_out_of_addresses, why_unread
from regl_app.data.resize import fit
from regl_app.generator.encoder_files import (
    CONFIG,
    KEY,
    PREPROCESSOR,
    encoder_variant,
    encoder_weights,
    image_encoder_digest,
    resolve_image_encoder,
)
from regl_app.generator.hub_checkpoint import first_line
from regl_app.generator.image_encoder import Features, bring, vectors_of
from regl_app.generator.quiet import quiet

_PROJECTION = "visual_projection.weight"
_KNOWN = "CLIP's, SigLIP's, DINOv2's"


@dataclass(frozen=True)
class NamedEncoder:
    """An image encoder in a folder or at the hub; between uses no memory holds it.

    Args:
        path: as ``generator.image-encoder`` says it.
        digest: of the files that it must be of, by which caches know what it makes.
    """

    path: str
    digest: str

    @contextmanager
    def on(self, device: torch.device) -> Iterator[Features]:
        """Have it loaded, on ``device``, for a while.

        Raises:
            GeneratorError: it cannot be loaded, is no longer the one of the digest, or makes
                something else than one vector a picture.
            WeightsTooLargeError: it does not fit into the device's memory.
        """
        folder = resolve_image_encoder(self.path)
        if image_encoder_digest(folder) != self.digest:
            raise GeneratorError(
                f"{KEY}={self.path!r}: its files were replaced in the midst of a run (start the "
                "run again, or put the former ones back)"
            )
        model, processor = load_encoder(folder, self.path)
        bring(model, device, f"{KEY}={self.path!r}", f"take a smaller one for {KEY}")
        logger.info("image encoder %s (%s) on %s", self.path, type(model).__name__, device)

        @torch.no_grad()
        def features(pictures: torch.Tensor) -> torch.Tensor:
            coloured = fit(pictures, (3, *pictures.shape[2:]))
            pixels = processor(list(coloured), return_tensors="pt")["pixel_values"]
            return _checked(vectors_of(model(pixel_values=pixels.to(device))), self.path)

        yield features


def check_image_encoder(path: str, *, fetch: bool = True) -> Path:
    """Return the folder of an image encoder that could be loaded as one; no weights are read.

    Args:
        path: as ``generator.image-encoder`` says it.
        fetch: whether what is not in the hub's cache may be fetched.

    Raises:
        GeneratorError: it cannot: says why, and what to do.
    """
    folder = resolve_image_encoder(path, fetch=fetch)
    with MAKING_MODULES, quiet():
        config = _config(folder, path)
        _kind(config, folder, path)
        _processor(config, folder, path)
    return folder


def load_encoder(folder: Path, path: str) -> tuple[Any, Any]:
    """Return model, in float32 on the processor, and image processor of what is in ``folder``.

    Raises:
        GeneratorError: they cannot be loaded, or weights that count are not there.
    """
    with MAKING_MODULES, quiet():
        config = _config(folder, path)
        kind = _kind(config, folder, path)
        processor = _processor(config, folder, path)
        try:
            model, report = kind.from_pretrained(
                folder,
                config=_of_pictures(config),
                variant=encoder_variant(folder),
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except (ValueError, LookupError, *UNREAD) as error:
            remedy = "is it whole, and of one piece? fetch it again"
            raise GeneratorError(
                f"{KEY} {path!r} cannot be loaded as {kind.__name__}: {first_line(error)} "
                f"({LIFT_LIMIT if is_out_of_addresses(error) else remedy})"
            ) from error
    if missing := sorted(report["missing_keys"]):
        raise GeneratorError(
            f"{KEY} {path!r} lacks {len(missing)} weights of {type(model).__name__}, such as "
            f"{missing[0]!r}: they would be random (take an encoder whose pooled features were "
            f"trained: {_KNOWN})"
        )
    return model.float().eval().requires_grad_(False), processor


def _config(folder: Path, path: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise GeneratorError(
            f"{KEY} {path!r}: its {CONFIG} is of no model that transformers knows: "
            f"{first_line(error)} (code that comes with a model is not run; take one of {_KNOWN})"
        ) from error


def _kind(config: Any, folder: Path, path: str) -> Any:
    """Return the class that reads pictures alone: of two-sided models their visual half.

    Raises:
        GeneratorError: there is none.
    """
    import transformers

    kind = config.model_type
    if kind in ("clip", "clip_vision_model"):
        projects = _PROJECTION in _weights_in(folder)
        name = "CLIPVisionModelWithProjection" if projects else "CLIPVisionModel"
        return getattr(transformers, name)
    if kind in ("siglip", "siglip_vision_model"):
        return transformers.SiglipVisionModel
    found = transformers.MODEL_MAPPING.get(type(config), None)
    if getattr(found, "main_input_name", "") != "pixel_values":
        raise GeneratorError(
            f"{KEY} {path!r} is a {kind!r}, which makes no features of pictures alone (take one of "
            f"{_KNOWN}, or another image encoder of transformers' AutoModel with a pooled output)"
        )
    return transformers.AutoModel


def _of_pictures(config: Any) -> Any:
    """Return the config of a two-sided model's visual half; others as they are."""
    if config.model_type not in ("clip", "siglip"):
        return config
    half = config.vision_config
    if config.model_type == "clip":
        half.projection_dim = config.projection_dim  # what counts of the two
    return half


def _processor(config: Any, folder: Path, path: str) -> Any:
    """Return the folder's image processor; of a CLIP without one, CLIP's for its image size.

    So diffusers has it for the encoders of IP-Adapters, which have none.

    Raises:
        GeneratorError: there is none, or it cannot be read.
    """
    from transformers import AutoImageProcessor, CLIPImageProcessor

    if not (folder / PREPROCESSOR).is_file():
        if config.model_type not in ("clip", "clip_vision_model"):
            raise GeneratorError(
                f"{KEY} {path!r} holds no {PREPROCESSOR}: how a {config.model_type!r} is shown "
                "pictures is not known (fetch that file too)"
            )
        side = int(_of_pictures(config).image_size)
        return CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        )
    try:
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, use_fast=True)
    except (OSError, ValueError, LookupError, TypeError, ImportError) as error:
        raise GeneratorError(
            f"{KEY} {path!r}: its {PREPROCESSOR} is of no use: {first_line(error)} (fetch it again)"
        ) from error


def _weights_in(folder: Path) -> set[str]:
    """Return the names of all tensors of an encoder.

    Raises:
        GeneratorError: a file cannot be read.
    """
    names: set[str] = set()
    for file in encoder_weights(folder):
        try:
            with safe_open(file, "np") as content:
                names.update(content.keys())
        except (MemoryError, OSError, SafetensorError) as error:
            raise GeneratorError(
                f"{KEY}: {str(file)!r} cannot be read: {why_unread(file, error)}"
            ) from error
    return names


def _checked(vectors: torch.Tensor, path: str) -> torch.Tensor:
    """Return ``vectors`` as ``(N, F)``, if that is what they are.

    Raises:
        GeneratorError: they are not, or not finite.
    """
    flat = vectors.flatten(1)  # convolutional nets pool to (N, F, 1, 1)
    if flat.shape[1:].numel() != vectors.shape[1]:
        raise GeneratorError(
            f"{KEY} {path!r} makes {tuple(vectors.shape)} of {len(vectors)} pictures, not a vector "
            f"each (take one of {_KNOWN})"
        )
    if not bool(flat.isfinite().all()):
        raise GeneratorError(
            f"{KEY} {path!r} makes features that are not finite: its weights are damaged (fetch "
            "them again)"
        )
    return flat
