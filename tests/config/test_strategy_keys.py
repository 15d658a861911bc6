"""The rates of Flower's strategies as keys: by the strategy, told back, refused elsewhere."""

from __future__ import annotations

import pytest

from regl_app.config import RunConfig, default_flat
from regl_app.config.choices import STRATEGIES, STRATEGY_KEYS
from regl_app.core.errors import ConfigError


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_tells_what_its_strategy_goes_by(name: str) -> None:
    flat = RunConfig.from_flat({"server.strategy": name}).to_flat()
    settings = STRATEGIES[name].settings
    for key in STRATEGY_KEYS:
        assert flat[key] == settings.get(key.removeprefix("server."), "auto")
        assert default_flat()[key] == "auto"
    assert RunConfig.from_flat(flat).to_flat() == flat


def test_a_given_value_stays_and_others_follow_a_new_strategy() -> None:
    momentum = RunConfig.from_flat({"server.strategy": "fedavgm"})
    assert momentum.server.eta == 1.0
    adam = momentum.updated({"server.strategy": "fedadam"})
    assert adam.to_flat() == RunConfig.from_flat({"server.strategy": "fedadam"}).to_flat()
    assert adam.updated({"server.strategy": "fedavg"}).server.eta == "auto"
    own = adam.updated({"server.tau": 0.01})
    assert own.updated({"server.strategy": "fedyogi"}).server.tau == 0.01
    assert own.updated({"rounds": 3}).server.eta == adam.server.eta
    with pytest.raises(ConfigError, match=r"server\.tau=0\.01 changes nothing"):
        own.updated({"server.strategy": "fedavg"})


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("server.eta", 0.0, "> 0"),
        ("server.tau", 0.0, "> 0"),
        ("server.beta-1", 1.0, "< 1"),
        ("server.beta-2", -0.1, ">= 0"),
        ("server.eta", "fast", "a number"),
    ],
)
def test_values_out_of_range_are_refused(key: str, value: float | str, allowed: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} must be {allowed}"):
        RunConfig.from_flat({"server.strategy": "fedadam", key: value})
