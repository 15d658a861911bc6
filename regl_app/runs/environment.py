"""Where a run happened: versions, machine and source revision, kept beside its configuration."""

from __future__ import annotations

import datetime
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

from regl_app.core.app_code import own_code_hash
from regl_app.core.app_root import APP_ROOT
from regl_app.core.processors import usable_processors
from regl_app.core.version import __version__

CODE = "code"
"""Under this: the digest of the app's own code."""
_PACKAGES = ("flwr", "flwr-datasets", "torch", "torchvision", "diffusers", "peft", "numpy", "ray")


def describe_environment(device: str = "cpu") -> dict[str, str]:
    """Return versions, machine, ``device`` and revision as text, importing nothing heavy."""
    facts = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "regl": __version__,
        "revision": _revision(),
        CODE: own_code_hash(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": str(usable_processors()),
        "device": _device_name(device),
    }
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _device_name(device: str) -> str:
    uses_cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if not uses_cuda or not torch.cuda.is_available():
        return "cpu"
    card = torch.device("cuda" if device == "auto" else device)
    if (card.index or 0) >= torch.cuda.device_count():
        return device  # the run is refused for it, once there is a folder to tell it
    return f"cuda: {torch.cuda.get_device_name(card)}"


def _revision() -> str:
    # An app bundle unpacked inside somebody's repository must not report that repository.
    if not (APP_ROOT / ".git").exists():
        return "unknown"
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--tags"],
            cwd=APP_ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
