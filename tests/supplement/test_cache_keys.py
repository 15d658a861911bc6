"""What is made with other prompts is never taken for the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from regl_app.config import RunConfig
from regl_app.core.types import CacheKey
from regl_app.data.concepts import Concept
from regl_app.data.images import ImageSet
from regl_app.supplement.cache_keys import CacheKeys


def keys(config: RunConfig, concepts: Sequence[Concept], real: ImageSet) -> list[CacheKey]:
    made = CacheKeys(config, tuple(concepts), (1, 16, 16), torch.device("cpu"))
    nothing = torch.empty(0)
    return [
        made.pool("frozen", 0, 2),
        made.lora(real, 0),
        made.images(0, "frozen", nothing, 0, None),
    ]


def test_one_phrasing_is_named_as_ever_and_several_make_another_key(
    config: RunConfig, real: ImageSet
) -> None:
    plain = keys(config, ("a cat", "a dog"), real)
    assert plain[0]["prompts"] == ["a photo of a cat", "a photo of a dog"]
    assert plain[2]["prompt"] == "a photo of a cat"
    assert all("negative_prompt" not in key for key in plain)
    several = keys(config, (("a cat", "a kitten"), "a dog"), real)
    assert all(one != other for one, other in zip(plain, several, strict=True))
    assert several[2]["prompt"] == ["a photo of a cat", "a photo of a kitten"]


def test_the_negative_prompt_counts_where_images_are_drawn(
    config: RunConfig, real: ImageSet
) -> None:
    plain = keys(config, ("a cat", "a dog"), real)
    away = keys(config.updated({"generator.negative-prompt": "ugly"}), ("a cat", "a dog"), real)
    assert [one != other for one, other in zip(plain, away, strict=True)][::2] == [True, True]
