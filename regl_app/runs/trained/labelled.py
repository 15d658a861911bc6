"""Labelled images to measure a run's model on: its own, or what other data keys name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from regl_app.config.paths import with_absolute_paths
from regl_app.core.errors import DataError
from regl_app.core.types import Scalar
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.data.sources.registry import load_source
from regl_app.runs.trained.model import TrainedModel

# What keeps a part of a data set away from training has no meaning for another one.
_WHOLE: Mapping[str, Scalar] = {
    "data.max-train": 0,
    "data.max-test": 0,
    "data.public-fraction": 0.0,
}


def labelled_images(
    trained: TrainedModel, changes: Mapping[str, Scalar], part: Literal["test", "train", "all"]
) -> tuple[ImageSet, tuple[str, ...]]:
    """Return a part of the run's data set, or of the one that ``changes`` of its keys lead to.

    The second value are the names of its labels. Other data is taken whole, whatever the run kept
    of its own, and always at the model's size.

    Raises:
        ConfigError: the keys do not go together.
        DataError: there is no such data, or the run's own lies at its sites.
    """
    flat = dict(_WHOLE if changes else {}) | dict(changes) | {"data.image-size": trained.size}
    config = with_absolute_paths(trained.config.updated(flat))
    if config.data.local:
        raise DataError(
            f"data.source={config.data.source!r}: each site's images stay there; name others, such "
            "as data.source=folder data.path=FOLDER"
        )
    # The run's own are as its clients have them: in their looks, with its long tail.
    own = None if changes else Federation.load(config, trained.num_clients)
    source = load_source(config.data) if own is None else own.source
    sets = {"test": [source.test], "train": [source.train], "all": [source.train, source.test]}
    return ImageSet.concat(sets[part]), source.class_names
