"""``regl run`` ends as the run ended: Flower's own exit code does not tell."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Self

import pytest

from regl_app import runner
from regl_app.config import RunConfig
from regl_app.errors import ConfigError, RunError
from regl_app.runner import clean_line, run_flower


class FakeSuperLink:
    """Plays a run whose log and statuses are given."""

    log: str = ""
    statuses: tuple[tuple[str, str], ...] = ()
    interrupt = False
    asked: list[tuple[str, ...]]

    def __init__(self, home: Path) -> None:
        assert home.is_dir()
        type(self).asked = []
        self._left = iter(self.statuses)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append(("closed",))

    def ask(self, *arguments: str, timeout: float = 1.0) -> dict[str, Any]:
        self.asked.append(arguments)
        if arguments[0] == "list":
            status, details = next(self._left)
            return {"runs": [{"status": status, "status-details": details}]}
        return {"success": True, "run-id": "77"}

    def popen(self, *arguments: str) -> Any:
        self.asked.append(arguments)
        if self.interrupt:
            raise KeyboardInterrupt

        class Process:
            stdout = io.StringIO(self.log)

            def terminate(self) -> None: ...
            def wait(self) -> int:
                return 0

        return Process()

    def is_running(self) -> bool:
        return True

    def log_tail(self) -> str:
        return ""


LOG = """\x1b[92mINFO\x1b[0m :      Starting
run folder: /runs/x
(ClientAppActor pid=7) client 1: hi
"""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeSuperLink]:
    class Fake(FakeSuperLink):
        log = LOG
        statuses = (("running", ""), ("finished:completed", ""))

    monkeypatch.setattr(runner, "SuperLink", Fake)
    return Fake


def test_a_completed_run_gives_its_folder_and_clean_lines(fake: type[FakeSuperLink]) -> None:
    lines: list[str] = []
    path = run_flower(RunConfig.from_flat({}), clients=3, on_line=lines.append)
    assert path == Path("/runs/x")
    assert lines == ["run folder: /runs/x", "client 1: hi"] * 2
    submitted = fake.asked[0]
    assert submitted[0] == "run"
    assert "num-supernodes=3 client-resources-num-cpus=1" in submitted[-1]


def test_all_settings_reach_flower(
    fake: type[FakeSuperLink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = fake.ask

    def ask(self: FakeSuperLink, *arguments: str, timeout: float = 1.0) -> dict[str, Any]:
        if arguments[0] == "run":
            seen.append(Path(arguments[4]).read_text())
        return original(self, *arguments, timeout=timeout)

    monkeypatch.setattr(fake, "ask", ask)
    monkeypatch.chdir(tmp_path)
    run_flower(RunConfig.from_flat({"seed": 5, "lora.lr": 1e-5}), clients=1, on_line=lambda _: None)
    assert "seed = 5\n" in seen[0]
    assert "lora.lr = 1e-05\n" in seen[0]
    assert f'out-dir = "{tmp_path}/runs"\n' in seen[0]


@pytest.mark.parametrize("status", ["finished:failed", "finished:stopped"])
def test_any_other_end_raises_with_flowers_details(fake: type[FakeSuperLink], status: str) -> None:
    fake.statuses = ((status, "round 1: 0 of 4 replies"),)
    with pytest.raises(RunError, match=f"{status}: round 1: 0 of 4 replies.*/runs/x"):
        run_flower(RunConfig.from_flat({}), clients=2, on_line=lambda _: None)


def test_a_completed_run_without_a_folder_is_not_a_success(fake: type[FakeSuperLink]) -> None:
    fake.log = "nothing\n"
    with pytest.raises(RunError, match="named no run folder"):
        run_flower(RunConfig.from_flat({}), clients=2, on_line=lambda _: None)


def test_ctrl_c_stops_the_run_and_ends_the_superlink(fake: type[FakeSuperLink]) -> None:
    fake.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        run_flower(RunConfig.from_flat({}), clients=2, on_line=lambda _: None)
    assert fake.asked[-2][:2] == ("stop", "77")
    assert fake.asked[-1] == ("closed",)


def test_parts_of_a_cpu_are_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"whole number >= 1, got 0\.5"):
        run_flower(RunConfig.from_flat({}), clients=2, client_cpus=0.5)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("\x1b[92mINFO \x1b[0m:      configure_train: Sampled 10 nodes\n", None),
        ("\x1b[36m(ClientAppActor pid=123)\x1b[0m client 0: images 3/4\n", "client 0: images 3/4"),
        ("\x1b[91mERROR \x1b[0m:     it broke\n", "ERROR :     it broke"),
        ("\n", None),
        ("round 1/2: global accuracy 10.0%\n", "round 1/2: global accuracy 10.0%"),
        ("2026-11-22 03:19:20,104\tINFO worker.py:2013 -- Started a local Ray\n", None),
    ],
)
def test_the_log_shows_what_matters(raw: str, clean: str | None) -> None:
    assert clean_line(raw) == clean
