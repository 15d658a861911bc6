"""Rates that ruin every adapter: the run goes on without them, and its history says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from regl_app import RunConfig, RunFolder, federate, run_in_process
from regl_app.core.types import Scalar
from regl_app.generator.adaptation.ruin import LIMITS

SETTINGS: dict[str, Scalar] = {
    "rounds": 2,
    "data.max-train": 120,
    "data.max-test": 40,
    "train.steps": 3,
    "model.width": 4,
    "supplement.cap": 2,
    "lora.steps": 10,
    "lora.batch-size": 4,
    "lora.min-images": 2,
    "lora.lr": 0.2,
    "dpo.steps": 10,
    "dpo.batch-size": 4,
    "dpo.lr": 0.1,
    "pool.per-class": 3,
    "probe.per-class": 2,
    "generator.steps": 4,
    "server.tune-steps": 2,
    "report": False,
    "tensorboard": False,
}


@pytest.mark.parametrize(
    ("choice", "from_round"),
    [
        ({"method": "regl"}, 1),
        ({"method": "regl-dpd", "supplement.adapter": "dpo"}, 2),
    ],
    ids=["lora", "dpo"],
)
def test_clients_go_on_with_the_generator_they_had(
    choice: dict[str, Scalar], from_round: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", logger="regl")
    places: dict[str, Scalar] = {"cache-dir": str(tmp_path / "c"), "out-dir": str(tmp_path / "r")}
    config = RunConfig.from_flat({**SETTINGS, **choice, **places})
    found = federate(config, 2)
    told = [
        result.facts
        for each in found.rounds
        for result in each.results.values()
        if each.number >= from_round
    ]
    assert len(told) >= 2
    for facts in told:
        assert facts["adapted"] is False
        assert facts["generated"] or facts["reused"]
    marked = [facts for facts in told if "adapter_ruined" in facts]
    assert len(marked) >= 2
    assert all(float(str(facts["adapter_ruined"])) > min(LIMITS.values()) for facts in marked)
    assert caplog.text.count("the adapter is ruined and not used") == len(marked)


def test_a_shared_adapter_without_sound_parts_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regl_app.supplement.adapter_tuning.strangeness", lambda *_: 41.5)
    places: dict[str, Scalar] = {"cache-dir": str(tmp_path / "c"), "out-dir": str(tmp_path / "r")}
    few: dict[str, Scalar] = {"method": "regl-shared", "lora.rounds": 1, "lora.steps": 1}
    config = RunConfig.from_flat({**SETTINGS, **few, **places})
    found = federate(config, 2)
    facts = [{k: dict(r.facts) for k, r in each.results.items()} for each in found.rounds]
    first = next(each for each in facts if each)
    assert all(told["adapted"] is False for told in first.values())
    assert {told["adapter_ruined"] for told in first.values()} == {41.5}
    other = config.updated({"cache-dir": str(tmp_path / "other")})
    history = RunFolder.open(run_in_process(other, clients=2)).read_history()
    assert [record.clients for record in history] == facts
