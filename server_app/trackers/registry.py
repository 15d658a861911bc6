"""Every tracker by its name in the configuration, and those that a run asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from regl_app.config import RunConfig
from regl_app.config.choices import TRACKERS
from regl_app.core.errors import ConfigError
from server_app.trackers.mlflow import MLflow
from server_app.trackers.tensorboard import TensorBoard
from server_app.trackers.tracker import Tracker
from server_app.trackers.trackers import Trackers
from server_app.trackers.wandb import make_wandb

MAKERS: Mapping[str, Callable[[], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": make_wandb,
    "mlflow": MLflow,
}


def make_trackers(config: RunConfig) -> Trackers:
    """Return the trackers that ``config`` names, none of them begun.

    Raises:
        ConfigError: the package of one is not installed, with the extra that brings it; or nobody
            is logged in where one needs it.
    """
    for name in config.tracker_names:
        if not _is_installed(TRACKERS[name].package):
            raise ConfigError(
                f"trackers={config.trackers!r}: the package {TRACKERS[name].package!r} is not "
                f"installed where the server runs (pip install 'regl-app[{TRACKERS[name].extra}]', "
                f"or leave {name!r} out)"
            )
    return Trackers({name: MAKERS[name]() for name in config.tracker_names})


def _is_installed(package: str) -> bool:
    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        return False
    # A folder of that name at hand, such as wandb's own, is no package.
    return found is not None and found.origin is not None
