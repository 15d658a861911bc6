"""Where relative paths of a run point to, whatever Flower makes the working directory.

In a Flower simulation the app runs from an unpacked bundle, and Ray workers put their working
directory ahead of that bundle on ``sys.path``: started next to another app they would import that
app's ``client_app``. So both apps' packages call :func:`enter_bundle` when they are imported,
which happens before Ray starts; the directory left behind is what relative paths refer to.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from regl_app.config.choices import SOURCES
from regl_app.config.run_config import BUNDLED, RunConfig
from regl_app.config.supplement_sections import AS_NAMED, prompts_are_inside
from regl_app.core.errors import StorageError
from regl_app.core.log import logger
from regl_app.core.scratch import private_folder
from regl_app.core.start_dir import start_dir
from regl_app.core.types import Scalar


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return ``config`` with its local paths absolute; 'bundled' and hub ids stay as they are."""
    base = start_dir()
    changes: dict[str, Scalar] = {"out-dir": str(_absolute(base, config.out_dir))}
    if config.resume:
        changes["resume"] = str(_absolute(base, config.resume))
    if config.cache_dir:
        changes["cache-dir"] = str(_absolute(base, config.cache_dir))
    # A hub id looks like a relative path: it is one only if it exists.
    remote = SOURCES[config.data.source].remote
    if config.data.path and (not remote or _exists(base, config.data.path)):
        changes["data.path"] = str(_absolute(base, config.data.path))
    if config.generator.path != BUNDLED and _exists(base, config.generator.path):
        changes["generator.path"] = str(_absolute(base, config.generator.path))
    encoder = config.generator.named_image_encoder
    if encoder and _exists(base, encoder):
        changes["generator.image-encoder"] = str(_absolute(base, encoder))
    if config.generator.ip_adapter:
        changes["generator.ip-adapter"] = str(_absolute(base, config.generator.ip_adapter))
    if config.supplement.distance_file:
        changes["supplement.distance"] = str(_absolute(base, config.supplement.distance_file))
    prompts = config.generator.prompts
    if prompts not in ("", AS_NAMED) and not prompts_are_inside(prompts):
        changes["generator.prompts"] = str(_absolute(base, prompts))
    weights = config.model.weights
    if weights not in ("", "hub") and (weights.endswith(".safetensors") or _exists(base, weights)):
        changes["model.weights"] = str(_absolute(base, weights))
    if config.partition.file:
        changes["partition.file"] = str(_absolute(base, config.partition.file))
    return config.updated(changes)


def cache_dir(config: RunConfig) -> Path:
    """Return the folder of adapters and images that runs share: ``cache-dir`` or the user's.

    Where the user's cannot be written, as in containers without a home, it is one among the
    temporary files.

    Raises:
        StorageError: nor can that one be written.
    """
    if config.cache_dir:
        return _absolute(start_dir(), config.cache_dir)
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regl"
    except RuntimeError:  # a user without a home, as containers may have
        folder = Path("~/.cache/regl")
    if folder.is_absolute() and _may_be_written(folder):
        return folder
    instead = private_folder(f"regl-cache-{os.getuid()}")
    _tell_once(
        f"{folder} cannot be written: adapters and images are kept in {instead}, until that is "
        "cleared (set cache-dir or XDG_CACHE_HOME)"
    )
    return instead


def refuse_unwritable(config: RunConfig, *, keeps: bool) -> None:
    """Raise where a run on this machine could not write what it leaves, before anything starts.

    Args:
        config: the run.
        keeps: whether its objective keeps something at clients, which lies in the cache, too.

    Raises:
        StorageError: names the key, the folder and the remedy.
    """
    local = with_absolute_paths(config)
    folders = {"out-dir": local.out_dir}
    secret = config.tells_noisy_counts and not config.privacy.reproducible
    if config.needs_generator or config.data.local or keeps or secret:
        folders["cache-dir"] = local.cache_dir
    for key, folder in folders.items():
        if folder and not _may_be_written(Path(folder)):
            raise StorageError(
                f"{key}={folder!r} cannot be written (give another {key}, or this user "
                "rights there)"
            )


@functools.cache
def _tell_once(what: str) -> None:
    logger.warning("%s", what)


def _may_be_written(folder: Path) -> bool:
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _absolute(base: Path, path: str) -> Path:
    return base / Path(path).expanduser()


def _exists(base: Path, path: str) -> bool:
    try:
        return _absolute(base, path).exists()
    except PermissionError:  # it may: whoever reads it says by which key
        return True
