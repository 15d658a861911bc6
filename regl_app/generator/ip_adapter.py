"""The file of ``generator.ip-adapter``: what it is for, told by its head, and its tensors.

Official files, such as ``ip-adapter_sd15.safetensors``, hold ``image_proj.<layer>`` and, for each
cross-attention layer of a UNet, ``ip_adapter.<n>.to_k_ip.weight`` and ``.to_v_ip.weight``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from regl_app.core.errors import GeneratorError
from regl_app.core.readable import readable
from regl_app.core.unread_weights import UNREAD, why_unread
from regl_app.generator.denoiser_shapes import denoiser_class, denoiser_shapes
from regl_app.generator.encoder_files import encoder_weights
from regl_app.generator.hub_checkpoint import UNKNOWN
from regl_app.generator.kept_digests import kept_digest
from regl_app.generator.weight_files import PICKLES

KEY = "generator.ip-adapter"

_PROJECTION, _KEYS = "image_proj.", "ip_adapter."
_OTHERS: Mapping[str, str] = {
    "latents": "a 'plus' one, which is shown every patch of a picture",
    "perceiver_resampler.proj_in.weight": "a 'FaceID plus' one, which is shown faces",
    "proj.3.weight": "a 'full face' one, which is shown every patch of a picture",
    "proj.0.weight": "a 'FaceID' one, which is shown faces",
}
_FIT = "SD 1.5: ip-adapter_sd15.safetensors, XL: ip-adapter_sdxl_vit-h.safetensors"
Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class IpAdapter:
    """An IP-Adapter's file and its digest; ``features`` is how many numbers a picture it takes."""

    file: Path
    digest: str
    features: int

    @classmethod
    def of(cls, path: str) -> Self:
        """Return the adapter in the file at ``path``, whose head alone is read.

        Raises:
            GeneratorError: there is none that can be used.
        """
        file = _file(path)
        shapes = _shapes(file)
        _check_kind(shapes, path)
        return cls(file, kept_digest(file, None), int(shapes[f"{_PROJECTION}proj.weight"][1]))

    def read(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return its tensors as ``load_ip_adapter`` takes them.

        Raises:
            GeneratorError: they cannot be read, are not finite, or the file is no longer the same.
        """
        try:
            tensors = load_file(self.file)
        except UNREAD as error:
            raise GeneratorError(
                f"{KEY} {str(self.file)!r} cannot be read: {why_unread(self.file, error)}"
            ) from error
        if kept_digest(self.file, None) != self.digest:
            raise GeneratorError(
                f"{KEY} {str(self.file)!r} was replaced in the midst of a run (start the run "
                "again, or put the former one back)"
            )
        if not all(bool(each.isfinite().all()) for each in tensors.values()):
            raise GeneratorError(f"{KEY} {str(self.file)!r} is not finite (fetch it again)")
        return {
            part.removesuffix("."): {
                name.removeprefix(part): each
                for name, each in tensors.items()
                if name.startswith(part)
            }
            for part in (_PROJECTION, _KEYS)
        }


def ip_adapter_identity(path: str) -> str:
    """Return the digest of an IP-Adapter's file, or 'unknown'."""
    try:
        return IpAdapter.of(path).digest
    except GeneratorError:
        return UNKNOWN


def check_ip_adapter(path: str, checkpoint: Path, encoder: Path) -> None:
    """Refuse an IP-Adapter that was not made for a checkpoint and an image encoder.

    Args:
        path: as ``generator.ip-adapter`` says it.
        checkpoint: what ``resolve_generator`` returned.
        encoder: what ``resolve_image_encoder`` returned.

    Raises:
        GeneratorError: says what it is for, what is there, and the remedy.
    """
    adapter = IpAdapter.of(path)
    part, name = denoiser_class(checkpoint)
    if part != "unet":
        raise GeneratorError(
            f"{KEY} {path!r} is for a UNet, of Stable Diffusion 1, 2 or XL, and generator.path "
            f"{str(checkpoint)!r} has a {name} (set generator.ip-adapter='')"
        )
    shapes = _shapes(adapter.file)
    theirs = _widths(shapes, re.compile(rf"{_KEYS}\d+\.to_k_ip\.weight"))
    ours = _widths(denoiser_shapes(checkpoint), re.compile(r".*\.attn2\.to_k\.weight"))
    if theirs != ours:
        raise GeneratorError(
            f"{KEY} {path!r} does not fit generator.path {str(checkpoint)!r}: it is for "
            f"{_told(theirs)}, the checkpoint has {_told(ours)} (take the one for its kind; {_FIT})"
        )
    seen = _projected(encoder)
    if seen != adapter.features:
        made = f"{seen} numbers" if seen else "no projected features"
        raise GeneratorError(
            f"{KEY} {path!r} is shown {adapter.features} numbers a picture, and "
            f"generator.image-encoder {str(encoder)!r} makes {made} (give the CLIP that it was "
            "trained with, such as the folder models/image_encoder beside ip-adapter_sd15)"
        )


def _file(path: str) -> Path:
    place = Path(path).expanduser()
    if place.suffix in PICKLES:
        raise GeneratorError(
            f"{KEY} {path!r} is a pickle, which could run any code and is never read (take the "
            ".safetensors file beside it)"
        )
    with readable(f"{KEY} {path!r}", GeneratorError):
        found = place.is_file()
    if not found or place.suffix != ".safetensors":
        raise GeneratorError(
            f"{KEY} {path!r} must be '' or a .safetensors file ({_FIT}; hf download OWNER/NAME "
            "FILE --local-dir FOLDER fetches one)"
        )
    return place.absolute()


def _shapes(file: Path) -> Shapes:
    try:
        with safe_open(file, "np") as content:
            return {name: content.get_slice(name).get_shape() for name in content.keys()}  # noqa: SIM118
    except (MemoryError, OSError, SafetensorError) as error:
        raise GeneratorError(
            f"{KEY} {str(file)!r} cannot be read: {why_unread(file, error)}"
        ) from error


def _check_kind(shapes: Shapes, path: str) -> None:
    projection = {n.removeprefix(_PROJECTION) for n in shapes if n.startswith(_PROJECTION)}
    if not projection or not any(name.startswith(_KEYS) for name in shapes):
        raise GeneratorError(
            f"{KEY} {path!r} is no IP-Adapter: it has no {_PROJECTION}* and {_KEYS}* ({_FIT})"
        )
    if len(shapes.get(f"{_PROJECTION}proj.weight", ())) == 2:
        return
    kind = next(
        (words for name, words in _OTHERS.items() if name in projection), "of no kind known"
    )
    raise GeneratorError(
        f"{KEY} {path!r} is {kind}: only plain ones are used, which are shown one vector a "
        f"picture ({_FIT})"
    )


def _widths(shapes: Shapes, names: re.Pattern[str]) -> list[tuple[int, ...]]:
    """Return the shapes of the layers of those ``names`` that make keys, sorted."""
    return sorted(tuple(shape) for name, shape in shapes.items() if names.fullmatch(name))


def _told(widths: Iterable[tuple[int, ...]]) -> str:
    layers = list(widths)
    texts = sorted({shape[1] for shape in layers})
    return f"{len(layers)} layers that listen to {' or '.join(map(str, texts)) or 'nothing'}"


def _projected(encoder: Path) -> int:
    """Return the length of a CLIP's projected features, 0 of what has none."""
    for file in encoder_weights(encoder):
        if shape := _shapes(file).get("visual_projection.weight"):
            return int(shape[0])
    return 0
