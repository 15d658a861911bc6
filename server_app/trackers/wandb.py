"""Weights & Biases' view of a run: an account's, or a folder's with WANDB_MODE=offline."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regl_app.core.array_files import Array
from regl_app.core.errors import ConfigError
from regl_app.core.log import logger
from server_app.trackers.identity import remember, remembered
from server_app.trackers.tracker import Status, TrackedRun

NAME = "wandb"
_PROJECT = "regl"


# What WANDB_MODE says where nobody needs to be known.
_WITHOUT_LOGIN = ("offline", "dryrun", "disabled")


def make_wandb() -> WeightsAndBiases:
    """Return the tracker, if it may send what it is told.

    Asked of before the run begins: later wandb would ask at the terminal, amid the rounds, and
    without one the run would go untracked.

    Raises:
        ConfigError: nobody is logged in, or what the environment says is not valid.
    """
    import wandb

    remedy = "wandb login, WANDB_API_KEY, or WANDB_MODE=offline for a folder"
    try:
        settings = wandb.setup(settings=wandb.Settings(silent=True)).settings
        known = settings.mode in _WITHOUT_LOGIN or _logged_in(wandb)
    except Exception as error:  # its own kinds, which differ from version to version
        raise ConfigError(
            f"trackers: 'wandb' cannot be used as it is set up where the server runs: {error} "
            f"({remedy})"
        ) from error
    if not known:
        raise ConfigError(
            f"trackers: 'wandb' has no login for {settings.base_url} where the server runs "
            f"({remedy})"
        )
    return WeightsAndBiases()


def _logged_in(wandb: Any) -> bool:
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except TypeError:  # an earlier version, which would ask
        return wandb.api.api_key is not None


class WeightsAndBiases:
    """Sends to where the server's environment says: WANDB_API_KEY, WANDB_PROJECT, WANDB_MODE."""

    def __init__(self) -> None:
        self._run: Any = None
        self._id = ""
        self._least_step = 0

    def begin(self, run: TrackedRun) -> None:
        """Open the run, or go on with the one of the folder."""
        import wandb

        before = remembered(run.folder, NAME)
        self._id = before or secrets.token_hex(8)
        if before is None:
            remember(run.folder, NAME, self._id)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or _PROJECT,
            id=self._id,
            resume="allow",
            name=run.folder.name,
            group=str(run.config.method),
            dir=str(run.folder.path),
            save_code=False,
            # What is printed, and where this code came from, is nobody's business.
            settings=wandb.Settings(console="off", silent=True, disable_git=True),
        )
        self._run.config.update(dict(run.config.to_flat()), allow_val_change=True)
        classes = {"class_names": list(run.facts.class_names)}
        self._run.config.update(classes, allow_val_change=True)
        # Offline, steps begin at 0 again, and a service may drop what comes second of a step:
        # before, there were a row for each round and one for each client's pictures.
        if run.resumed and self._run.offline:
            self._least_step = run.first_round * (run.facts.num_clients + 2)
        # By wandb's own step a round that is told again after a resume would be dropped.
        self._run.define_metric("round")
        self._run.define_metric("*", step_metric="round")
        logger.info("wandb: %s", self._run.dir if self._run.offline else self._run.url)

    def scalars(self, values: Mapping[str, float], number: int) -> None:
        """Log one round's numbers."""
        self._log(number, values)

    def picture(self, name: str, pixels: Array, number: int) -> None:
        """Log a picture."""
        import wandb

        self._log(number, {name: wandb.Image(pixels)})

    def _log(self, number: int, values: Mapping[str, Any]) -> None:
        step = max(int(self._run.step), self._least_step)
        self._run.log({"round": number, **values}, step=step, commit=True)

    def files(self, paths: Sequence[Path]) -> None:
        """Log all files as one artifact."""
        import wandb

        artifact = wandb.Artifact(f"run-{self._id}", type="regl-run")
        for path in paths:
            artifact.add_file(str(path), name=path.name)
        self._run.log_artifact(artifact)

    def end(self, status: Status) -> None:
        """Close the run."""
        self._run.finish(exit_code=0 if status == "finished" else 1)
