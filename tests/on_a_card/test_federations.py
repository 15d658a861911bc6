"""Whole federations on a pretended card end as they do on the processor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from regl_app import RunConfig, federate
from regl_app.core.types import Scalar
from regl_app.rounds.federate import Federated, FederatedRound
from tests.on_a_card.pretended_card import pretended_card

pytestmark = pytest.mark.usefixtures("short_calibration", "fp32")

SMALL: Mapping[str, Scalar] = {
    "rounds": 2,
    "data.max-train": 100,
    "data.max-test": 40,
    "partition.beta": 0.1,
    "train.steps": 2,
    "model.width": 4,
    "supplement.cap": 2,
    "lora.steps": 2,
    "lora.min-images": 2,
    "lora.rounds": 1,
    "dpo.steps": 2,
    "pool.per-class": 4,
    "probe.per-class": 2,
    "generator.steps": 2,
    "server.tune-steps": 2,
    "teaching.steps": 2,
    "report": False,
    "tensorboard": False,
}
RUNS: dict[str, Mapping[str, Scalar]] = {
    "fedavg": {"method": "fedavg", "validation.fraction": 0.3, "validation.keep": "best"},
    "scaffold": {"method": "scaffold"},
    "ccvr": {"method": "regl-free", "objective": "ccvr"},
    "fedrep": {"method": "fedrep"},
    "central": {"method": "central"},
    # The adapter is tuned by other kernels than a processor takes (``layers.py``) in these, and
    # models are asked together (``batched_scoring.py``).
    "lora": {"method": "regl", "labels.by": "global", "teaching.head": "experts"},
    "shared": {"method": "regl-shared", "teaching.distill": "experts"},
    "guided": {"method": "regl-dpd", "supplement.adapter": "guidance", "rounds": 3},
    "server": {"method": "feddpd"},
    "download": {
        "method": "feddpd",
        "supplement.site": "download",
        "labels.by": "experts",
        "rounds": 3,
    },
}
ROUNDED = ("lora", "shared", "guided", "server", "download")


def ended(settings: Mapping[str, Scalar], cache: Path) -> tuple[Federated, list[FederatedRound]]:
    seen: list[FederatedRound] = []
    keys = {**SMALL, **settings, "cache-dir": str(cache)}
    return federate(RunConfig.from_flat(keys), 2, on_round=seen.append), seen


@pytest.mark.parametrize("run", RUNS)
def test_a_federation_is_the_processors(
    run: str, quick_generator: dict[str, Scalar], tmp_path: Path
) -> None:
    settings = {**quick_generator, **RUNS[run]}
    expected, _ = ended({**settings, "device": "cpu"}, tmp_path / "processor")
    with pretended_card(bf16=False) as card:
        found, seen = ended({**settings, "device": "cuda"}, tmp_path / "card")
        assert next(found.model.parameters()).device == card
        weights = {name: value.cpu() for name, value in found.model.state_dict().items()}
    allowed = 1e-3 if run in ROUNDED else 0.0
    for name, value in expected.model.state_dict().items():
        torch.testing.assert_close(weights[name], value, atol=allowed, rtol=0)
    for one, other in zip(found.rounds, expected.rounds, strict=True):
        assert one.metrics.accuracy == other.metrics.accuracy
        assert one.metrics.loss == pytest.approx(other.metrics.loss, abs=allowed)
    uploads = [each.weights for done in seen for each in done.results.values() if each.weights]
    sent = [each.sent for done in seen for each in done.results.values()]
    assert uploads and (any(sent) or run != "scaffold")
    # Those of many clients would fill a card.
    assert {type(tensor) for told in (*uploads, *sent) for tensor in told.values()} == {
        torch.Tensor
    }
