"""Find the weights that ship with the package, also from Flower's copy of the code.

A Flower app bundle carries code but no ``.safetensors``, and its copy of this package shadows the
installed one. So the checksums are code, and the weights are looked for in the installed
distribution.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from regl_app.core.errors import GeneratorError
from regl_app.core.files import sha256_file
from regl_app.generator.checksums import CHECKSUMS

ENVIRONMENT = "REGL_GENERATOR"

_DISTRIBUTION = "regl-app"
_FOLDER = Path("regl_app") / "generator" / "weights"
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_SUFFIXES = frozenset({".safetensors", ".json", ".txt"})


def bundled_path() -> Path:
    """Return the folder of the bundled pipeline, its files checked once per process.

    Looked for in ``$REGL_GENERATOR``, beside this file, and in the installed distribution.

    Raises:
        GeneratorError: it is nowhere, or a file is not the one this code was shipped with.
    """
    return _find(os.environ.get(ENVIRONMENT, ""))


@functools.lru_cache(maxsize=4)
def _find(override: str) -> Path:
    from regl_app.generator.families.registry import PARTS  # the rest of this module needs no torch

    here = Path(__file__).resolve().parent / "weights"
    candidates = [Path(override).expanduser()] if override else [here, *_installed()]
    for folder in candidates:
        if any((folder / part / _WEIGHTS).is_file() for part in PARTS):
            if not override:  # an override may be another generator
                verify(folder, CHECKSUMS)
            return folder
    raise GeneratorError(
        "the bundled generator's weights were not found in "
        f"{', '.join(str(folder) for folder in candidates)} (install the package into the "
        f"environment that runs the clients: pip install regl-app, or set {ENVIRONMENT} to a copy "
        "of regl_app/generator/weights)"
    )


def verify(folder: Path, expected: Mapping[str, str]) -> None:
    """Check the files of ``folder`` against their SHA-256 by relative name.

    Raises:
        GeneratorError: a file is absent or differs.
    """
    for name, digest in expected.items():
        file = folder / name
        if not file.is_file() or sha256_file(file) != digest:
            raise GeneratorError(
                f"{file} is {'damaged or of another version' if file.is_file() else 'absent'}: "
                "reinstall regl-app in the version of the code that runs"
            )


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every model file of a pipeline folder, by relative name."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in _SUFFIXES)
    return {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}


def _installed() -> Iterator[Path]:
    for distribution in importlib.metadata.distributions(name=_DISTRIBUTION):
        yield Path(str(distribution.locate_file(_FOLDER.as_posix())))
        # An editable installation leaves only a pointer to the source folder.
        pointer = distribution.read_text("direct_url.json")
        url = urlsplit(json.loads(pointer).get("url", "")) if pointer else None
        if url is not None and url.scheme == "file":
            yield Path(unquote(url.path)) / _FOLDER
