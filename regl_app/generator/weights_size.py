"""How much memory a checkpoint's weights take, read off the headers of its files."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import SafetensorError, safe_open

from regl_app.core.errors import GeneratorError
from regl_app.generator.families.registry import PARTS

_BYTES = 4
"""Of a weight in float32, as which denoiser and VAE are loaded, whatever their files have."""


def weights_in_memory(folder: Path) -> int:
    """Return the bytes of a pipeline's denoiser and VAE once loaded.

    Text encoders are not counted: they are freed when the prompts are encoded.

    Raises:
        GeneratorError: a file cannot be read.
    """
    total = 0
    for part in (*PARTS, "vae"):
        for file in sorted((folder / part).glob("*.safetensors")):
            try:
                with safe_open(file, "pt") as content:
                    names = content.keys()
                    shapes = [content.get_slice(name).get_shape() for name in names]
            except (OSError, SafetensorError) as error:
                raise GeneratorError(
                    f"the generator's {str(file)!r} cannot be read: {error}"
                ) from error
            total += sum(math.prod(shape) for shape in shapes) * _BYTES
    return total
