"""Weights & Biases offline, its file read back: ``pip install 'regl-app[wandb]'``."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from regl_app.core.errors import ConfigError
from regl_app.runs.records import RunResult
from server_app.trackers.trackers import Trackers
from server_app.trackers.wandb import WeightsAndBiases, make_wandb

from .conftest import LAST, TRAINED, UNTRAINED, RunMaker

wandb = pytest.importorskip("wandb")
BLOCK = 32768


def records(path: Path) -> Iterator[Any]:
    """Yield what is in a .wandb file: LevelDB's log format after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    content, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if at > len(content):
            return  # it is being written
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def whole(path: Path) -> list[Any]:
    """Return all records once the last is there: a process of wandb's own writes them."""
    for _ in range(600):
        found = list(records(path))
        if found and found[-1].HasField("exit"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def test_a_run_and_its_resumption_have_one_id(
    tracked: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tracked()
    for part, told in ((run, (UNTRAINED, TRAINED)), (tracked(first_round=2), (LAST,))):
        with Trackers({"wandb": WeightsAndBiases()}) as trackers:
            trackers.begin(part)
            for record in told:
                run.folder.append_round(record)
                trackers.add(record)
    files = sorted(
        run.folder.path.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime
    )
    found = [whole(path) for path in files]
    ids = {record.run.run_id for one in found for record in one if record.HasField("run")}
    assert len(ids) == 1
    rows = [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in each}
        for one in found
        for record in one
        if record.HasField("history")
        for each in [record.history.item]
    ]
    told_rounds = [row["round"] for row in rows if "global/accuracy" in row]
    assert told_rounds == [0, 1, 2]
    steps = [row["_step"] for row in rows]
    assert steps == sorted(set(steps))
    assert next(row for row in rows if "recall/class-00-a_cat" in row)["f1/class-00-a_cat"] == 0.6
    assert any("confusion/global.path" in row for row in rows)
    config = {
        item.key or ".".join(item.nested_key): json.loads(item.value_json)
        for one in found
        for record in one
        if record.HasField("config")
        for item in record.config.update
    }
    assert config["method"] == "fedavg"
    assert config["class_names"] == ["a cat", "犬/いぬ"]
    artifacts = [record for one in found for record in one if record.HasField("artifact")]
    assert any(record.artifact.type == "regl-run" for record in artifacts)
    kept = {entry.path for r in artifacts for entry in r.artifact.manifest.contents}
    assert {"config.json", "federation.json", "history.jsonl"} <= kept


def test_who_is_not_logged_in_is_refused_and_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    with pytest.raises(ConfigError, match="'wandb' has no login for https://"):
        make_wandb()
    for variable, value in (("WANDB_MODE", "offline"), ("WANDB_API_KEY", "0123456789" * 4)):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            wandb.teardown()
            assert isinstance(make_wandb(), WeightsAndBiases)
    wandb.teardown()
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(ConfigError, match="WANDB_API_KEY"):
        make_wandb()
    wandb.teardown()


def test_the_kept_rounds_numbers_are_the_summary_of_the_run(
    tracked: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tracked()
    with Trackers({"wandb": WeightsAndBiases()}) as trackers:
        trackers.begin(run)
        for record in (UNTRAINED, TRAINED, LAST):
            run.folder.append_round(record)
            trackers.add(record)
        result = RunResult(status="finished", seconds=1.0, best_round=1, model_round=1)
        run.folder.write_result(result)
    (path,) = run.folder.path.glob("wandb/offline-run-*/*.wandb")
    rows = [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in each}
        for record in whole(path)
        if record.HasField("history")
        for each in [record.history.item]
    ]
    (kept,) = [row for row in rows if "kept/accuracy" in row]
    assert (kept["round"], kept["kept/round"], kept["kept/accuracy"]) == (1, 1, 0.5)
