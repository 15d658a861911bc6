"""Who plans a client's quotas in which round: the client from its labels, or the server from D.

The supplement of round t is the first ``q_t[c]`` images of class c in the client's deterministic
sequence: as the budget decays, later rounds reuse what was generated for the earlier ones, and
real images weigh more and more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regl_app.config import RunConfig
from regl_app.config.choices import POLICIES, SITES
from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Counts, Floats
from regl_app.supplement.policy import (
    allocate,
    balance_quotas,
    bootstrap_quotas,
    discrepancy_quotas,
    equal_quotas,
)
from regl_app.supplement.schedule import budgets


def budget(config: RunConfig, num_images: int, num_classes: int, round_number: int) -> int:
    """Return B_t, the synthetic images of round t for a client of ``num_images`` real ones.

    Site ``download`` has none in round 1, before there is a model to compare, and spends the same
    schedule from round 2 on, over one round less.

    The papers' decay is one for each round that a client trains in. Where a share of the clients
    is asked, it is as much for each of a client's own rounds in the mean, as ``server.fraction``
    has it (``server.min-nodes`` may ask more of a small federation): late ones would be given next
    to nothing, however seldom they were asked.
    """
    late = int(SITES[config.supplement.site].sends_images)
    planned = budgets(
        config.supplement.schedule,
        ratio=config.supplement.ratio,
        decay=config.supplement.decay * config.server.fraction,
        rounds=config.rounds - late,
        num_images=num_images,
        most=config.supplement.cap * num_classes,
    )
    return int(planned[round_number - 1 - late])


def client_quotas(config: RunConfig, real_counts: Counts, round_number: int, client: str) -> Counts:
    """Return the quotas a client plans by itself; nothing about its labels leaves it.

    Covers every policy but ``discrepancy`` after its first measurement (``measured_quotas``).

    Args:
        config: the run, whose supplement keys matter here.
        real_counts: the client's real training images per class, ``(C,)``.
        round_number: t = 1, 2, ...
        client: its name, by which ties between classes are broken.
    """
    num_classes, images = len(real_counts), int(real_counts.sum())
    supplement = config.supplement
    if not POLICIES[supplement.policy].generates or images == 0:
        return np.zeros(num_classes, dtype=np.int64)
    total = budget(config, images, num_classes, round_number)
    ties = class_order(config, num_classes, client)
    if POLICIES[supplement.policy].needs_labels:
        wanted = balance_quotas(real_counts, supplement.target, supplement.cap)
        return allocate(wanted, total, wanted, ties)
    if POLICIES[supplement.policy].uniform:
        return equal_quotas(num_classes, total, supplement.cap, ties)
    if config.privacy.noise > 0:
        return blind_quotas(config, images, num_classes, round_number, client)
    return bootstrap_quotas(real_counts, total, supplement.cap, ties)


def blind_quotas(
    config: RunConfig, num_images: int, num_classes: int, round_number: int, client: str
) -> Counts:
    """Return quotas ``(C,)`` that tell nothing about a client but its number of images."""
    total = budget(config, num_images, num_classes, round_number)
    ties = class_order(config, num_classes, client)
    return equal_quotas(num_classes, total, config.supplement.cap, ties)


def measured_quotas(
    config: RunConfig,
    last_quotas: Counts,
    discrepancy: Floats,
    real_images: int,
    next_round: int,
    client: str,
    *,
    measured_round: int,
) -> Counts:
    """Return a client's quotas for ``next_round`` from its measured discrepancy (FedDPD).

    The server plans by this, or the client itself where the vector stays with it.

    Round 1 compares with the untrained model, which knows nothing that a client could lack: its
    mix goes on into round 2.

    Args:
        config: the run, whose supplement keys matter here.
        last_quotas: the client's quotas of the round just finished, ``(C,)``.
        discrepancy: its vector d of that round, ``(C,)``.
        real_images: n_k, its number of real training images.
        next_round: t of the round the quotas are for, >= 2.
        client: its name, by which ties between classes are broken.
        measured_round: t of the round that measured.
    """
    total = budget(config, real_images, len(last_quotas), next_round)
    measured = discrepancy if measured_round > 1 else np.zeros_like(discrepancy)
    keys = config.supplement
    return discrepancy_quotas(
        last_quotas,
        measured,
        total,
        gamma=keys.gamma,
        momentum=keys.momentum,
        cap=keys.cap,
        ties=class_order(config, len(last_quotas), client),
    )


@dataclass(frozen=True, eq=False)
class Measured:
    """What a client's next quotas follow from, in whichever round it is asked again.

    ``held`` ``(C,)`` were its quotas when it measured ``discrepancy`` ``(C,)``, in ``round``;
    ``real_images`` is n_k.
    """

    held: Counts
    discrepancy: Floats
    real_images: int
    round: int

    def quotas(self, config: RunConfig, next_round: int, client: str) -> Counts:
        """Return the quotas of ``client`` for ``next_round``, whose budget they spend."""
        return measured_quotas(
            config,
            self.held,
            self.discrepancy,
            self.real_images,
            next_round,
            client,
            measured_round=self.round,
        )


def uploaded_quotas(
    config: RunConfig,
    last_quotas: Counts | None,
    discrepancy: Floats,
    real_images: int,
    round_number: int,
    client: str,
) -> Counts:
    """Return a client's quotas for round t where the server plans by its uploaded model.

    That model is compared with one averaged after it, so already the first measurement counts.

    Args:
        config: the run, whose supplement keys matter here.
        last_quotas: its quotas before, ``(C,)``; None before the first.
        discrepancy: its vector d, ``(C,)``.
        real_images: n_k.
        round_number: t, whose budget is spent.
        client: its name, by which ties between classes are broken.
    """
    keys = config.supplement
    if POLICIES[keys.policy].uniform:
        return blind_quotas(config, real_images, len(discrepancy), round_number, client)
    return discrepancy_quotas(
        np.zeros(len(discrepancy), dtype=np.int64) if last_quotas is None else last_quotas,
        discrepancy,
        budget(config, real_images, len(discrepancy), round_number),
        gamma=keys.gamma,
        momentum=keys.momentum,
        cap=keys.cap,
        ties=class_order(config, len(discrepancy), client),
    )


def class_order(config: RunConfig, num_classes: int, client: str) -> Counts:
    """Return the order of classes in ties, ``(C,)``: one for each client.

    The same in every round, so that what a later one asks for has been made in an earlier one.
    """
    rng = numpy_generator(config.seed, client, "quotas")
    return rng.permutation(num_classes).astype(np.int64)
