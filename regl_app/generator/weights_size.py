"""How much memory a checkpoint's weights take, read off the heads of its files."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import SafetensorError, safe_open

from regl_app.core.errors import GeneratorError
from regl_app.core.unread_weights import why_unread
from regl_app.generator.denoiser_shapes import denoiser_shapes
from regl_app.generator.weight_files import weights_read

_BYTES = 4
"""Of a weight in float32, whatever the files have."""


def weights_in_memory(checkpoint: Path) -> int:
    """Return the bytes of a checkpoint's denoiser and, of a folder, of its VAE, in float32.

    Text encoders are not counted: they are freed when the prompts are encoded.

    Raises:
        GeneratorError: a file cannot be read.
    """
    shapes = list(denoiser_shapes(checkpoint).values())
    if checkpoint.is_dir():
        for file in weights_read(checkpoint, "vae"):
            try:
                with safe_open(file, "np") as content:
                    names = content.keys()
                    shapes += [content.get_slice(name).get_shape() for name in names]
            except (MemoryError, OSError, SafetensorError) as error:
                raise GeneratorError(
                    f"{str(file)!r} cannot be read: {why_unread(file, error)}"
                ) from error
    return sum(math.prod(shape) for shape in shapes) * _BYTES
