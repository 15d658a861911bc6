"""Pretrained weights from the Hugging Face hub: one safetensors file, its cache first."""

from __future__ import annotations

import re
from pathlib import Path

from regl_app.config.model_name import library_of
from regl_app.core.errors import ConfigError
from regl_app.learning.models.libraries import import_timm

FILE = "model.safetensors"
_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def fetch_weights(weights: str, name: str, *, fetch: bool = True) -> Path:
    """Return ``model.safetensors`` of the hub id ``weights``, or of model ``name``'s own for 'hub'.

    Raises:
        ConfigError: it is no id, or the file is neither in this machine's cache nor to be fetched;
            without ``fetch`` nobody tries to.
    """
    hub_id = _own_id(name) if weights == "hub" and library_of(name) == "timm" else weights
    match = _ID.fullmatch(hub_id)
    if match is None:
        raise ConfigError(
            f"model.weights={weights!r} must be a .safetensors file, or 'owner/name' or "
            "'owner/name@revision' of the hub"
        )
    return _fetched(weights, match["repository"], match["revision"], fetch)


def _own_id(name: str) -> str:
    expects = import_timm(name).models.get_pretrained_cfg(name.partition(":")[2])
    if expects is None or not expects.hf_hub_id:
        raise ConfigError(
            f"model.weights='hub': timm names no weights of {name!r} at the hub (give a file, or "
            "'owner/name')"
        )
    return str(expects.hf_hub_id)


def _fetched(weights: str, repository: str, revision: str | None, fetch: bool) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, FILE, revision=revision, local_files_only=True))
    except (OSError, ValueError) as error:  # not in the cache
        if not fetch:
            raise ConfigError(
                f"model.weights={weights!r}: {FILE} of {repository!r} is not in this machine's hub "
                "cache"
            ) from error
    try:
        return Path(hf_hub_download(repository, FILE, revision=revision))
    except Exception as error:  # the hub's, its transport's and the system's, by version
        at = f" --revision {revision}" if revision else ""
        why = (str(error).strip().splitlines() or ["no more is known"])[0][:300]
        raise ConfigError(
            f"model.weights={weights!r}: {FILE} of {repository!r} is not in this machine's hub "
            f"cache and could not be fetched ({type(error).__name__}: {why}); download it "
            f"elsewhere (hf download {repository} {FILE}{at}) and give the file"
        ) from error
