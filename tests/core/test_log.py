"""Progress lines: who does what, and not too many of them."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from regl_app.core import log as progress
from regl_app.core.activity import activity, phase
from regl_app.core.errors import ConfigError
from regl_app.core.log import log_progress, setup_logging


def test_progress_is_logged_now_and_then_with_what_is_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(logging.getLogger("regl"), "propagate", True)
    report = log_progress("client 3", every=5.0)
    with caplog.at_level(logging.INFO, logger="regl"):
        for step in range(0, 101, 10):
            report("adapter steps", step, 100)
            now[0] += 2.0
        report("images", 1, 2)  # just begun: nothing to say yet
    assert [record.message for record in caplog.records] == [
        "client 3: adapter steps 30/100, about 14 s left",
        "client 3: adapter steps 60/100, about 8 s left",
        "client 3: adapter steps 90/100, about 2 s left",
    ]


def test_only_the_known_noise_of_a_library_is_silenced() -> None:
    noise = "__array__ implementation doesn't accept a copy keyword, so passing copy=False failed."
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        setup_logging()
        for text, module in (
            (noise, "diffusers.schedulers.x"),
            (noise, "mine"),
            ("y", "diffusers.x"),
        ):
            warnings.warn_explicit(text, DeprecationWarning, "file.py", 1, module=module)
    assert [str(each.message) for each in shown] == [noise, "y"]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the lines that the logger ``regl`` writes, each formatted as its handler does."""
    logger, written = logging.getLogger("regl"), list[str]()

    class Keep(logging.StreamHandler):  # type: ignore[type-arg]
        def emit(self, record: logging.LogRecord) -> None:
            written.append(self.format(record))

    keep = Keep()
    keep.setFormatter(progress.RunFormatter("plain"))
    monkeypatch.setattr(logger, "handlers", [keep])
    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.delenv(progress.FORMAT_VARIABLE, raising=False)
    yield written
    setup_logging()


def say_something() -> None:
    logger = logging.getLogger("regl")
    logger.info("before")
    with activity("clinic-a", "train", 3):
        phase("adapt")
        logger.info("client 2: 87 real images")
        logger.error("failed: no disk", exc_info=OSError("no disk"))
    with activity("server", "hello"):
        logger.info("client 2: is late")


def test_short_lines_are_what_was_said(lines: list[str]) -> None:
    setup_logging("plain")
    say_something()
    assert lines[0] == "before" and lines[1] == "client 2: 87 real images"


def test_full_lines_open_with_time_level_node_round_and_phase(lines: list[str]) -> None:
    setup_logging("full")
    say_something()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", line) for line in lines)
    assert [line.partition("Z ")[2] for line in lines] == [
        "INFO before",
        "INFO clinic-a round 3 adapt: 87 real images",
        "ERROR clinic-a round 3 adapt: failed: no disk\nOSError: no disk",
        "INFO server hello: client 2: is late",  # of a client, said by the server: kept
    ]


def test_json_lines_hold_the_same_and_the_traceback(lines: list[str]) -> None:
    setup_logging("json")
    say_something()
    before, images, failed, _ = map(json.loads, lines)
    assert before["who"] == "" and before["message"] == "before"
    assert images.pop("time").endswith("Z")
    assert images == {
        "level": "INFO",
        "who": "clinic-a",
        "round": 3,
        "phase": "adapt",
        "message": "87 real images",
    }
    assert "OSError: no disk" in failed["exception"]


@pytest.mark.parametrize(
    ("program", "variable", "wanted", "chosen"),
    [
        ("regl", "", "auto", "plain"),
        ("flwr-simulation", "", "auto", "plain"),
        ("flwr-serverapp", "", "auto", "full"),
        ("flwr-clientapp", "", "auto", "full"),
        ("client_app/worker/server.py", "", "auto", "full"),
        ("flwr-clientapp", "", "plain", "plain"),
        ("flwr-clientapp", "json", "plain", "json"),  # the machine's operator decides
        ("flwr-clientapp", "auto", "plain", "full"),
    ],
)
def test_the_format_is_chosen_by_operator_then_run_then_place(
    program: str,
    variable: str,
    wanted: str,
    chosen: str,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", [f"/somewhere/{program}"])
    monkeypatch.setenv(progress.FORMAT_VARIABLE, variable)
    formatter = setup_logging(wanted).handlers[0].formatter
    assert isinstance(formatter, progress.RunFormatter) and formatter.kind == chosen


def test_a_format_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress.FORMAT_VARIABLE, "xml")
    with pytest.raises(ConfigError, match=r"REGL_LOG_FORMAT must be one of .*json, got 'xml'"):
        setup_logging()


@pytest.mark.parametrize("kind", ["plain", "full", "json"])
def test_the_run_folder_is_found_in_lines_of_any_format(kind: str, lines: list[str]) -> None:
    setup_logging(kind)
    with activity("server", "start"):
        logging.getLogger("regl").info("%s%s", progress.RUN_FOLDER_LINE, "/runs/a b")
        logging.getLogger("regl").info("another run folder: /x")
    assert [progress.run_folder_in(line) for line in lines] == [Path("/runs/a b"), None]
    assert progress.run_folder_in("{no json") is None
