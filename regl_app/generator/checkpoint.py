"""Where a generator's files are, and their digest: the generator's identity for every cache."""

from __future__ import annotations

from pathlib import Path

from regl_app.config.run_config import BUNDLED
from regl_app.core.errors import GeneratorError
from regl_app.core.near_names import near_path
from regl_app.core.readable import readable
from regl_app.generator.compatibility import ORIGIN
from regl_app.generator.hub_checkpoint import UNKNOWN, HubId, commit_of, fetch_pipeline
from regl_app.generator.kept_digests import digest_of
from regl_app.generator.needed_parts import check_parts, check_readable
from regl_app.generator.pipeline_checks import check_configs
from regl_app.generator.single_file import SUFFIX, config_beside, config_folder
from regl_app.generator.weight_files import (
    INDEX,
    PICKLES,
    check_weights,
    files_read,
    names_in,
    parts_of,
    read_index,
    variant_of,
)


def resolve_generator(path: str, *, fetch: bool = True) -> Path:
    """Return where a pipeline lies: 'bundled', a folder, one safetensors file, or a hub id.

    A hub id (``owner/name``, ``owner/name@revision``) is taken from the hub's own cache, and
    fetched into it, safetensors only, if it is not there; without ``fetch`` it has to be.

    Returns:
        A diffusers pipeline's folder, or the file: ``config_folder`` has its configs then.

    Raises:
        GeneratorError: there is nothing there, it is no pipeline of safetensors, needs more than
            text, or the hub cannot be reached.
    """
    if path == BUNDLED:
        from regl_app.generator.bundled import bundled_path

        return bundled_path()
    place = Path(path).expanduser()
    if place.suffix in PICKLES:
        raise GeneratorError(
            f"generator.path {path!r} is a pickle, which could run any code and is never read "
            "(take the checkpoint's .safetensors file or diffusers folder; where you trust it, "
            "convert it: StableDiffusionPipeline.from_single_file(file).save_pretrained(folder))"
        )
    with readable(f"generator.path {path!r}", GeneratorError):
        return _found(place, path, fetch=fetch)


def _found(place: Path, path: str, *, fetch: bool) -> Path:
    if place.is_dir():
        if not (place / INDEX).is_file():
            raise GeneratorError(
                f"generator.path {path!r} holds no model_index.json: it must be a diffusers "
                "pipeline folder, as written by pipeline.save_pretrained(folder), or one "
                ".safetensors file"
            )
        found = place.resolve()
        check_configs(found)  # begins with the kind: of another one parts may be named otherwise
        check_parts(found)
        check_weights(found)
        check_readable(found)
    elif place.suffix == SUFFIX and (place.is_file() or place.is_absolute()):
        found = place.absolute()
        configs = config_folder(found, fetch=fetch)
        check_configs(configs)
        check_parts(configs)
        check_readable(configs, weights=False)
    else:
        found = fetch_pipeline(_hub_id(path), fetch=fetch)
        check_configs(found)
    return found


def _hub_id(path: str) -> HubId:
    place = Path(path).expanduser()
    hub_id = HubId.parse(path)
    if hub_id is None or place.is_absolute() or place.suffix == SUFFIX or path[0] in ".~":
        near = near_path(path, SUFFIX)
        raise GeneratorError(
            f"generator.path {path!r} is no folder (give 'bundled', an existing pipeline folder, "
            "a .safetensors file, or a hub id such as 'owner/name' or 'owner/name@revision'"
            f"{near and f'; {near}'})"
        )
    return hub_id


def configs_of(checkpoint: Path) -> Path:
    """Return the folder of the configs of what ``resolve_generator`` returned.

    Raises:
        GeneratorError: a single file's are nowhere.
    """
    return checkpoint if checkpoint.is_dir() else config_folder(checkpoint)


def generator_digest(checkpoint: Path, kept: Path | None = None) -> str:
    """Return the hex digest of the weights and configs that a pipeline is loaded from.

    Known without loading the pipeline, so a run whose images are all in the store never does.

    Args:
        checkpoint: a pipeline's folder, or the one file of its weights, whose configs count too.
        kept: where the machine keeps digests (``digests_folder``); None: only the process does.
    """
    if checkpoint.is_dir():
        files = _files_of(checkpoint)
    else:
        beside = config_beside(checkpoint)
        files = {f"config/{name}": file for name, file in _files_of(configs_of(checkpoint)).items()}
        # Of the hub's pipeline there may be weights in the cache or not: they are not read.
        files = {n: file for n, file in files.items() if beside or file.suffix != SUFFIX}
        files["weights"] = checkpoint
    return digest_of(files.items(), kept)


def _files_of(folder: Path) -> dict[str, Path]:
    """Return what a pipeline's folder is loaded from, and what it was made of, by name."""
    names = names_in(folder)
    parts = parts_of(read_index(folder))
    read = [*files_read(names, parts, variant_of(names, parts)), *({ORIGIN} & set(names))]
    return {name: folder / name for name in sorted(read)}


def generator_identity(path: str, kept: Path | None = None) -> str:
    """Return what tells the generator that ``path`` leads to from others, or 'unknown'.

    Of files on this machine their digest; of a hub id repository and commit, whether it is in the
    cache or not. No weights are fetched: a server need not have the generator that its clients use.
    ``kept`` as for :func:`generator_digest`.
    """
    place = Path(path).expanduser()
    try:
        if path == BUNDLED or place.is_dir() or place.suffix in (SUFFIX, *PICKLES):
            return generator_digest(resolve_generator(path), kept)
        hub_id = _hub_id(path)
        return f"{hub_id.repository}@{commit_of(hub_id)}"
    except GeneratorError:
        return UNKNOWN
