"""What a simulated client reserves, checked, and how many workers that makes.

Flower only says that its pool of actors is empty. On GPUs a worker holds a generator: where nobody
says how many there are to be, one for each card.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from regl_app.config import RunConfig
from regl_app.config.run_config import BUNDLED
from regl_app.core.errors import ConfigError
from regl_app.core.log import logger
from regl_app.core.processors import usable_processors


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
    processors = usable_processors()
    if client_cpus > processors:
        raise ConfigError(
            f"CPUs per client must be at most the {processors} that this process may use, got "
            f"{client_cpus:g} (taskset, the container and SLURM bound them)"
        )
    if client_gpus == 0:
        return
    if client_gpus < 0 or (client_gpus > 1 and client_gpus != int(client_gpus)):
        raise ConfigError(
            f"GPUs per client must be 0, a fraction of 1 or a whole number, got {client_gpus:g}"
        )
    if gpus is None:
        from regl_app.core.devices import usable_cards

        gpus = usable_cards()
    if client_gpus > gpus:
        raise ConfigError(
            f"GPUs per client must be at most the {gpus} of this machine, got {client_gpus:g} "
            "(--client-gpus 0 runs on the processors)"
        )


def cards_of(device: str) -> Sequence[int]:
    """Return the GPUs that workers of a run on ``device`` share; none: it runs on processors."""
    from regl_app.core.devices import usable_cards

    found = usable_cards()
    if device in ("auto", "cuda"):
        return range(found)
    return [int(device.partition(":")[2])] if device.startswith("cuda:") else []


def places_in_process(config: RunConfig, client_cpus: int = 1, client_gpus: float = 0.0) -> int:
    """Return how many clients run at once as threads of one process, each with what it holds.

    The generator that ships takes a few MB of a GPU, and is no reason for fewer.

    Args:
        config: the run; a client uses ``config.threads`` processors at least.
        client_cpus: processors per client.
        client_gpus: GPUs per client, up to 1; 0: one each if it has a generator there, else no
            bound.

    Raises:
        ConfigError: the GPUs asked for are not used, or are more than one client can use.
    """
    places = max(1, usable_processors() // max(client_cpus, config.threads))
    cards = _checked_cards(config, client_gpus)
    if client_gpus > 1:
        raise ConfigError(
            f"GPUs per client must be at most 1, got {client_gpus:g}: a client computes on one "
            "(set --client-gpus 1)"
        )
    if client_gpus:
        on_a_card = math.floor(1 / client_gpus + 1e-9)
    elif cards and _holds_a_large_generator(config):
        on_a_card = 1
        _tell(config, len(cards))
    else:
        return places
    return min(places, on_a_card * len(cards))


def reserved_gpus(config: RunConfig, client_cpus: float, client_gpus: float) -> float:
    """Return the GPUs that Flower is to reserve per client: ``client_gpus``, or what fits if 0.

    That is one each if a client has a generator there, else such a share that processors bound
    the number of clients, who are spread over the cards.

    Raises:
        ConfigError: the GPUs asked for are not used, or cannot be told apart.
    """
    cards, device = _checked_cards(config, client_gpus), config.device
    if client_gpus and device.startswith("cuda:") and device != "cuda:0":
        raise ConfigError(
            f"GPUs per client must be 0 with device={device!r}, got {client_gpus:g}: each client "
            "sees the one it is given alone, and counts it as 0 (set device=cuda)"
        )
    if client_gpus or not cards or device.startswith("cuda:"):
        return client_gpus
    if _holds_a_large_generator(config):
        _tell(config, len(cards))
        return 1.0
    places = max(1, usable_processors() // int(client_cpus))
    share = math.floor(len(cards) / places * 1e4) / 1e4  # Ray counts in ten-thousandths
    return min(1.0, share)


def reserved_cpus(config: RunConfig, client_cpus: float, client_gpus: float) -> int:
    """Return the processors that Flower is to reserve per client: all, where one fits at a time.

    ``device=cuda:1`` is no GPU that Ray could count, and a generator there has to be alone.
    """
    named = config.device.startswith("cuda:")
    if client_gpus or not named or not _holds_a_large_generator(config):
        return int(client_cpus)
    _tell(config, 1, "device=cuda and --client-gpus 0.5")
    return usable_processors()


def _holds_a_large_generator(config: RunConfig) -> bool:
    """Return whether a client of ``config`` may fill a GPU: the generator that ships does not."""
    return config.uses_generator and config.generator.path != BUNDLED


def _checked_cards(config: RunConfig, client_gpus: float) -> Sequence[int]:
    cards = cards_of(config.device)
    if client_gpus and not cards:
        raise ConfigError(
            f"GPUs per client must be 0 with device={config.device!r}, which uses none, got "
            f"{client_gpus:g} (set device=cuda, or leave --client-gpus out)"
        )
    return cards


def _tell(config: RunConfig, cards: int, remedy: str = "--client-gpus 0.5") -> None:
    logger.info(
        "device=%r: one client at a time on each of %d GPU%s, since each holds a generator there "
        "(%s for two)",
        config.device,
        cards,
        "s" * (cards != 1),
        remedy,
    )
