"""A checkpoint by its hub id: from the hub's cache on this machine first, else from the hub."""

from __future__ import annotations

import glob
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from regl_app.core.errors import GeneratorError
from regl_app.core.near_names import near_path
from regl_app.generator.needed_parts import absent_parts, check_parts
from regl_app.generator.pipeline_checks import check_configs, check_kind
from regl_app.generator.weight_files import (
    INDEX,
    check_weights,
    files_read,
    parts_of,
    read_index,
    variant_of,
)

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
UNKNOWN = "unknown"
"""What stands for the identity of a checkpoint that is not found."""
_SECONDS_TO_WAIT = 10.0
_SECONDS_UNTIL_ASKED_AGAIN = 60.0


class NotCachedError(GeneratorError):
    """A checkpoint is not on this machine, and nobody may ask the hub for it."""


@dataclass(frozen=True)
class HubId:
    """``owner/name``, at a branch, tag or commit if one is named: ``owner/name@revision``."""

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubId | None:
        """Return the hub id that ``text`` is, None if it is none."""
        match = _ID.fullmatch(text)
        return cls(match["repository"], match["revision"]) if match else None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository

    @property
    def download(self) -> str:
        """Return the hub's own command that fetches it."""
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"hf download {self.repository}{revision}"


@dataclass(frozen=True)
class Wanted:
    """What of a repository is wanted: for which key, and the file without which it is not there."""

    key: str
    index: str


PIPELINE = Wanted("generator.path", INDEX)

Answer = TypeVar("Answer")
Fetch = Callable[[HubId], Path]
Check = Callable[[Path], None]


def fetch_pipeline(hub_id: HubId, *, fetch: bool = True) -> Path:
    """Return the folder of a pipeline's safetensors and configs in the hub's cache.

    What is whole in the cache is used as it is, without asking the hub whether there is newer.

    Args:
        hub_id: the checkpoint's.
        fetch: whether the network may be used; an attempt that failed is not repeated for a minute.

    Raises:
        GeneratorError: it is not in the cache, and may not or cannot be fetched; says why and what
            to do.
    """
    return cached_or_fetched(hub_id, PIPELINE, _download_pipeline, _check_whole, fetch=fetch)


def fetch_configs(hub_id: HubId, *, fetch: bool = True) -> Path:
    """Return the folder of a pipeline's configs and tokenizers in the hub's cache; no weights.

    Raises:
        GeneratorError: as for ``fetch_pipeline``.
    """
    return cached_or_fetched(hub_id, PIPELINE, _download_configs, _check_parts, fetch=fetch)


def commit_of(hub_id: HubId, wanted: Wanted = PIPELINE) -> str:
    """Return the commit of a checkpoint: of what the cache holds of it, else as the hub says.

    Nothing is fetched: a few kilobytes are asked for, where it is not in the cache.

    Raises:
        GeneratorError: as for ``fetch_pipeline``.
    """
    folder = _cached(hub_id, wanted.index)
    return folder.name if folder is not None else _fetched(hub_id, _ask_commit, "", wanted.key)


def _ask_commit(hub_id: HubId) -> str:
    return str(_ask(hub_id).sha)


def cached_or_fetched(
    hub_id: HubId, wanted: Wanted, download: Fetch, check: Check, *, fetch: bool
) -> Path:
    """Return the folder of what is ``wanted`` in the hub's cache, by ``download`` if need be.

    Args:
        hub_id: the repository.
        wanted: what of it, for which key.
        download: brings it into the cache.
        check: raises a GeneratorError where a folder does not hold it whole.
        fetch: whether the network may be used.

    Raises:
        GeneratorError: as for ``fetch_pipeline``.
    """
    folder, lacking = _cached(hub_id, wanted.index), ""
    if folder is not None:
        try:
            check(folder)
        except GeneratorError as error:  # a download that was broken off
            lacking = f" ({error})"
        else:
            return folder
    if not fetch:
        raise NotCachedError(
            f"{wanted.key} {str(hub_id)!r} is not in this machine's hub cache{lacking}"
        )
    return _fetched(hub_id, download, lacking, wanted.key)


_failed: dict[tuple[HubId, str], tuple[float, str]] = {}


def _fetched(hub_id: HubId, download: Callable[[HubId], Answer], lacking: str, what: str) -> Answer:
    key = (hub_id, f"{what}: {download.__name__}")
    moment, before = _failed.get(key, (0.0, ""))
    if before and time.monotonic() - moment < _SECONDS_UNTIL_ASKED_AGAIN:
        raise GeneratorError(before)
    try:
        return _explained(hub_id, download, lacking, f"{what} {str(hub_id)!r}")
    except GeneratorError as error:
        _failed[key] = (time.monotonic(), str(error))
        raise


def _explained(
    hub_id: HubId, download: Callable[[HubId], Answer], lacking: str, what: str
) -> Answer:
    import httpx
    from huggingface_hub import errors

    near = near_path(str(hub_id))
    near = near and f" ({near})"
    try:
        return download(hub_id)
    except errors.GatedRepoError as error:
        raise GeneratorError(
            f"{what} is gated: accept its licence on its page at the hub, then log in on this "
            "machine (hf auth login, or HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise GeneratorError(
            f"{what}: the hub has no revision {hub_id.revision or 'main'!r} of it (give a branch, "
            "tag or commit behind the '@', or none)"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise GeneratorError(
            f"{what} is no local folder{near} and nothing that the hub shows to this machine: "
            "check the name, and log in if it is private (hf auth login, or HF_TOKEN)"
        ) from error
    except GeneratorError:
        raise
    except _failures(errors, httpx) as error:
        raise GeneratorError(
            f"{what} is no local folder{near}, is not in this machine's hub cache{lacking} and "
            f"could not be fetched from the hub ({type(error).__name__}: {first_line(error)}); "
            f"download it elsewhere ({hub_id.download} --local-dir FOLDER) and give "
            "its folder, or bring the hub's cache; where there is no network HF_HUB_OFFLINE=1 "
            "spares the wait"
        ) from error


def _failures(errors: object, httpx: object) -> tuple[type[Exception], ...]:
    """Return what the hub's client and its transport raise, whichever version is installed."""
    own = ("EntryNotFoundError", "RevisionResolutionError", "XetDownloadError", "CacheNotFound")
    wire = ("HTTPError", "InvalidURL", "StreamError")
    found = [getattr(errors, name, OSError) for name in own]
    found += [getattr(httpx, name) for name in wire]
    # Those of requests, ssl and of the hub's own HTTP errors are OSErrors.
    return (OSError, ValueError, RuntimeError, *found)


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, for another's message."""
    return (str(error).strip().splitlines() or ["no more is known"])[0][:300]


def _cached(hub_id: HubId, index: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        path = hf_hub_download(
            hub_id.repository, index, revision=hub_id.revision, local_files_only=True
        )
    except (OSError, HFValidationError):  # not there
        return None
    return Path(path).parent


def _ask(hub_id: HubId) -> ModelInfo:
    from huggingface_hub import HfApi

    return HfApi().model_info(hub_id.repository, revision=hub_id.revision, timeout=_SECONDS_TO_WAIT)


def names_at_hub(hub_id: HubId) -> list[str]:
    """Return the names of all files of a repository; raises what the hub's client does."""
    return [sibling.rfilename for sibling in _ask(hub_id).siblings or []]


def _download_pipeline(hub_id: HubId) -> Path:
    names = names_at_hub(hub_id)
    index = _download_index(hub_id, names)
    check_kind(index)
    parts = parts_of(read_index(index))
    wanted = files_read(names, parts, variant_of(names, parts))
    # Kilobytes say what gigabytes would be refused for.
    configs = [INDEX, *(name for name in wanted if name.endswith("/config.json"))]
    check_configs(snapshot(hub_id, map(glob.escape, configs)))
    folder = snapshot(hub_id, map(glob.escape, wanted))
    _check_whole(folder)
    return folder


def _download_configs(hub_id: HubId) -> Path:
    folder = snapshot(hub_id, [INDEX, *(f"*/*{end}" for end in (".json", ".txt", ".model"))])
    _check_parts(folder)
    return folder


def _download_index(hub_id: HubId, names: Iterable[str]) -> Path:
    from huggingface_hub import hf_hub_download

    if INDEX not in names:
        raise GeneratorError(
            f"generator.path {str(hub_id)!r} holds no {INDEX}: it must be a diffusers pipeline "
            "(the page of a single .safetensors file: download that and give its path)"
        )
    return Path(hf_hub_download(hub_id.repository, INDEX, revision=hub_id.revision)).parent


def snapshot(hub_id: HubId, patterns: Iterable[str]) -> Path:
    """Return the cache's folder of a repository with all files of ``patterns``, fetched if new."""
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            hub_id.repository, revision=hub_id.revision, allow_patterns=list(patterns)
        )
    )


def _check_parts(folder: Path) -> None:
    if absent := absent_parts(folder):
        raise GeneratorError(f"{str(folder)!r} lacks {', '.join(absent)}")
    check_parts(folder)


def _check_whole(folder: Path) -> None:
    _check_parts(folder)
    check_weights(folder)
