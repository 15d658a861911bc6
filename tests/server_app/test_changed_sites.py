"""A site's folder changes amid a run: nobody is tested on what was trained on."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from client_app.main import app as honest_app
from regl_app.config import RunConfig
from regl_app.core.types import Scalar
from regl_app.flower.engines.in_process import run_in_process
from regl_app.flower.messages.content import run_of
from regl_app.runs.folder import RunFolder
from server_app.exchange import exchange

TRAINED, EVALUATED = 1, 2
"""How many messages to all sites have been answered."""


class Killed(BaseException):
    """What ends a process ends it anywhere."""


@pytest.fixture
def sites(photos: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """Return two sites with pictures of two classes."""
    folders = [tmp_path / "sites" / name for name in "ab"]
    for folder in folders:
        photos(folder, {"cat": 20, "dog": 20}, width=16, height=16)
    return folders


@pytest.fixture
def start(
    small_settings: dict[str, Scalar],
    sites: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., RunFolder]:
    """Return what runs two rounds, and calls ``then`` after so many answered messages to all."""

    def run(
        name: str,
        after: int = 0,
        then: Callable[[], object] | None = None,
        app: ClientApp | None = None,
        **changes: Scalar,
    ) -> RunFolder:
        own: dict[str, Scalar] = {
            "method": "fedavg",
            "rounds": 2,
            "report": False,
            "data.source": "site",
            "data.classes": "cat,dog",
            "data.image-size": 16,
            "name": name,
            "out-dir": str(tmp_path / "runs"),
            "cache-dir": str(tmp_path / "cache"),
        }
        calls = itertools.count(1)

        def watched(grid: Grid, requests: list[Message], timeout: float) -> list[Message]:
            replies = exchange(grid, requests, timeout)
            if next(calls) == after and then is not None:
                then()
            return replies

        config = RunConfig.from_flat(small_settings | own | changes)
        with monkeypatch.context() as patch:
            patch.setattr("server_app.round_loop.exchange", watched)
            return RunFolder.open(run_in_process(config, sites=sites, workers=1, client_app=app))

    return run


def tapped(told: list[str]) -> ClientApp:
    """Return the project's ClientApp, which adds to ``told`` what requests call their run."""
    app = ClientApp()

    def serve(message: Message, context: Context) -> Message:
        told.append(run_of(message.content))
        return honest_app(message, context)

    app.query()(serve)
    app.train()(serve)
    app.evaluate()(serve)
    return app


def learned(run: RunFolder) -> list[object]:
    return [
        (record.metrics, record.personalized, record.real_counts, record.failures)
        for record in run.read_history()
    ]


def same(one: RunFolder, other: RunFolder) -> bool:
    weights = one.load_model(), other.load_model()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    return learned(one) == learned(other)


def add(folder: Path) -> None:
    """Add pictures, before all others and after them."""
    for label in ("cat", "dog"):
        for number, picture in enumerate(sorted((folder / label).iterdir())[:3]):
            shutil.copy(picture, folder / label / f"{'0-' if number else 'z-'}{number}.png")


def test_pictures_added_amid_a_run_are_the_next_ones(
    start: Callable[..., RunFolder], sites: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    before = start("before")
    with caplog.at_level("WARNING", "regl"):
        amid = start("amid", TRAINED, lambda: add(sites[0]))
    assert same(before, amid)
    (line,) = [each for each in caplog.messages if "6 pictures" in each]
    assert "the next run" in line
    assert learned(start("next"))[0] != learned(before)[0]


def test_a_run_goes_on_with_the_pictures_it_began_with(
    start: Callable[..., RunFolder],
    sites: list[Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = start("whole")

    def killed() -> None:
        raise Killed

    with pytest.raises(Killed):
        start("cut", 3, killed)  # when round 2 was trained
    add(sites[1])
    cut = tmp_path / "runs" / "cut"
    shutil.copytree(cut, tmp_path / "runs" / "again")
    assert same(start("cut", resume=str(cut)), whole)
    unknown = "client 1: nothing here says which pictures this run began with"
    assert unknown not in caplog.text
    shutil.rmtree(tmp_path / "cache" / "state")
    start("again", resume=str(tmp_path / "runs" / "again"))
    assert caplog.text.count(unknown) == 1


def test_a_site_whose_pictures_are_gone_is_left_out_and_says_so(
    start: Callable[..., RunFolder], sites: list[Path]
) -> None:
    gone = sorted((sites[1] / "dog").iterdir())[4]
    history = start("gone", EVALUATED, gone.unlink).read_history()
    assert not history[0].failures
    assert any(
        "client 1: " in failure and f"dog/{gone.name}" in failure for failure in history[1].failures
    )


def test_every_request_of_such_a_run_tells_which_it_is(start: Callable[..., RunFolder]) -> None:
    told: list[str] = []
    start("told", app=tapped(told), rounds=1)
    assert len(told) == 6 and len(set(told)) == 1 and told[0]
