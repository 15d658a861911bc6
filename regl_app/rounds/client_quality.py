"""Between steps 1 and 2 of a client's round: what its synthetic images are worth, now and then."""

from __future__ import annotations

from dataclasses import replace

from regl_app.config.supplement_sections import NONE
from regl_app.core.formats import percent
from regl_app.core.log import logger
from regl_app.data.images import ImageSet
from regl_app.learning.models.classifier import Classifier
from regl_app.rounds.client import Client
from regl_app.supplement.distance_features import distance_features
from regl_app.supplement.image_distance import measure_distances
from regl_app.supplement.image_quality import ImageQuality, is_measured, measure_quality
from regl_app.supplement.near_copies import CHANCE

_MANY = 3 * CHANCE


def client_quality(
    client: Client, round_number: int, made: ImageSet, global_model: Classifier
) -> ImageQuality | None:
    """Return the quality of the round's synthetic images; None where it is not measured.

    Training is not touched: no random state is read, and no model changed. Many near-copies are
    said here too, where the images are whose privacy it is.
    """
    if not client.config.supplement.measure or len(made) == 0 or not is_measured(round_number):
        return None
    embedding = client.model()
    quality = measure_quality(
        made,
        client.data.train,
        client.data.test,
        embedding,
        global_model if round_number > 1 or client.config.teaching.first_steps else None,
        client.device,
    )
    distance = client.config.supplement.distance
    if distance != NONE:
        embed = distance_features(distance, embedding, client.device)
        quality = replace(quality, distances=measure_distances(made, client.data.train, embed))
    copies = quality.overall().get("near_copies", 0.0)
    if copies > _MANY:
        logger.warning(
            "%s: %s of its synthetic images are near-copies of its training images, where %s of "
            "new real ones would be: the generator draws what it has learned by heart (lower "
            "lora.steps, raise generator.image-strength or set generator.image-conditioning=false)",
            client.label,
            percent(copies, 0),
            percent(CHANCE, 0),
        )
    return quality
