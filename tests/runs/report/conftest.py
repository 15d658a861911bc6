"""Run folders that look like real ones: digits, skewed labels, plausible curves."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.types import Scalar
from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.label_fit import label_fits
from regl_app.runs.features import save_features
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import (
    FederationFacts,
    GlobalMetrics,
    ImageQualities,
    LabelFits,
    Personalized,
    PhaseSeconds,
    RoundRecord,
    RunResult,
    Traffic,
)
from regl_app.runs.samples import save_samples
from regl_app.supplement.image_quality import MEASURES, is_measured

NAMES = [str(digit) for digit in range(10)]
CLIENTS = 10
_FIT = ("js_before", "js_after", "tv_before", "tv_after", "precision")
POINTS = 120

RunMaker = Callable[..., Path]


@lru_cache(maxsize=1)
def _digits() -> ImageSet:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images[:, None] * (255 / 16), dtype=torch.float32)
    large = torch.nn.functional.interpolate(images, size=(32, 32), mode="bilinear")
    return ImageSet(large.to(torch.uint8), torch.tensor(found.target, dtype=torch.int64))


def _pictures(rng: np.random.Generator, labels: list[int], noise: float) -> ImageSet:
    digits = _digits()
    chosen = [
        int(rng.choice(torch.nonzero(digits.labels == label)[:, 0].numpy()))
        for label in labels
        for _ in range(3)
    ]
    picked = digits.subset(chosen)
    noisy = picked.images.float() + torch.tensor(rng.normal(0, noise, picked.images.shape))
    return ImageSet(noisy.clamp(0, 255).to(torch.uint8), picked.labels)


def fake_run(
    out: Path, *, rounds: int = 10, floor: float = 0.95, bare: bool = False, **keys: Scalar
) -> Path:
    """Write a plausible run folder below ``out``; ``bare`` leaves out whatever is optional."""
    flat: dict[str, Scalar] = {"partition.beta": 0.05, "rounds": rounds}
    config = RunConfig.from_flat(flat | {key.replace("__", "."): v for key, v in keys.items()})
    rng = np.random.default_rng(config.seed + len(config.method))
    folder = RunFolder.create(config, out)
    shares = np.random.default_rng(7).dirichlet(np.full(CLIENTS, 0.12), size=10).T
    counts = np.round(shares * 126).astype(int)
    if not bare:
        facts = FederationFacts(
            class_names=NAMES, num_clients=CLIENTS, train_counts=counts.tolist(), test_images=540
        )
        folder.write_facts(facts)
    lacking = np.clip(1 - counts / 60, 0, 1)
    supplies = config.uses_generator
    for number in range(rounds + 1 if not bare else rounds):
        _append(folder, config, number, rng, counts, lacking, floor, bare)
    if not bare:
        _decorate(folder, rng, counts, supplies, config.supplement.adapter == "lora", floor)
    folder.write_result(RunResult(status="finished", seconds=151.3))
    return folder.path


def _append(
    folder: RunFolder,
    config: RunConfig,
    number: int,
    rng: np.random.Generator,
    counts: np.ndarray,
    lacking: np.ndarray,
    floor: float,
    bare: bool,
) -> None:
    grown = 1 - np.exp(-number / (2 if config.uses_generator else 5))
    noise = 0.01 if config.uses_generator else 0.06
    accuracy = float(np.clip(0.1 + (floor - 0.1) * grown + rng.normal(0, noise), 0, 1))
    per_class = np.clip(accuracy + rng.normal(0, 0.05, 10), 0, 1).tolist()
    confusion = _confusion(number, accuracy)
    metrics = GlobalMetrics(
        accuracy=accuracy,
        macro_f1=max(accuracy - 0.01, 0.0),
        loss=2.3 * (1 - accuracy) + 0.1,
        per_class=per_class,
        **({} if bare else {"precision": per_class, "f1": per_class, "confusion": confusion}),
    )
    if bare or number == 0:
        folder.append_round(RoundRecord(round=number, metrics=metrics))
        return
    quotas = np.round(lacking * 100 * (1 - np.exp(-number / 2))).astype(int)
    gap = lacking * 0.9 * np.exp(-number / 4) + rng.normal(0, 0.03, lacking.shape)
    absent = 3 if number == 4 else None

    def rows(matrix: np.ndarray) -> list[list[float] | None]:
        return [None if k == absent else row for k, row in enumerate(matrix.tolist())]

    per_client = {k: float(np.clip(accuracy + rng.normal(0.02, 0.04), 0, 1)) for k in range(10)}
    seconds = {
        "adapt": [float(rng.uniform(5, 7)) if number == 1 else 0.01 for _ in range(10)],
        "generate": rng.uniform(0.4, 3 if number == 1 else 0.8, 10).tolist(),
        "train": rng.uniform(0.5, 0.7, 10).tolist(),
        "probe": rng.uniform(0.05, 0.1, 10).tolist(),
        "evaluate": rng.uniform(0.02, 0.04, 10).tolist(),
    }
    kept = seconds if config.uses_generator else {k: seconds[k] for k in ("train", "evaluate")}
    folder.append_round(
        RoundRecord(
            round=number,
            metrics=metrics,
            personalized=Personalized(
                mean=float(np.mean(list(per_client.values()))), per_client=per_client
            ),
            discrepancy=rows(gap) if config.supplement.policy == "discrepancy" else None,
            quotas=rows(quotas) if config.uses_generator else None,
            labels=_fits(counts, quotas if config.uses_generator else quotas * 0),
            real_counts=rows(counts),
            quality=_quality(rng, counts, quotas, absent) if _measured(config, number) else None,
            synthetic_counts=rows(quotas if config.uses_generator else quotas * 0),
            seconds=PhaseSeconds(
                clients={
                    phase: [None if k == absent else v for k, v in enumerate(spent)]
                    for phase, spent in kept.items()
                },
                server={"wait_train": 3.0, "aggregate": 0.05, "evaluate": 0.2},
                wall=14.0 if number == 1 else 4.0,
            ),
            bytes=Traffic(down=4_100_000, up=4_120_000),
            clients={
                k: {
                    "loss": float(rng.uniform(0.05, 0.4)),
                    "local_accuracy": float(rng.uniform(0.9, 1.0)),
                    "node_id": 2**63 + k,
                    **(_told(rng) if _measured(config, number) else {}),
                }
                for k in range(10)
            },
            failures=["client 3: no reply within 60 s"] if number == 4 else [],
        )
    )


def _confusion(number: int, accuracy: float) -> list[list[int]]:
    # Of a generator of its own: whatever else is drawn stays as it was.
    rng = np.random.default_rng(number)
    shares = np.full((10, 10), (1 - accuracy) / 9)
    np.fill_diagonal(shares, accuracy)
    return [rng.multinomial(54, row / row.sum()).tolist() for row in shares]


def _measured(config: RunConfig, number: int) -> bool:
    return config.uses_generator and is_measured(number)


def _told(rng: np.random.Generator) -> dict[str, float]:
    return {f"images_{name}": float(rng.uniform(0.0, 1.0)) for name in MEASURES}


def _quality(
    rng: np.random.Generator, counts: np.ndarray, quotas: np.ndarray, absent: int | None
) -> ImageQualities:
    def rows(least: int, high: float) -> list[list[float | None] | None]:
        known = (counts >= least) & (quotas > 0)
        values = np.where(known, rng.uniform(0.0, high, counts.shape), np.nan)
        return [None if k == absent else row for k, row in enumerate(values.tolist())]

    return ImageQualities(
        images=[None if k == absent else row for k, row in enumerate(quotas.tolist())],
        reading=rows(0, 1.0),
        fidelity=rows(10, 1.4),
        diversity=rows(10, 1.2),
        near_copies=rows(19, 0.3),
    )


def _fits(counts: np.ndarray, quotas: np.ndarray) -> LabelFits:
    fits = [fit for fit in label_fits(counts, quotas, counts.sum(axis=0)) if fit is not None]
    return LabelFits(**{name: [getattr(fit, name) for fit in fits] for name in _FIT})


def _decorate(
    folder: RunFolder,
    rng: np.random.Generator,
    counts: np.ndarray,
    supplies: bool,
    adapted: bool,
    floor: float,
) -> None:
    if supplies:
        for client in range(CLIENTS):
            held = [label for label in range(10) if counts[client, label]]
            everything = list(range(10))
            save_samples(
                folder.path,
                client,
                real=_pictures(rng, held, 0) if held else ImageSet.empty((1, 32, 32)),
                frozen=_pictures(rng, everything, 60),
                adapted=_pictures(rng, everything, 15) if adapted else None,
                class_names=NAMES,
            )
    labels = rng.integers(0, 10, POINTS)
    centres = rng.normal(0, 1, (10, 32))

    def view(spread: float, right: float) -> tuple[np.ndarray, np.ndarray]:
        wrong = rng.uniform(size=POINTS) > right
        shown = np.where(wrong, rng.integers(0, 10, POINTS), labels)
        features = centres[shown] + rng.normal(0, 2.2 * spread, (POINTS, 32))
        return features.astype(np.float32), np.where(wrong, shown, labels)

    features, predictions = view(0.35, floor)
    save_features(
        folder.path,
        features=features,
        labels=labels,
        predictions=predictions,
        local={2: view(0.6, 0.6), 5: view(0.6, 0.7), 8: view(0.6, 0.6)},
    )


@pytest.fixture(scope="session")
def make_run() -> RunMaker:
    """Return the maker of run folders."""
    return fake_run
