from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.data.images import ImageSet
from regl_app.supplement.adapter_state import AdapterState
from regl_app.supplement.make_supplement import Supplement, make_supplement
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.spectrum import with_spectrum
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


@pytest.mark.parametrize("fault", ["gone", "damaged"])
def test_a_preferred_adapter_that_is_lost_is_tuned_again_by_the_models_at_hand(
    config: RunConfig,
    real: ImageSet,
    synthesizer: Make,
    model_pair: Pair,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    dpo = config.updated({"supplement.adapter": "dpo", "dpo.rounds": 1, "dpo.start": "frozen"})
    warm = synthesizer(dpo, tmp_path)
    tuned = make_supplement(dpo, warm, "a", QUOTAS, real, model_pair(), AdapterState())
    path = tuned.client_generator.path
    assert path is not None and tuned.adapter_state.tuned == 1
    if fault == "gone":
        shutil.rmtree(path)
    else:
        (weights,) = path.glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:-1])
    now = model_pair((2, 3))
    again = make_supplement(dpo, warm, "a", QUOTAS, real, now, tuned.adapter_state)
    assert again.client_generator.path not in (None, path)
    assert again.facts["adapter_steps"] == dpo.dpo.steps
    assert again.adapter_state == AdapterState(again.client_generator.path.name, 1)
    assert f"a: its preference-tuned adapter {path.name} is lost" in caplog.text
    caplog.clear()
    later = make_supplement(dpo, warm, "a", QUOTAS, real, model_pair(), again.adapter_state)
    assert later.client_generator.digest == again.client_generator.digest
    assert not caplog.text


def test_no_preferred_adapter_is_no_loss(
    config: RunConfig,
    real: ImageSet,
    synthesizer: Make,
    model_pair: Pair,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where tuning ruined it."""
    dpo = config.updated({"supplement.adapter": "dpo", "dpo.rounds": 1, "dpo.start": "frozen"})
    ruined = AdapterState("", 1)
    made = make_supplement(dpo, synthesizer(dpo, tmp_path), "a", QUOTAS, real, model_pair(), ruined)
    assert made.client_generator.path is None
    assert made.adapter_state == ruined and not caplog.text


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


def test_images_are_matched_by_who_has_the_client_s_own(
    config: RunConfig, real: ImageSet, synthesizer: Make, tmp_path: Path
) -> None:
    frozen = config.updated({"supplement.adapter": "frozen"})
    spectrum = frozen.updated({"supplement.match": "spectrum"})
    nobody_s = ImageSet.empty(real.shape)

    def made(config: RunConfig, own: ImageSet) -> Supplement:
        maker = synthesizer(config, tmp_path)
        return make_supplement(config, maker, "a", QUOTAS, own, None, AdapterState())

    plain, matched = made(frozen, real), made(spectrum, real)
    assert torch.equal(matched.images.images, with_spectrum(plain.images, real).images)
    assert not torch.equal(matched.images.images, plain.images.images)
    assert "match" in matched.seconds and "match" not in plain.seconds
    # What lies in the cache is as drawn.
    assert torch.equal(matched.candidates.images.images, plain.candidates.images.images)
    assert torch.equal(made(spectrum, nobody_s).images.images, plain.images.images)
