"""Methods as points of the grid."""

from __future__ import annotations

import pytest

from regl_app.config import RunConfig
from regl_app.config.presets import PRESETS


def test_only_the_upper_bound_is_central() -> None:
    assert [name for name in PRESETS if RunConfig.from_flat({"method": name}).central] == [
        "central"
    ]


@pytest.mark.parametrize(
    ("method", "policy", "adapter", "objective"),
    [
        ("fedavg", "none", "frozen", "fedavg"),
        ("fedprox", "none", "frozen", "fedprox"),
        ("fedlc", "none", "frozen", "fedlc"),
        ("fedrs", "none", "frozen", "fedrs"),
        ("balanced-softmax", "none", "frozen", "balanced-softmax"),
        ("fedntd", "none", "frozen", "fedntd"),
        ("central", "none", "frozen", "fedavg"),
        ("regl-free", "balance", "frozen", "fedavg"),
        ("regl", "balance", "lora", "fedavg"),
        ("regl-dpd", "discrepancy", "lora", "fedavg"),
        ("feddpd", "discrepancy", "dpo", "fedavg"),
    ],
)
def test_a_method_expands_to_the_papers_choices(
    method: str, policy: str, adapter: str, objective: str
) -> None:
    config = RunConfig.from_flat({"method": method})
    assert config.supplement.policy == policy
    assert config.supplement.adapter == adapter
    papers_site = "server" if method == "feddpd" else "client"
    assert config.supplement.site == papers_site
    assert config.supplement.selection == ("discrepancy" if method == "feddpd" else "none")
    assert config.objective == objective
    assert (config.labels.by, config.teaching.head) == ("hard", "average")
    assert config.teaching.distill == "none"


def test_labels_and_teaching_are_told_in_words() -> None:
    assert RunConfig.from_flat({"method": "regl"}).teaching_words == ""
    keys = {"method": "regl", "labels.by": "global"}
    assert RunConfig.from_flat(keys).teaching_words == "soft labels by the global model"
    taught = RunConfig.from_flat(keys | {"teaching.head": "experts"})
    assert taught.teaching_words.endswith(", expert head (by clients' label counts)")


def test_a_key_overrides_its_preset() -> None:
    config = RunConfig.from_flat({"method": "regl", "objective": "fedprox"})
    assert (config.supplement.adapter, config.objective) == ("lora", "fedprox")
    assert RunConfig.from_flat({"supplement.policy": "equal"}).supplement.policy == "equal"
