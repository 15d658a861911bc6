"""Deep greyscale that a run's model is given: read as the run read its own."""

from __future__ import annotations

from regl_app.config.sections import DataConfig
from regl_app.core.log import logger
from regl_app.data.depth import UsedDepth
from regl_app.data.read_alike import read_alike
from regl_app.runs.depths import depth_words
from regl_app.runs.trained.model import TrainedModel


def as_in_run(trained: TrainedModel, data: DataConfig) -> DataConfig:
    """Return the data keys by which deep greyscale is read as the run read it, if it says how."""
    return read_alike(data, trained.depth)


def warn_of_differing(trained: TrainedModel, found: UsedDepth | None, remedy: str) -> None:
    """Warn where pictures were deep and the run's sites read such by different rules.

    Args:
        trained: the run's model.
        found: the scales that the pictures were read by, None if none of them was deep.
        remedy: how one is named.
    """
    if found is None or trained.depth is not None or not trained.depths:
        return
    logger.warning(
        "the run's sites read deep greyscale by different rules (%s), so these pictures decide "
        "for themselves: %s",
        depth_words(trained.depths),
        remedy,
    )
