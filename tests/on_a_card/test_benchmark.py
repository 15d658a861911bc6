"""The benchmark that waits for a GPU would run on one."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
FEW = (
    "--images 2 --batch 2 --steps 2 --naive-images 1 --naive-steps 1 --tuning-steps 1"
    " --tuning-batch 2 --uploads 2 --scored 4 --repeats 1 --shape tiny --device cuda"
    " --only lora,uploads"
)


def test_both_sides_run_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, card: torch.device
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    importlib.import_module("gpu").main([*FEW.split(), "--out", str(tmp_path)])
    (result,) = tmp_path.glob("*.json")
    rows = {row["name"]: row for row in json.loads(result.read_text(encoding="utf-8"))["rows"]}
    assert len(rows) == 2
    assert all(row["ours"]["rate"] > 0 for row in rows.values())
    assert rows["uploads scored, 2"]["apart"] < 1e-4
