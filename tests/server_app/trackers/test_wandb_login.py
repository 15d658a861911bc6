"""Whether Weights & Biases may send anything is known before there is a run: with a stand-in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from regl_app.config import RunConfig
from regl_app.core.errors import ConfigError
from regl_app.flower.engines.in_process import run_in_process
from server_app.trackers import registry
from server_app.trackers.wandb import WeightsAndBiases, make_wandb

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return what puts a stand-in for the package in place: as it is, or as it was."""

    def put(mode: str = "online", *, logged_in: bool = False, early: bool = False) -> None:
        def login(*, verify: bool, prompt: bool = True) -> bool:
            assert not verify, "no server is asked"
            assert not prompt, "nobody is asked"
            return logged_in

        def earlier(*, verify: bool) -> bool:
            raise AssertionError("it would ask at the terminal")

        monkeypatch.setitem(
            sys.modules,
            "wandb",
            SimpleNamespace(
                Settings=lambda **keys: keys,
                setup=lambda settings: SimpleNamespace(
                    settings=SimpleNamespace(mode=mode, base_url="https://there")
                ),
                login=earlier if early else login,
                api=SimpleNamespace(api_key="k" * 40 if logged_in else None),
            ),
        )

    return put


@pytest.mark.parametrize("early", [False, True])
def test_without_a_login_it_is_refused(install: Install, early: bool) -> None:
    install(early=early)
    with pytest.raises(ConfigError, match=r"no login for https://there .*WANDB_MODE=offline"):
        make_wandb()
    install(early=early, logged_in=True)
    assert isinstance(make_wandb(), WeightsAndBiases)


@pytest.mark.parametrize("mode", ["offline", "dryrun", "disabled"])
def test_where_nothing_is_sent_nobody_needs_to_be_known(install: Install, mode: str) -> None:
    install(mode)
    assert isinstance(make_wandb(), WeightsAndBiases)


def test_what_it_refuses_itself_is_told(install: Install) -> None:
    install()

    def setup(**_: object) -> None:
        raise ValueError("WANDB_MODE: must be online or offline")

    sys.modules["wandb"].setup = setup  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="as it is set up where the server runs: WANDB_MODE"):
        make_wandb()


def test_a_run_is_refused_before_there_is_a_folder(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install()
    monkeypatch.setattr(registry, "_is_installed", lambda package: True)
    config = RunConfig.from_flat(
        {"method": "fedavg", "trackers": "wandb", "out-dir": str(tmp_path / "runs")}
    )
    with pytest.raises(ConfigError, match="'wandb' has no login"):
        run_in_process(config, clients=2)
    assert not (tmp_path / "runs").exists()
