"""Where a generator's files are, and their digest: the generator's identity for every cache."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from regl_app.core.errors import GeneratorError
from regl_app.core.files import sha256_file
from regl_app.generator.bundled import BUNDLED

_CONTENT = frozenset({".safetensors", ".json", ".txt", ".model"})


def resolve_generator(path: str, *, fetch: bool = True) -> Path:
    """Return the local folder of a diffusers pipeline: 'bundled', a folder, or a hub id.

    A hub id is fetched once, safetensors only, into the hub's own cache; without ``fetch`` it has
    to be there already.

    Raises:
        GeneratorError: there is no such folder, it is no pipeline, or the hub cannot be reached.
    """
    if path == BUNDLED:
        from regl_app.generator.bundled import bundled_path

        return bundled_path()
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise GeneratorError(
                f"generator.path {path!r} holds no model_index.json: it must be a diffusers "
                "pipeline folder, as written by pipeline.save_pretrained(folder)"
            )
        return folder.resolve()
    if folder.is_absolute() or path.count("/") != 1 or path.startswith((".", "~")):
        raise GeneratorError(
            f"generator.path {path!r} is no folder (give 'bundled', an existing pipeline folder, "
            "or a hub id such as 'owner/name')"
        )
    return _download(path, fetch)


@functools.lru_cache(maxsize=8)
def _download(hub_id: str, fetch: bool) -> Path:
    from diffusers import DiffusionPipeline

    try:
        return Path(
            DiffusionPipeline.download(hub_id, use_safetensors=True, local_files_only=not fetch)
        )
    except (OSError, ValueError) as error:
        raise GeneratorError(
            f"generator.path {hub_id!r} is no local folder and could not be fetched from the hub "
            f"({error}); download it elsewhere and give its folder"
        ) from error


def generator_digest(folder: Path) -> str:
    """Return the hex digest of a pipeline folder's weights and configuration files.

    Known without loading the pipeline, so a run whose images are all in the store never does.
    """
    files = sorted(
        (file.relative_to(folder).as_posix(), file)
        for file in folder.rglob("*")
        if file.suffix in _CONTENT and file.is_file()
    )
    states = tuple((name, *_stat(file)) for name, file in files)
    return _digest(folder, states)


def _stat(file: Path) -> tuple[int, int]:
    state = file.stat()
    return state.st_size, state.st_mtime_ns


def generator_identity(path: str) -> str:
    """Return the digest of the generator that ``path`` leads to on this machine, or 'unknown'.

    A server need not have the generator that its clients use.
    """
    try:
        return generator_digest(resolve_generator(path))
    except GeneratorError:
        return "unknown"


@functools.lru_cache(maxsize=8)
def _digest(folder: Path, states: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, _ in states:
        digest.update(f"{name}:{sha256_file(folder / name)}\n".encode())
    return digest.hexdigest()
