"""What a run's log says before it begins: of its privacy, of what images are made to look like."""

from __future__ import annotations

import pytest

from regl_app.config import RunConfig
from regl_app.core.types import Scalar
from regl_app.runs.records import FederationFacts
from server_app.main import _announce

VECTOR: dict[str, Scalar] = {"method": "regl-dpd", "privacy.noise": 8.0}
COUNTS: dict[str, Scalar] = {"teaching.head": "experts", "teaching.say": "noisy"}
SITES: dict[str, Scalar] = {"data.source": "site", "data.classes": "a,b"}
FACTS = FederationFacts(class_names=["a", "b"], num_clients=2)


@pytest.mark.parametrize("keys", [VECTOR, COUNTS])
@pytest.mark.parametrize("sites", [False, True])
def test_noise_from_the_seed_is_not_announced_as_private(
    caplog: pytest.LogCaptureFixture, keys: dict[str, Scalar], sites: bool
) -> None:
    caplog.set_level("INFO")
    config = RunConfig.from_flat({"share-diagnostics": False} | keys | (SITES if sites else {}))
    _announce(config, FACTS)
    assert "1e-05)-differentially private" in caplog.text
    caplog.clear()
    _announce(config.updated({"privacy.reproducible": True}), FACTS)
    assert "differentially private" not in caplog.text
    assert "not private, epsilon is infinite: the noise can be taken off" in caplog.text
    warned = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert [each.startswith("privacy.reproducible=true") for each in warned] == [True] * sites


def test_the_look_that_images_take_over_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    config = RunConfig.from_flat({"method": "regl"})
    _announce(config, FACTS)
    assert "site client" in caplog.text and "spectrum" not in caplog.text
    _announce(config.updated({"supplement.match": "spectrum"}), FACTS)
    assert "site client, matched by spectrum" in caplog.text
