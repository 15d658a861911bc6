from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.data.images import ImageSet
from regl_app.supplement.adapter_state import AdapterState
from regl_app.supplement.make_supplement import make_supplement
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.synthesizer import Synthesizer

Make = Callable[..., Synthesizer]
Pair = Callable[..., ModelPair]
QUOTAS = np.array([0, 2, 3])


def test_preferences_are_tuned_in_as_many_rounds_as_configured(
    config: RunConfig, real: ImageSet, synthesizer: Make, model_pair: Pair, tmp_path: Path
) -> None:
    dpo = config.updated({"supplement.adapter": "dpo", "dpo.rounds": 1, "dpo.start": "frozen"})
    warm, state = synthesizer(dpo, tmp_path), AdapterState()
    digests, tuned = [], []
    for pair in (None, model_pair(), model_pair((2, 3))):
        made = make_supplement(dpo, warm, "a", QUOTAS, real, pair, state)
        state = made.adapter_state
        digests.append(made.client_generator.digest)
        tuned.append(state.tuned)
    assert tuned == [0, 1, 1]
    assert digests[0] == "frozen"
    assert digests[1] == digests[2] != "frozen"  # the second pair of models tunes no more
    assert state.preferred == made.client_generator.path.name  # type: ignore[union-attr]


def test_a_preferred_adapter_that_is_lost_leaves_what_the_client_starts_from(
    config: RunConfig, real: ImageSet, synthesizer: Make, model_pair: Pair, tmp_path: Path
) -> None:
    dpo = config.updated({"supplement.adapter": "dpo", "dpo.rounds": 1, "dpo.start": "frozen"})
    lost = AdapterState("0" * 40, 1)
    made = make_supplement(dpo, synthesizer(dpo, tmp_path), "a", QUOTAS, real, model_pair(), lost)
    assert made.client_generator.path is None
    assert made.adapter_state == lost


@pytest.mark.parametrize("selection", ["none", "discrepancy"])
def test_indices_lead_to_the_images(
    config: RunConfig,
    real: ImageSet,
    synthesizer: Make,
    model_pair: Pair,
    tmp_path: Path,
    selection: str,
) -> None:
    frozen = config.updated({"supplement.adapter": "frozen", "supplement.selection": selection})
    warm = synthesizer(frozen, tmp_path)
    made = make_supplement(frozen, warm, "a", QUOTAS, real, model_pair(), AdapterState())
    assert made.images.counts(3).tolist() == QUOTAS.tolist()
    assert made.indices is not None
    if selection == "discrepancy":
        source = warm.pool(made.client_generator).images
        assert made.facts["candidates"] == 12
    else:
        assert made.candidates.sequence is not None
        source = warm.generate(made.candidates.sequence, made.client_generator, real).images
        assert "candidates" not in made.facts
    assert torch.equal(source.subset(made.indices).images, made.images.images)
    assert made.adapter_state == AdapterState()


def test_models_steer_where_they_guide(
    config: RunConfig, real: ImageSet, synthesizer: Make, model_pair: Pair, tmp_path: Path
) -> None:
    guided = config.updated({"supplement.adapter": "guidance"})
    warm, pair = synthesizer(guided, tmp_path), model_pair()
    made = make_supplement(guided, warm, "a", QUOTAS, real, pair, AdapterState())
    assert made.client_generator.models is pair
    assert made.indices is None  # nobody else has these models
