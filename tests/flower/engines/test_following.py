"""A run is followed for as long as somebody is there who runs it, and no longer."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from regl_app.core.errors import RunError
from regl_app.flower.engines import following
from regl_app.flower.engines.command import FlowerCommand
from regl_app.flower.engines.following import follow


class Log:
    """Plays ``flwr log --stream``: ``lines``, and then its end or, ``silent``, silence."""

    def __init__(self, lines: list[str], *, silent: bool = False, status: int = 0) -> None:
        self._lines, self._silent, self._status = lines, silent, status
        self.ended = threading.Event()
        self.stdout = self

    def __iter__(self) -> Iterator[str]:
        yield from (f"{line}\n" for line in self._lines)
        if self._silent:
            self.ended.wait(60.0)

    def terminate(self) -> None:
        self.ended.set()

    def wait(self, timeout: float | None = None) -> int:
        return self._status

    def close(self) -> None: ...


class Flower(FlowerCommand):
    """Plays a SuperLink whose streams and answers are given; '' is none."""

    def __init__(self, logs: list[Log], statuses: list[str]) -> None:
        super().__init__("site")
        self.logs, self.statuses = logs, statuses
        self.asked: list[str] = []
        self.running = True

    def popen(self, *arguments: str) -> Any:
        self.asked.append("log")
        return self.logs.pop(0)

    def ask(self, *arguments: str, timeout: float = 1.0) -> dict[str, Any]:
        self.asked.append(arguments[0])
        status = self.statuses.pop(0) if self.statuses else ""
        if not status:
            raise RunError("flwr list failed: timed out")
        return {"runs": [{"status": status, "status-details": "so it is"}]}

    def is_running(self) -> bool:
        return self.running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SILENT_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(following, name, 0.2)
    monkeypatch.setattr(following, "LOST_SECONDS", 20.0)


def test_a_superlink_that_falls_silent_amid_its_log_is_asked_and_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "LOST_SECONDS", 1.0)
    log = Log(["one"], silent=True)
    flower = Flower([log], [])
    lines: list[str] = []
    begun = time.monotonic()
    with pytest.raises(RunError, match=r"not answered for 1 s; run 7 .*\(flwr log 7 site\)"):
        follow(flower, "7", lines.append, far=True)
    assert time.monotonic() - begun < 30.0
    assert lines == ["one"] and log.ended.is_set()


def test_a_log_that_fell_silent_goes_on_where_it_was() -> None:
    logs = [Log(["one", "two"], silent=True), Log(["one", "two", "three"])]
    flower = Flower(logs, ["", "running", "finished:completed"])
    lines: list[str] = []
    assert follow(flower, "7", lines.append, far=True) == ("finished:completed", "so it is")
    assert lines == ["one", "two", "three"]
    assert flower.asked == ["log", "list", "list", "log", "list"]


@pytest.mark.parametrize("silent", [False, True])
def test_what_a_broken_stream_did_not_show_is_shown_once_the_run_has_ended(
    silent: bool,
) -> None:
    logs = [Log(["one"], silent=True), Log(["one", "two"], silent=silent)]
    flower = Flower(logs, ["finished:failed"] * 2)
    lines: list[str] = []
    assert follow(flower, "7", lines.append, far=True) == ("finished:failed", "so it is")
    assert lines == ["one", "two"]


def test_a_superlink_at_hand_may_be_silent_for_as_long_as_it_lives() -> None:
    log = Log(["one"], silent=True)
    flower = Flower([log], [])
    threading.Timer(1.0, lambda: setattr(flower, "running", False)).start()
    with pytest.raises(RunError, match="the SuperLink died during the run"):
        follow(flower, "7", lambda _: None, far=False)
    assert flower.asked == ["log", "list"]


def test_a_line_is_read_when_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    program = "import time; print('one'); time.sleep(20)"
    command: Callable[..., list[str]] = lambda self, *_: [sys.executable, "-c", program]  # noqa: E731
    monkeypatch.setattr(FlowerCommand, "command", command)
    log = FlowerCommand("site").popen("log")
    lines: list[str] = []
    assert log.stdout is not None
    reader = threading.Thread(target=lambda: lines.append(next(iter(log.stdout or ()))))
    reader.start()
    reader.join(15.0)
    log.kill()
    log.wait()
    reader.join()
    log.stdout.close()
    assert lines == ["one\n"]


@pytest.mark.parametrize("silent", [False, True])
def test_a_run_is_not_waited_for_once_nothing_runs_it(silent: bool) -> None:
    """The SuperLink itself answers for ever that the run is running, or pending."""
    flower = Flower([Log(["one"], silent=silent) for _ in range(9)], ["running"] * 9)
    flower.running = False
    with pytest.raises(RunError, match=r"flower-superexec.* died during the run.*--resume FOLDER"):
        follow(flower, "7", lambda _: None, far=False)
    assert flower.asked == ["log", "list"]


def test_a_stream_that_ended_by_an_error_is_shown_to_its_end() -> None:
    logs = [Log(["one"], status=1), Log(["one", "two"])]
    lines: list[str] = []
    told = follow(Flower(logs, ["finished:completed"] * 2), "7", lines.append, far=False)
    assert told == ("finished:completed", "so it is")
    assert lines == ["one", "two"] and not logs
