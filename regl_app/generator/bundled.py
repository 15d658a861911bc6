"""Find the weights that ship with the package, also from Flower's copy of the code.

A Flower app bundle carries ``.py`` and ``.json`` files but no ``.safetensors``, and its copy of
this package shadows the installed one. So the checksums travel beside the code, and the weights
are looked for in the installed distribution.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from regl_app.errors import GeneratorError
from regl_app.files import sha256_file, write_json

CHECKSUMS = "checksums.json"
ENVIRONMENT = "REGL_GENERATOR"
_DISTRIBUTION = "regl-app"
_FOLDER = Path("regl_app") / "generator" / "weights"
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
    here = Path(__file__).resolve().parent / "weights"
    candidates = [Path(override).expanduser()] if override else [here, *_installed()]
    for folder in candidates:
        if (folder / "unet" / "diffusion_pytorch_model.safetensors").is_file():
            # An override may be another generator: it answers for itself, not to this code.
            verify(folder, folder if override else here)
            return folder
    raise GeneratorError(
        "the bundled generator's weights were not found in "
        f"{', '.join(str(folder) for folder in candidates)} (install the package into the "
        f"environment that runs the clients: pip install regl-app, or set {ENVIRONMENT} to a copy "
        "of regl_app/generator/weights)"
    )


def verify(folder: Path, trusted: Path) -> None:
    """Check the files of ``folder`` against the checksums that lie in ``trusted``.

    Raises:
        GeneratorError: checksums are absent, or a file is absent or differs.
    """
    try:
        expected: dict[str, str] = json.loads((trusted / CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GeneratorError(
            f"{trusted / CHECKSUMS} cannot be read ({error}): reinstall regl-app"
        ) from error
    for name, digest in expected.items():
        file = folder / name
        if not file.is_file() or sha256_file(file) != digest:
            raise GeneratorError(
                f"{file} is {'damaged or of another version' if file.is_file() else 'absent'}: "
                "reinstall regl-app in the version of the code that runs"
            )


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of every model file of a pipeline folder into its ``checksums.json``."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in _SUFFIXES)
    digests = {
        file.relative_to(folder).as_posix(): sha256_file(file)
        for file in files
        if file.name != CHECKSUMS
    }
    write_json(folder / CHECKSUMS, digests)


def _installed() -> Iterator[Path]:
    for distribution in importlib.metadata.distributions(name=_DISTRIBUTION):
        yield Path(str(distribution.locate_file(_FOLDER.as_posix())))
        # An editable installation leaves only a pointer to the source folder.
        pointer = distribution.read_text("direct_url.json")
        url = urlsplit(json.loads(pointer).get("url", "")) if pointer else None
        if url is not None and url.scheme == "file":
            yield Path(unquote(url.path)) / _FOLDER
