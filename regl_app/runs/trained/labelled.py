"""Labelled images to measure a run's model on: its own, or what other data keys name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from regl_app.config import RunConfig
from regl_app.config.choices import SOURCES
from regl_app.config.paths import with_absolute_paths
from regl_app.config.sections import DataConfig
from regl_app.core.errors import ConfigError, DataError
from regl_app.core.log import logger
from regl_app.core.types import Scalar
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.data.run_files import RunFiles
from regl_app.data.same_files import same_files
from regl_app.data.sources.registry import load_source, source_files
from regl_app.runs.trained.deep_pictures import as_in_run, warn_of_differing
from regl_app.runs.trained.model import TrainedModel

# What keeps a part of a data set away from training has no meaning for another one.
_WHOLE: Mapping[str, Scalar] = {
    "data.max-train": 0,
    "data.max-test": 0,
    "data.public-fraction": 0.0,
}
_FIXED = frozenset({"data.image-size"})
# Another value deals the run's own images anew: some that it trained on would be tested on.
_SPLITTING = (
    "data.seed",
    "data.test-fraction",
    "data.public-fraction",
    "data.splits",
    "data.columns",
)


def labelled_images(
    trained: TrainedModel,
    changes: Mapping[str, Scalar],
    part: Literal["test", "train", "all"] | None = None,
) -> tuple[ImageSet, tuple[str, ...]]:
    """Return a part of the run's data set, or of another that ``changes`` of its keys lead to.

    A warning says where the run's own is no longer what the run saw.

    It is another where ``data.source`` or ``data.path`` is given; then it is taken whole, whatever
    the run kept of its own, and a warning says where it is the run's all the same. Deep greyscale
    is read as the run read it, unless ``changes`` name ``data.depth``. The second value are the
    names of its labels.

    Args:
        trained: the run's model, whose data keys count where no other is given.
        changes: keys of ``data``.
        part: which; None: all of another data set, the run's own test part.

    Raises:
        ConfigError: the keys do not go together, or would deal the run's own images anew.
        DataError: there is no such data, or the run's own lies at its sites.
    """
    _check(trained, changes)
    other = bool(changes.keys() & {"data.source", "data.path"})
    flat = dict(_WHOLE if other else {}) | dict(changes)
    config = with_absolute_paths(trained.config.updated(flat))
    if config.data.local:
        raise DataError(
            f"data.source={config.data.source!r}: each site's images stay there; name others, such "
            "as data.source=folder data.path=FOLDER"
        )
    if other:
        _tell_own(trained, config)
    else:
        _tell_changed(trained, RunFiles.of(config.data, config.partition).words)
    named = "data.depth" in changes
    if not named:  # a part of the pictures, or others, may lead to another rule
        config = config.model_copy(update={"data": as_in_run(trained, config.data)})
    # The run's own are as its clients have them: in their looks, with its long tail.
    own = None if other else Federation.load(config, trained.num_clients)
    source = load_source(config.data, whole=True) if own is None else own.source
    if not named:
        warn_of_differing(trained, source.depth, "name a rule by data.depth, or a site by --client")
    sets = {"test": [source.test], "train": [source.train], "all": [source.train, source.test]}
    return ImageSet.concat(sets[part or ("all" if other else "test")]), source.class_names


def _tell_changed(trained: TrainedModel, now: str) -> None:
    if trained.files is not None and trained.files != now:
        logger.warning(
            "the files of the run's data set have changed since it ran (it had %s; now %s): what "
            "is split off to test on is another part, and the model may have been trained on it",
            trained.files,
            now or "none",
        )


def _tell_own(trained: TrainedModel, config: RunConfig) -> None:
    was, now = with_absolute_paths(trained.config).data, config.data
    if was.local:
        logger.warning(
            "data.source=%r, data.path=%r: the run was one of sites, whose folders are not known "
            "here: if it is one of them, it was mostly trained on, and what is measured is no test",
            now.source,
            now.path,
        )
        return
    whole = source_files(now)
    shared = _shared(was, whole)
    if shared or (was.source, was.path) == (now.source, now.path):
        logger.warning(
            "data.source=%r, data.path=%r shares pictures with the run's own data set%s: the model "
            "may have been trained on what it is tested on (without these keys it is the run's own "
            "test images)",
            now.source,
            now.path,
            f" ({shared} of {len(whole)} files are the run's)" if shared else "",
        )


def _shared(was: DataConfig, files: Sequence[Path]) -> int:
    """Return how many of ``files`` are the run's own, whatever links lead to them."""
    try:
        return len(same_files(source_files(was), files))
    except DataError:  # the run's are gone
        return 0


def _check(trained: TrainedModel, changes: Mapping[str, Scalar]) -> None:
    if wrong := [key for key in changes if not key.startswith("data.") or key in _FIXED]:
        raise ConfigError(
            f"regl evaluate takes keys of data, such as data.source=folder data.path=FOLDER, got "
            f"{wrong[0]} (the run's model takes images of {trained.size} pixels)"
        )
    source = trained.config.data.source
    if not changes.keys() & {"data.source", "data.path"}:
        was, now = (each.to_flat() for each in (trained.config, trained.config.updated(changes)))
        if moved := [key for key in _SPLITTING if was[key] != now[key]]:
            raise ConfigError(
                f"{moved[0]}={now[moved[0]]!r} deals the run's own images anew (it had "
                f"{was[moved[0]]!r}): its model has been trained on some that would be tested on. "
                "Leave the key out, or name other data, such as data.source=folder data.path=FOLDER"
            )
    if "data.path" in changes and "data.source" not in changes and not SOURCES[source].placed:
        raise ConfigError(
            f"data.path alone is no other data set for the run's data.source={source!r}: name the "
            "source as well, such as data.source=folder"
        )
