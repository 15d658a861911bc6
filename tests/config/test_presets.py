"""Methods as points of the grid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.config.presets import PRESETS
from regl_app.core.types import Scalar
from regl_app.learning.methods.ccvr import CCVR
from regl_app.learning.methods.registry import make_method


def test_only_one_method_is_central() -> None:
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
        ("ccvr", "none", "frozen", "ccvr"),
        ("central", "none", "frozen", "fedavg"),
        ("regl-free", "balance", "frozen", "fedavg"),
        ("regl", "balance", "lora", "fedavg"),
        ("regl-shared", "balance", "shared", "fedavg"),
        ("regl-ccvr", "balance", "lora", "ccvr"),
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


def taught(**flat: Scalar) -> tuple[str, str, str]:
    config = RunConfig.from_flat({key.replace("__", "."): value for key, value in flat.items()})
    return config.labels.by, config.teaching.head, config.teaching.distill


PAPERS = ("hard", "average", "none")


@pytest.mark.parametrize("method", ["regl-free", "regl", "regl-dpd", "feddpd"])
def test_what_teaches_follows_the_site_and_one_key_gives_the_papers_form(method: str) -> None:
    server = method == "feddpd"
    at_client = ("global", "bounded", "none")
    assert taught(method=method) == (("hard", "average", "experts") if server else at_client)
    assert taught(method=method, labels__by="hard") == PAPERS


@pytest.mark.parametrize(
    "flat",
    [
        {"method": "fedavg"},
        {"method": "central"},
        {"method": "regl", "objective": "fedrep"},
        {"method": "regl", "server__strategy": "fedmedian"},
        {"method": "regl", "supplement__cap": 0},
    ],
)
def test_nobody_teaches_where_nobody_can(flat: dict[str, Scalar]) -> None:
    assert taught(**flat) == PAPERS


def test_a_key_of_teaching_overrides_what_the_site_says() -> None:
    assert taught(method="regl", teaching__head="average") == ("global", "average", "none")
    assert taught(method="fedavg", teaching__head="experts") == ("hard", "experts", "none")


def test_labels_and_teaching_are_told_in_words() -> None:
    keys = {"method": "regl", "teaching.head": "average"}
    assert RunConfig.from_flat(keys | {"labels.by": "hard"}).teaching_words == ""
    assert RunConfig.from_flat(keys).teaching_words == "soft labels by the global model"
    words = RunConfig.from_flat({"method": "regl"}).teaching_words
    assert words.endswith(", bounded expert head (label counts leave the clients)")
    first = RunConfig.from_flat({"method": "fedavg", "teaching.first-steps": 9})
    assert first.teaching_words == "first model taught by 9 steps on synthetic images"


def test_an_adapter_that_leaves_the_clients_is_told_in_words() -> None:
    assert RunConfig.from_flat({"method": "regl"}).sharing_words == ""
    shared = RunConfig.from_flat({"method": "regl-shared"})
    assert "leaves each client 3 times" in shared.sharing_words
    assert "leaves each client once" in shared.updated({"lora.rounds": 1}).sharing_words
    none = RunConfig.from_flat({"method": "regl-shared", "supplement.cap": 0})
    assert none.sharing_words == ""
    told = RunConfig.from_flat({"method": "regl-shared", "objective": "ccvr"}).sharing_words
    assert "leaves each client" in told and "mean and covariance" in told
    assert "synthetic" not in told


@pytest.mark.parametrize(
    ("keys", "tells"),
    [
        ({"method": "regl-ccvr", "server.fraction": 0.1}, True),
        ({"method": "feddpd", "objective": "ccvr", "server.fraction": 0.1}, False),
        ({"method": "regl-ccvr"}, False),
        ({"method": "ccvr", "server.fraction": 0.1}, False),
        ({"method": "regl", "server.fraction": 0.1}, False),
    ],
)
def test_statistics_of_synthetic_images_leave_where_a_round_may_lack_a_class(
    keys: dict[str, Scalar], tells: bool
) -> None:
    config = RunConfig.from_flat(keys)
    assert config.tells_of_synthetic == tells
    assert ("and those of synthetic ones" in config.sharing_words) == tells
    method = make_method(config)
    assert (isinstance(method, CCVR) and method.fills) == tells


def test_what_the_experts_are_known_by_follows_what_is_shared() -> None:
    taught = RunConfig.from_flat({"method": "regl"})
    assert taught.say == "counts"
    private = taught.updated({"share-diagnostics": False})
    assert private.say == "updates" and not private.tells_noisy_counts
    assert "no label count leaves the clients" in private.teaching_words
    noisy = private.updated({"teaching.say": "noisy"})
    assert noisy.say == "noisy" and noisy.tells_noisy_counts
    # Whoever asks no expert is sent nothing for them.
    assert not noisy.updated({"teaching.head": "average"}).tells_noisy_counts


def test_a_key_overrides_its_preset() -> None:
    config = RunConfig.from_flat({"method": "regl", "objective": "fedprox"})
    assert (config.supplement.adapter, config.objective) == ("lora", "fedprox")
    assert RunConfig.from_flat({"supplement.policy": "equal"}).supplement.policy == "equal"


def test_the_page_names_all_methods_that_are_taught() -> None:
    page = (Path(__file__).parents[2] / "docs" / "teaching.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"methods with a supplement \((.*?)\) are taught", page)
    taught = [name for name in PRESETS if RunConfig.from_flat({"method": name}).teaches]
    assert re.findall(r"`([\w-]+)`", named) == taught
