"""Where the files of ``generator.image-encoder`` are, and their digest: its name in every cache.

A folder as transformers writes it: ``config.json``, ``preprocessor_config.json`` and
``model.safetensors``, in a variant or in shards, or a hub id of such a folder.
"""

from __future__ import annotations

import functools
import glob
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from regl_app.core.errors import GeneratorError
from regl_app.core.near_names import near_path
from regl_app.generator.hub_checkpoint import (
    UNKNOWN,
    HubId,
    Wanted,
    cached_or_fetched,
    commit_of,
    names_at_hub,
    snapshot,
)
from regl_app.generator.kept_digests import digest_of
from regl_app.generator.weight_files import PICKLES, files_read, variant_of

KEY = "generator.image-encoder"
CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"

_WANTED = Wanted(KEY, CONFIG)
_PART = "encoder"
_SAFETENSORS = ".safetensors"
_SHARD = re.compile(r".*-\d{5}-of-(?P<shards>\d{5})\b.*\.safetensors")
_WEIGHTS = re.compile(r"model[.-].*\bsafetensors\b.*")  # not open_clip's, which lie beside them


def resolve_image_encoder(path: str, *, fetch: bool = True) -> Path:
    """Return the folder of an image encoder: ``path`` itself, or of a hub id in the hub's cache.

    Args:
        path: a folder, or 'owner/name[@revision]'.
        fetch: whether what is not in the cache may be fetched.

    Raises:
        GeneratorError: there is nothing there, no safetensors or not all of them, or the hub cannot
            be reached.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        found = place.resolve()
        check_files(found, path)
        return found
    hub_id = HubId.parse(path)
    if hub_id is None or place.is_absolute() or place.is_file() or path[0] in ".~":
        near = near_path(path)
        raise GeneratorError(
            f"{KEY} {path!r} is no folder (give 'auto', the folder of a transformers image encoder "
            "with config.json and model.safetensors, or its hub id, 'owner/name' or "
            f"'owner/name@revision'{near and f'; {near}'})"
        )
    check = functools.partial(check_files, path=path)
    return cached_or_fetched(hub_id, _WANTED, _download, check, fetch=fetch)


def check_files(folder: Path, path: str) -> None:
    """Refuse a folder that lacks its config, or safetensors, or some shards of them.

    Args:
        folder: the encoder's.
        path: as the key says it, for the error.

    Raises:
        GeneratorError: names what is absent, what is there in its place, and the remedy.
    """
    names = _names_in(folder)
    if CONFIG not in names:
        parts = sorted(name.partition("/")[0] for name in names if name.endswith(f"/{CONFIG}"))
        inner = f"; its encoder may be {str(folder / parts[0])!r}" if parts else ""
        raise GeneratorError(
            f"{KEY} {path!r} holds no {CONFIG}: it must be a transformers model folder, as written "
            f"by model.save_pretrained(folder){inner}"
        )
    weights = [name for name in _read(names) if name.endswith(_SAFETENSORS)]
    if not weights:
        pickles = sorted(name for name in names if PurePosixPath(name).suffix in PICKLES)
        instead = (
            f" but {pickles[0]!r}, a pickle, which could run any code and is never read (take one "
            "with safetensors, or where you trust the file convert it: load the model in "
            "transformers and call model.save_pretrained(folder))"
            if pickles
            else " (fetch all of its files)"
        )
        raise GeneratorError(f"{KEY} {path!r} has no safetensors weights{instead}")
    shards = [match for name in weights if (match := _SHARD.fullmatch(name))]
    most = max((int(match["shards"]) for match in shards), default=0)
    if len(shards) == len(weights) < most:
        raise GeneratorError(
            f"{KEY} {path!r} has {len(shards)} of {most} shards (fetch the others too)"
        )


def encoder_variant(folder: Path) -> str | None:
    """Return the variant in which an encoder's weights are read; None: full precision."""
    return variant_of([f"{_PART}/{name}" for name in _names_in(folder)], [_PART])


def encoder_weights(folder: Path) -> list[Path]:
    """Return the safetensors files that an encoder is loaded from."""
    return [folder / name for name in _read(_names_in(folder)) if name.endswith(_SAFETENSORS)]


def image_encoder_digest(folder: Path, kept: Path | None = None) -> str:
    """Return the hex digest of the files that an encoder is loaded from.

    Args:
        folder: what ``resolve_image_encoder`` returned.
        kept: as for ``generator_digest``.
    """
    files = (folder / name for name in _read(_names_in(folder)))
    return digest_of(((file.name, file) for file in files), kept)


def image_encoder_identity(path: str, kept: Path | None = None) -> str:
    """Return what tells an image encoder from others, or 'unknown': as ``generator_identity``."""
    try:
        if Path(path).expanduser().is_dir():
            return image_encoder_digest(resolve_image_encoder(path), kept)
        hub_id = HubId.parse(path)
        return f"{hub_id.repository}@{commit_of(hub_id, _WANTED)}" if hub_id else UNKNOWN
    except GeneratorError:
        return UNKNOWN


def _names_in(folder: Path) -> list[str]:
    """Return the names of the files in ``folder``, and of those in its own folders."""
    return sorted(
        file.relative_to(folder).as_posix()
        for pattern in ("*", "*/*")
        for file in folder.glob(pattern)
        if file.is_file()
    )


def _read(names: Collection[str]) -> list[str]:
    """Return which of the files ``names`` of a repository an encoder is loaded from, sorted."""
    placed = [f"{_PART}/{name}" for name in names if "/" not in name]
    chosen = files_read(placed, [_PART], variant_of(placed, [_PART]))
    read = [name.removeprefix(f"{_PART}/") for name in chosen]
    return [each for each in read if each in (CONFIG, PREPROCESSOR) or _WEIGHTS.fullmatch(each)]


def _download(hub_id: HubId) -> Path:
    names = names_at_hub(hub_id)
    if CONFIG not in names:
        inner = sorted(name.rpartition("/")[0] for name in names if name.endswith(f"/{CONFIG}"))
        raise GeneratorError(
            f"{KEY} {str(hub_id)!r} holds no {CONFIG}: it must be a transformers model"
            + (
                f" (fetch its folder: {hub_id.download} --include "
                f"'{inner[0]}/*' --local-dir FOLDER, and give FOLDER/{inner[0]})"
                if inner
                else ""
            )
        )
    folder = snapshot(hub_id, map(glob.escape, _read(names)))
    check_files(folder, str(hub_id))
    return folder
