"""Following a run by its folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.runs.folder import RunFolder
from regl_app.runs.lock import running
from regl_app.runs.records import GlobalMetrics, PhaseSeconds, RoundRecord, RunResult
from regl_app.runs.round_line import round_line
from regl_app.runs.watch import watch


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(RunConfig.from_flat({"method": "fedavg", "rounds": 2}), tmp_path)


def record(number: int, *failures: str, wall: float = 2.0) -> RoundRecord:
    return RoundRecord(
        round=number,
        metrics=GlobalMetrics(accuracy=0.5, macro_f1=0.4),
        seconds=PhaseSeconds(wall=wall),
        failures=list(failures),
    )


def test_every_round_is_told_once_and_then_the_end(folder: RunFolder) -> None:
    events: list[Callable[[], object]] = [
        lambda: folder.append_round(record(1)),
        lambda: None,
        lambda: folder.append_round(record(2, "train: client 1: failed: out of memory")),
        lambda: folder.write_result(RunResult(status="finished", seconds=5.0)),
    ]
    folder.append_round(record(0))
    lines = list(watch(folder, sleep=lambda _: events.pop(0)()))
    assert lines == [
        "round 1/2: global accuracy 50.0%, 2.0 s; about 2 s left",
        "round 2/2: global accuracy 50.0%, 2.0 s; 1 failures",
        "  train: client 1: failed: out of memory",
        "finished after 5 s",
    ]


def test_a_run_that_chose_says_which_rounds_model_it_keeps(tmp_path: Path) -> None:
    keys = {"rounds": 9, "validation.fraction": 0.2, "validation.patience": 1}
    config = RunConfig.from_flat({"method": "fedavg", "validation.keep": "best"} | keys)
    folder = RunFolder.create(config, tmp_path)
    folder.append_round(
        record(1).model_copy(update={"metrics": GlobalMetrics(accuracy=0.7, macro_f1=0.7)})
    )
    folder.append_round(record(2))
    folder.write_result(RunResult(status="finished", seconds=5.0, best_round=1, model_round=1))
    *_, end = watch(folder)
    assert end == (
        "finished after 5 s, at round 2 of 9 as it got no better; the model is that of round 1, "
        "the best by validation images: global accuracy 70.0%"
    )
    folder.write_result(RunResult(status="finished", seconds=5.0, best_round=1, model_round=2))
    *_, end = watch(folder)
    assert end.endswith("of round 2, the last (best by validation: round 1): global accuracy 50.0%")


def test_a_failed_run_says_why(folder: RunFolder) -> None:
    folder.write_result(RunResult(status="failed", seconds=3.0, error="too few replies"))
    assert list(watch(folder)) == ["failed after 3 s: too few replies"]


def test_a_killed_run_is_told_at_once(folder: RunFolder) -> None:
    with running(folder.path):
        holder = (folder.path / ".running").read_text()
    (folder.path / ".running").write_text(holder)  # what a killed process leaves
    folder.append_round(record(1))
    *_, last = watch(folder)
    assert last == "killed after round 1: its process is gone and left no end"


def test_an_earlier_end_does_not_end_the_watching_of_a_resumed_run(folder: RunFolder) -> None:
    folder.append_round(record(1))
    folder.write_result(RunResult(status="stopped", seconds=9.0, error="stopped"))
    with ExitStack() as resumed:
        resumed.enter_context(running(folder.path))

        def sleep(_: float) -> None:
            folder.append_round(record(2))
            folder.write_result(RunResult(status="finished", seconds=3.0))
            resumed.close()

        lines = list(watch(folder, sleep=sleep))
    assert [line.partition(":")[0] for line in lines] == [
        "round 1/2",
        "round 2/2",
        "finished after 3 s",
    ]


def test_a_torn_line_is_not_told_at_every_look(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.append_round(record(1))
    with (folder.path / "history.jsonl").open("a") as stream:
        stream.write('{"round": 2, "metr')
    looks: list[Callable[[], object]] = [
        lambda: None,
        lambda: None,
        lambda: folder.write_result(RunResult(status="stopped", seconds=5.0)),
    ]
    lines = list(watch(folder, sleep=lambda _: looks.pop(0)()))
    assert [line.partition(":")[0] for line in lines] == ["round 1/2", "stopped after 5 s"]
    assert "torn" not in caplog.text


def test_silence_is_remarked_on_once(folder: RunFolder) -> None:
    folder.append_round(record(1, wall=100.0))
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += 200
        if now[0] > 1000:
            folder.write_result(RunResult(status="failed", seconds=1.0, error="killed"))

    lines = list(watch(folder, sleep=sleep, clock=lambda: now[0]))
    assert [line for line in lines if "nothing new" in line] == [
        "nothing new for 10 min 00 s: is it still running? (flwr list)"
    ]


@pytest.mark.parametrize(
    ("number", "method", "left"),
    [
        (1, "fedavg", "; about 6 s left"),
        (1, "regl", "; likely less than 6 s left"),  # later rounds find their adapters made
        (2, "regl", "; about 4 s left"),
        (4, "regl", ""),
    ],
)
def test_a_round_tells_what_is_left(number: int, method: str, left: str) -> None:
    config = RunConfig.from_flat({"method": method, "rounds": 4})
    expected = f"round {number}/4: global accuracy 50.0%, 2.0 s{left}"
    assert round_line(record(number), config) == expected
