"""What a simulated client reserves, checked: Flower only says that its pool of actors is empty."""

from __future__ import annotations

import os

from regl_app.core.errors import ConfigError


def check_resources(client_cpus: float, client_gpus: float, *, gpus: int | None = None) -> None:
    """Refuse reservations of which this machine cannot hold one.

    Args:
        client_cpus: processors per client.
        client_gpus: GPUs per client, may be a fraction.
        gpus: how many there are; None asks torch.

    Raises:
        ConfigError: names the option, its value, what is allowed and the remedy.
    """
    if client_cpus < 1 or client_cpus != int(client_cpus):
        raise ConfigError(f"CPUs per client must be a whole number >= 1, got {client_cpus:g}")
    processors = os.cpu_count() or 1
    if client_cpus > processors:
        raise ConfigError(
            f"CPUs per client must be at most the {processors} of this machine, got {client_cpus:g}"
        )
    if client_gpus == 0:
        return
    if client_gpus < 0 or (client_gpus > 1 and client_gpus != int(client_gpus)):
        raise ConfigError(
            f"GPUs per client must be 0, a fraction of 1 or a whole number, got {client_gpus:g}"
        )
    if gpus is None:
        import torch

        gpus = torch.cuda.device_count()
    if client_gpus > gpus:
        raise ConfigError(
            f"GPUs per client must be at most the {gpus} of this machine, got {client_gpus:g} "
            "(--client-gpus 0 runs on the processors)"
        )
