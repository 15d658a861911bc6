"""Every key says what it changes; what is left out of a result's identity follows from that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from regl_app.config import RunConfig, default_flat
from regl_app.config.identity import decisive_keys, marks, result_keys
from regl_app.core.types import Scalar
from regl_app.runs.comparison.plan import digest

KEYS = Path(__file__).parent / "keys.txt"


def test_every_key_is_marked() -> None:
    assert {key: mark for key, mark in marks().items() if mark not in _MARKS} == {}


_MARKS = ("result", "machine", "view")


def test_a_new_key_is_a_decision() -> None:
    """The list in keys.txt is changed by hand: could the machine not know the value itself?"""
    assert sorted(default_flat()) == KEYS.read_text(encoding="utf-8").split()


@pytest.mark.parametrize(
    "change",
    [
        {"log-format": "json"},
        {"metrics-port": 9100},
        {"metrics-address": "0.0.0.0"},
        {"cache-limit": 1.0},
        {"server.timeout": 5.0},
        {"cache-dir": "/elsewhere"},
        {"share-diagnostics": False},
        {"report": False},
        {"tensorboard": False},
        {"trackers": "mlflow,wandb"},
        {"name": "other"},
        {"out-dir": "/elsewhere"},
        {"resume": "/runs/a"},
    ],
)
def test_a_comparison_does_not_run_again_for_what_changes_no_result(
    change: dict[str, Scalar],
) -> None:
    config = RunConfig.from_flat({"method": "regl", "labels.by": "hard"})
    assert digest(config.updated(change), 3, "g") == digest(config, 3, "g")


def test_a_comparison_runs_again_for_what_does() -> None:
    config = RunConfig.from_flat({"method": "regl"})
    assert digest(config.updated({"train.lr": 0.01}), 3, "g") != digest(config, 3, "g")


def test_without_the_sites_counts_macro_f1_is_another_number() -> None:
    """See ``server_app.pooled_evaluation``; elsewhere the server has test images of its own."""
    change: dict[str, Scalar] = {"share-diagnostics": False}
    config = RunConfig.from_flat({"method": "fedavg", "data.source": "site", "data.classes": "a,b"})
    assert digest(config.updated(change), 3, "g") != digest(config, 3, "g")
    assert "share-diagnostics" in decisive_keys(config)
    assert "share-diagnostics" not in decisive_keys(RunConfig.from_flat({"method": "fedavg"}))


def test_without_counts_the_experts_are_known_by_something_else() -> None:
    change: dict[str, Scalar] = {"share-diagnostics": False}
    config = RunConfig.from_flat({"method": "regl", "teaching.head": "experts"})
    assert digest(config.updated(change), 3, "g") != digest(config, 3, "g")
    named = config.updated({"teaching.say": "updates"})
    assert digest(named.updated(change), 3, "g") == digest(named, 3, "g")


def test_noise_on_counts_is_another_result_without_a_supplement_too() -> None:
    config = RunConfig.from_flat(
        {
            "method": "fedavg",
            "teaching.head": "experts",
            "teaching.say": "noisy",
            "share-diagnostics": False,
        }
    )
    assert config.tells_noisy_counts
    assert not config.needs_generator
    louder = config.updated({"privacy.histogram-noise": 16.0})
    assert digest(louder, 3, "g") != digest(config, 3, "g")
    seeded = config.updated({"privacy.reproducible": True})
    assert digest(seeded, 3, "g") != digest(config, 3, "g")


def test_what_may_change_when_a_run_goes_on() -> None:
    config = RunConfig.from_flat({})
    kept = result_keys(config).keys()
    assert decisive_keys(config) - {"server.min-nodes"} < kept
    assert {"cache-dir", "share-diagnostics"} <= kept
    assert not kept & {"resume", "name", "out-dir", "log-format", "server.timeout", "cache-limit"}


def test_the_page_lists_all_that_may_change_when_a_run_goes_on() -> None:
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
    ((always, sampled),) = re.findall(r"Free are (.*?) and,\s+while (.*?)\.\s", page, flags=re.S)
    free = {key for key, mark in marks().items() if mark == "view"} - {"resume"}
    assert sorted(re.findall(r"`([\w.-]+)`", always)) == sorted(free)
    assert re.findall(r"`([\w.-]+)`", sampled) == ["server.fraction", "server.min-nodes"]
    assert "server.min-nodes" in result_keys(RunConfig.from_flat({"server.fraction": 0.5}))
    assert "server.min-nodes" not in result_keys(RunConfig.from_flat({}))
