"""``regl run`` ends as the run ended: Flower's own exit code does not tell."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Self

import pytest

from regl_app.config import RunConfig
from regl_app.core.errors import ConfigError, DataError, RunError, StorageError
from regl_app.core.processors import usable_processors
from regl_app.flower.engines import flower_run as runner
from regl_app.flower.engines import following
from regl_app.flower.engines.flower_run import run_deployed, run_flower
from regl_app.flower.engines.following import clean_line
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import RunResult

# What a server says that is ended by whomever.
STOP = "stopped from outside"


class FakeSuperLink:
    """Plays a run whose log and statuses are given."""

    log: str = ""
    statuses: tuple[tuple[str, str], ...] = ()
    interrupt = False
    asked: list[tuple[str, ...]]
    connection = "regl"

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
        return {"success": True, "run-id": "77", "fab-filename": "regl.regl-app.0-1-0.12345678.fab"}

    def popen(self, *arguments: str) -> Any:
        self.asked.append(arguments)
        if self.interrupt:
            raise KeyboardInterrupt

        class Process:
            stdout = io.StringIO(self.log)

            def terminate(self) -> None: ...
            def wait(self, timeout: float | None = None) -> int:
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
    assert lines == ["run folder: /runs/x", "client 1: hi"]  # streamed twice, shown once
    submitted = fake.asked[0]
    assert submitted[0] == "run"
    assert "num-supernodes=3 client-resources-num-cpus=1" in submitted[-1]


def test_a_share_of_a_gpu_per_client_reaches_ray(
    fake: type[FakeSuperLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regl_app.core.devices.usable_cards", lambda: 2)
    run_flower(RunConfig.from_flat({}), clients=8, client_gpus=0.25, on_line=lambda _: None)
    assert fake.asked[0][-1] == (
        "num-supernodes=8 client-resources-num-cpus=1 client-resources-num-gpus=0.25 "
        f"init-args-num-cpus={usable_processors()}"
    )


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


def hang_up(_: str) -> None:
    os.kill(os.getpid(), signal.SIGHUP)


@pytest.fixture
def on_hangup() -> Iterator[Callable[[Any], None]]:
    """Return what sets how this process takes SIGHUP."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda how: signal.signal(signal.SIGHUP, how)
    signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_stops_the_run_and_ends_the_superlink(
    fake: type[FakeSuperLink], monkeypatch: pytest.MonkeyPatch, on_hangup: Callable[[Any], None]
) -> None:
    escaped: list[int] = []

    def escape(number: int, _: object) -> None:
        escaped.append(number)

    def leave(self: FakeSuperLink, *_: object) -> None:
        hang_up("again: a shell and the terminal both say so")
        self.asked.append(("closed",))

    on_hangup(escape)
    monkeypatch.setattr(fake, "__exit__", leave)
    with pytest.raises(SystemExit) as ended:
        run_flower(RunConfig.from_flat({}), clients=2, on_line=hang_up)
    assert ended.value.code == 128 + signal.SIGHUP and not escaped
    assert fake.asked[-2][:2] == ("stop", "77")
    assert fake.asked[-1] == ("closed",)
    assert signal.getsignal(signal.SIGHUP) is escape


def test_a_run_that_is_to_outlive_its_terminal_does(
    fake: type[FakeSuperLink], on_hangup: Callable[[Any], None]
) -> None:
    on_hangup(signal.SIG_IGN)  # nohup
    assert run_flower(RunConfig.from_flat({}), clients=2, on_line=hang_up) == Path("/runs/x")
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_closed_terminal_leaves_a_deployed_run_alone(
    site: Any, on_hangup: Callable[[Any], None]
) -> None:
    heard: list[int] = []
    on_hangup(lambda number, _: heard.append(number))
    assert run_deployed(RunConfig.from_flat({}), "site", hang_up) == Path("/runs/x")
    assert heard


def test_parts_of_a_cpu_are_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"whole number >= 1, got 0\.5"):
        run_flower(RunConfig.from_flat({}), clients=2, client_cpus=0.5)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("\x1b[92mINFO \x1b[0m:      configure_train: Sampled 10 nodes\n", None),
        ("\x1b[36m(ClientAppActor pid=123)\x1b[0m client 0: images 3/4\n", "client 0: images 3/4"),
        ("\x1b[91mERROR \x1b[0m:     it broke\n", "ERROR :     it broke"),
        ("\x1b[93mWARNING \x1b[0m:   Manually terminating ClientAppActor\n", None),
        ("\x1b[93mWARNING \x1b[0m:   it is slow\n", "WARNING :   it is slow"),
        ("\n", None),
        ("round 1/2: global accuracy 10.0%\n", "round 1/2: global accuracy 10.0%"),
        ("2026-11-22 03:19:20,104\tINFO worker.py:2013 -- Started a local Ray\n", None),
    ],
)
def test_the_log_shows_what_matters(raw: str, clean: str | None) -> None:
    assert clean_line(raw) == clean


def test_a_deployed_run_ends_as_truthfully(
    fake: type[FakeSuperLink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flower(connection: str) -> FakeSuperLink:
        assert connection == "site"
        return fake(tmp_path)

    monkeypatch.setattr(runner, "FlowerCommand", flower)
    fake.log = "run folder: /srv/runs/a\nround 1\n"
    fake.statuses = (("finished:completed", ""),)
    lines: list[str] = []
    config = RunConfig.from_flat({"out-dir": "there"})
    assert run_deployed(config, "site", lines.append) == Path("/srv/runs/a")
    assert lines == ["run folder: /srv/runs/a", "round 1"]
    submitted = next(arguments for arguments in fake.asked if arguments[0] == "run")
    assert "--federation-config" not in submitted
    fake.statuses = (("finished:failed", "no node"),)
    with pytest.raises(RunError, match="finished:failed: no node"):
        run_deployed(config, "site", lines.append)
    fake.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        run_deployed(config, "site", lines.append)
    assert any(arguments[0] == "stop" for arguments in fake.asked)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A SuperLink that is there already; ``refuse``: what it does not answer, how often."""
    refuse: dict[str, int] = {}

    class Site(FakeSuperLink):
        log = LOG
        statuses = (("running", ""), ("finished:completed", ""))
        connection = "site"
        refuse: dict[str, int]

        def __init__(self, connection: str) -> None:
            super().__init__(tmp_path)

        def ask(self, *arguments: str, timeout: float = 1.0) -> dict[str, Any]:
            if refuse.get(arguments[0]):
                refuse[arguments[0]] -= 1
                raise RunError(f"flwr {arguments[0]} failed: unreachable")
            return super().ask(*arguments, timeout=timeout)

    Site.refuse = refuse
    monkeypatch.setattr(runner, "FlowerCommand", Site)
    return Site


def test_a_superlink_that_is_away_for_a_while_does_not_end_a_deployed_run(site: Any) -> None:
    site.refuse["list"] = 2
    assert run_deployed(RunConfig.from_flat({}), "site", lambda _: None) == Path("/runs/x")
    assert site.refuse["list"] == 0


def test_a_superlink_away_once_its_log_was_followed_for_long_does_not_end_a_deployed_run(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOST_SECONDS", 1.0)
    original = site.popen

    def popen(self: FakeSuperLink, *arguments: str) -> Any:
        if not any(asked[0] == "log" for asked in self.asked):
            time.sleep(1.2)
        return original(self, *arguments)

    monkeypatch.setattr(site, "popen", popen)
    site.refuse["list"] = 1
    assert run_deployed(RunConfig.from_flat({}), "site", lambda _: None) == Path("/runs/x")
    assert site.refuse["list"] == 0


def test_a_deployed_run_names_its_bundle_once_for_the_operators_of_the_nodes(
    site: Any, fake: type[FakeSuperLink]
) -> None:
    lines: list[str] = []
    run_deployed(RunConfig.from_flat({}), "site", lines.append)
    assert lines[0] == "bundle: regl.regl-app.0-1-0.12345678.fab"
    assert sum("bundle" in line for line in lines) == 1
    simulated: list[str] = []
    run_flower(RunConfig.from_flat({}), clients=1, on_line=simulated.append)
    assert simulated == lines[1:]


def test_a_superlink_that_stays_away_is_given_up_and_the_run_named(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOST_SECONDS", 0.0)
    site.refuse["list"] = 5
    with pytest.raises(RunError, match=r"run 77 may go on there \(flwr log 77 site\): .*unreach"):
        run_deployed(RunConfig.from_flat({}), "site", lambda _: None)


def test_who_cannot_stop_a_deployed_run_is_told_that_it_may_go_on(
    site: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    site.interrupt, site.refuse["stop"] = True, 1
    with pytest.raises(KeyboardInterrupt):
        run_deployed(RunConfig.from_flat({}), "site", lambda _: None)
    told = capsys.readouterr().err
    assert "run 77 could not be stopped and may go on (flwr stop 77 site)" in told


def test_a_superlink_of_ones_own_is_not_waited_for_once_it_is_dead(
    fake: type[FakeSuperLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = fake.ask

    def ask(self: FakeSuperLink, *arguments: str, timeout: float = 1.0) -> dict[str, Any]:
        if arguments[0] == "list":
            raise RunError("flwr list failed: unreachable")
        return original(self, *arguments, timeout=timeout)

    monkeypatch.setattr(fake, "ask", ask)
    monkeypatch.setattr(fake, "is_running", lambda self: False)
    with pytest.raises(RunError, match="the SuperLink died during the run"):
        run_flower(RunConfig.from_flat({}), clients=2, on_line=lambda _: None)


@pytest.mark.parametrize(
    ("status", "own", "left"),
    [
        ("finished:failed", None, ("failed", "the run ended as finished:failed: killed")),
        ("finished:failed", "too few replies", ("failed", "too few replies")),
        ("finished:failed", STOP, ("failed", "the run ended as finished:failed: killed")),
        ("finished:stopped", STOP, ("stopped", STOP)),
        ("interrupted", None, ("stopped", "stopped by the user")),
    ],
)
def test_a_server_that_could_not_tell_its_end_has_it_told(
    status: str,
    own: str | None,
    left: tuple[str, str],
    fake: type[FakeSuperLink],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    if own:
        how: Literal["failed", "stopped"] = "stopped" if own == STOP else "failed"
        folder.write_result(RunResult(status=how, seconds=1.0, error=own))
    monkeypatch.setattr(fake, "log", f"run folder: {folder.path}\n")
    monkeypatch.setattr(fake, "statuses", ((status, "killed"),))

    def line(_: str) -> None:
        if status == "interrupted":
            raise KeyboardInterrupt

    with pytest.raises((RunError, KeyboardInterrupt)):
        run_flower(RunConfig.from_flat({}), clients=3, on_line=line)
    result = folder.read_result()
    assert result is not None and (result.status, result.error) == left


@pytest.mark.parametrize(("before", "left"), [(False, "stopped"), (True, "failed")])
def test_what_fails_by_being_stopped_is_stopped(
    before: bool,
    left: str,
    fake: type[FakeSuperLink],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray may end the clients before the server, which then has no replies and says it failed."""
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    failed = RunResult(status="failed", seconds=1.0, error="no replies")
    monkeypatch.setattr(fake, "log", f"run folder: {folder.path}\n")

    def line(_: str) -> None:
        if before:
            folder.write_result(failed)
        raise KeyboardInterrupt

    def closed(self: FakeSuperLink, *_: object) -> None:
        folder.write_result(failed)

    monkeypatch.setattr(fake, "__exit__", closed)
    with pytest.raises(KeyboardInterrupt):
        run_flower(RunConfig.from_flat({}), clients=3, on_line=line)
    result = folder.read_result()
    assert result is not None and result.status == left


def test_ctrl_c_while_a_failed_run_is_closed_leaves_why_it_failed(
    fake: type[FakeSuperLink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    failed = RunResult(status="failed", seconds=1.0, error="no replies")
    monkeypatch.setattr(fake, "log", f"run folder: {folder.path}\n")
    monkeypatch.setattr(fake, "statuses", (("finished:failed", "no replies"),))

    def closed(self: FakeSuperLink, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "__exit__", closed)
    with pytest.raises(KeyboardInterrupt):
        run_flower(
            RunConfig.from_flat({}), clients=3, on_line=lambda _: folder.write_result(failed)
        )
    assert folder.read_result() == failed


def test_a_ray_that_did_not_start_is_named_with_a_remedy(fake: type[FakeSuperLink]) -> None:
    fake.log = LOG + "Exception: The current node timed out during startup. This could happen\n"
    fake.statuses = (("finished:failed", "Simulation failed with exception: ..."),)
    with pytest.raises(RunError, match=r"failed: Ray did not start in time: .* --engine in-proc"):
        run_flower(RunConfig.from_flat({}), clients=2, on_line=lambda _: None)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"data.source": "folder"}, "nowhere' is not a folder"),
        ({"data.source": "mnist"}, "nowhere"),
        ({"data.source": "cifar10"}, "nowhere"),
        ({"data.source": "tiny-imagenet"}, "nowhere"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_before_anything_starts(
    settings: dict[str, str], expected: str, fake: type[FakeSuperLink], tmp_path: Path
) -> None:
    keys = settings | {"data.path": str(tmp_path / "nowhere")}
    with pytest.raises(DataError, match=expected):
        run_flower(RunConfig.from_flat(keys), clients=2, on_line=lambda _: None)
    config = RunConfig.from_flat({"resume": str(tmp_path / "nowhere")})
    with pytest.raises(RunError, match="nowhere is not a run folder"):
        run_flower(config, clients=2, on_line=lambda _: None)
    assert not hasattr(fake, "asked")


def test_ray_gets_the_processors_that_this_process_may_use(
    fake: type[FakeSuperLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "usable_processors", lambda: 3)
    run_flower(RunConfig.from_flat({}), clients=8, on_line=lambda _: None)
    assert fake.asked[0][-1].split()[-1] == "init-args-num-cpus=3"


@pytest.mark.usefixtures("fake")
def test_a_run_without_room_or_rights_for_its_files_says_so_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    with pytest.raises(StorageError, match=r"TMPDIR=.*absent cannot be written"):
        run_flower(RunConfig.from_flat({}), clients=1)
    monkeypatch.delenv("TMPDIR")
    (tmp_path / "file").touch()
    for key in ("out-dir", "cache-dir"):
        inside = str(tmp_path / "file" / "runs")
        with pytest.raises(StorageError, match=rf"^{key}='.*file/runs' cannot be written \("):
            run_flower(RunConfig.from_flat({key: inside}), clients=1)
    with pytest.raises(StorageError, match=r"^cache-dir='"):  # clients keep their controls there
        run_flower(RunConfig.from_flat({"method": "scaffold", "cache-dir": inside}), clients=1)


def test_our_own_errors_are_shown_without_flowers_trace(fake: type[FakeSuperLink]) -> None:
    trace = """Traceback (most recent call last):
  File "a.py", line 3, in main
    raise
{}: it is so
the next line
"""
    fake.log = (
        LOG
        + trace.format("regl_app.core.errors.DataError")
        + trace.format("ValueError").replace("next", "last")
    )
    lines: list[str] = []
    run_flower(RunConfig.from_flat({}), clients=1, on_line=lines.append)
    assert lines[2:] == [
        "the next line",
        *trace.format("ValueError").replace("next", "last").splitlines(),
    ]
