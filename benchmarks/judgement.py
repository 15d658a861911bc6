"""Do the two models' predictions find the good images? `python benchmarks/judgement.py`.

Digits, Dirichlet 0.01, another split for every seed. After some rounds of federated averaging over
a frozen generator's supplement, taught as the methods are (docs/teaching.md), global and local
models judge the shared pool as FedDPD does. A judge trained on all real images, which no client
has, then tells how many of the images are what they are labelled as: of the whole pool, of those
that pass FedDPD's filter, of those selected, of as many that all local models together (the mean of
their log-probabilities, weighted as in FedAvg) read best, of preference optimization's winners and
losers by each `dpo.reward`, and of the images that each so tuned generator makes.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from limits import CPU, JUDGE_STEPS, first_images, read_as_meant, trained
from table import machine_facts, machine_line

from regl_app import (
    Federation,
    ImageSet,
    RunConfig,
    client_quotas,
    federate,
    make_model,
    make_synthesizer,
)
from regl_app.config.choices import REWARDS
from regl_app.core.dotted import resolve
from regl_app.core.files import write_json, write_text
from regl_app.core.types import Counts, Floats, Weights
from regl_app.learning.evaluation.predict import predict_log_probs
from regl_app.learning.models.classifier import Classifier
from regl_app.rounds.averaging import fedavg
from regl_app.rounds.client import Client
from regl_app.rounds.experts import expert_head, say
from regl_app.rounds.federate import FederatedRound
from regl_app.runs.comparison.tables import markdown_table
from regl_app.runs.statistics import mean_interval
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.preference_pairs import rank_pairs
from regl_app.supplement.selection import is_discrepant, select

RESULT = Path(__file__).resolve().parent / "results" / "judgement.md"
CHOSEN = ("pool", "filter passed", "selected", "by consensus")
PREFERRED = tuple(f"{of}, {name}" for name in REWARDS for of in ("winners", "losers"))
MADE = ("made, frozen", *(f"made, {name}" for name in REWARDS))
_FROM = {**dict.fromkeys(CHOSEN + PREFERRED, "pool"), **dict.fromkeys(MADE, "made, frozen")}
_FLOOR = -5.0  # nats
_TUNED = 3  # clients of a seed whose generators are tuned, which takes longest
Shares = dict[str, float]


def main() -> None:
    """Measure after the first and the last round with every seed and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts = machine_facts()
    found: dict[int, list[Shares]] = {1: [], options.rounds: []}
    for seed in range(options.seeds):
        config = RunConfig.from_flat(
            {
                "partition.beta": 0.01,
                "seed": seed,
                "data.seed": seed,
                "supplement.adapter": "dpo",
                "supplement.policy": "balance",
            }
        )
        federation = Federation.load(config, 10)
        judge = trained(config, federation, federation.pooled(), JUDGE_STEPS)
        for number, model, locals_ in _federate(config, federation, options.rounds):
            if number in found:
                shares = _shares(config, federation, judge, model, locals_, number)
                found[number].append(shares)
                print(f"seed {seed}, round {number}: {shares}", flush=True)
    text = _table(found, options.seeds) + f"\n\n{machine_line(facts)}\n"
    write_text(RESULT, text)
    by_round = {str(number): shares for number, shares in found.items()}
    write_json(RESULT.with_suffix(".json"), {"read_as_meant": by_round, "machine": facts})
    print(text)


def _federate(
    config: RunConfig, federation: Federation, rounds: int
) -> Iterator[tuple[int, Classifier, dict[int, Classifier]]]:
    """Yield round, global model and local models of federated averaging, frozen supplement."""
    synthesizer = make_synthesizer(config, federation)
    made: dict[int, ImageSet] = {}

    def images(client: Client, number: int) -> ImageSet:
        quotas = client_quotas(config, client.real_counts, number, client.name)
        if client.partition_id not in made:
            frozen = ClientGenerator.frozen(client.name)
            made[client.partition_id] = synthesizer.generate(
                quotas, frozen, client.data.train
            ).images
        return first_images(made[client.partition_id], quotas)

    shorter = config.updated({"rounds": rounds})
    seen: list[FederatedRound] = []
    federate(shorter, federation.num_clients, own_images=images, on_round=seen.append)
    for done in seen[1:]:
        locals_ = {
            key: _with(config, federation, result.weights)
            for key, result in done.results.items()
            if result.weights is not None
        }
        assert done.held is not None  # the run is taught
        states = [each.weights for each in done.results.values() if each.weights is not None]
        average, shares = fedavg(done.results), say(done.results, done.held)
        bounded_by = done.held if config.teaching.head == "bounded" else None
        weights = expert_head(average, states, shares, bounded_by=bounded_by)
        yield done.number, _with(config, federation, weights), locals_


def _with(config: RunConfig, federation: Federation, weights: Weights) -> Classifier:
    model = make_model(config, federation)
    model.load_state_dict(dict(weights))
    return model


def _shares(
    config: RunConfig,
    federation: Federation,
    judge: torch.nn.Module,
    model: Classifier,
    locals_: dict[int, Classifier],
    number: int,
) -> Shares:
    """Return which share of the images of each kind is read as meant, over all clients."""
    synthesizer = make_synthesizer(config, federation)
    pool = synthesizer.pool(ClientGenerator.frozen("pool")).images
    right, labels = read_as_meant(judge, pool).numpy(), pool.labels.numpy()
    flags: dict[str, list[np.ndarray]] = {name: [] for name in _FROM}
    real = {k: federation.client(k).train.counts(federation.num_classes) for k in locals_}
    classes = range(federation.num_classes)
    rows = np.arange(len(labels))
    answers = [
        predict_log_probs(copy.deepcopy(local), pool.images, CPU).numpy()[rows, labels]
        for local in locals_.values()
    ]
    planned = {k: client_quotas(config, real[k], number, f"client {k}") for k in locals_}
    images = [real[k].sum() + planned[k].sum() for k in locals_]
    # A floor: one model that never saw a class must not outvote the rest.
    scores = np.average(np.maximum(answers, _FLOOR), axis=0, weights=images)
    for client, local in locals_.items():
        pair = ModelPair(copy.deepcopy(model), copy.deepcopy(local), CPU)
        predictions = pair.predictions(pool)
        disagreement = config.supplement.disagreement
        quotas = client_quotas(config, real[client], number + 1, f"client {client}")
        chosen = select(predictions, quotas, disagreement=disagreement, filtered=True)
        agreed = [np.flatnonzero(labels == c)[np.argsort(-scores[labels == c])] for c in classes]
        flags["pool"].append(right)
        flags["filter passed"].append(right[is_discrepant(predictions)])
        flags["selected"].append(right[chosen.indices])
        flags["by consensus"].append(
            right[np.concatenate([a[:q] for a, q in zip(agreed, quotas, strict=True)])]
        )
        for name, judged in REWARDS.items():
            rewards: Floats = resolve(judged.implementation)(predictions, disagreement)
            pairs = rank_pairs(rewards, labels, config.dpo.quantile)
            flags[f"winners, {name}"].append(right[pairs.winners])
            flags[f"losers, {name}"].append(right[pairs.losers])
        if len(flags["made, frozen"]) < _TUNED:
            for name, made in _made(config, federation, f"client {client}", pair, quotas).items():
                flags[name].append(read_as_meant(judge, made).numpy())
    return {name: float(np.concatenate(values).mean()) for name, values in flags.items()}


def _made(
    config: RunConfig, federation: Federation, client: str, pair: ModelPair, quotas: Counts
) -> dict[str, ImageSet]:
    """Return what fills ``quotas`` by the frozen generator, and tuned by each reward."""
    frozen, nothing = ClientGenerator.frozen(client), ImageSet.empty(federation.source.train.shape)
    made = {
        "made, frozen": make_synthesizer(config, federation)
        .generate(quotas, frozen, nothing)
        .images
    }
    for name in REWARDS:
        synthesizer = make_synthesizer(config.updated({"dpo.reward": name}), federation)
        tuned = synthesizer.prefer(frozen, pair)
        made[f"made, {name}"] = synthesizer.generate(quotas, tuned, nothing).images
    return made


def _mean(shares: Sequence[float]) -> str:
    return mean_interval(shares).text(100)


def _table(found: dict[int, list[Shares]], seeds: int) -> str:
    rows = []
    for number, shares in found.items():
        rows.append([f"{number}", *(_mean([each[name] for each in shares]) for name in _FROM)])
        less = [
            "" if name == base else _mean([each[name] - each[base] for each in shares])
            for name, base in _FROM.items()
        ]
        rows.append([f"{number}, gained", *less])
    head = f"digits, 10 clients, Dirichlet 0.01, {seeds} seeds, each with its own split"
    table = markdown_table(["after round", *_FROM], rows)
    return f"""{head}; `python benchmarks/judgement.py`

{table}

Share of the images that a judge, trained on all real images, reads as meant, %. "discrepancy" and
"reading" are `dpo.reward`; made are the images that fill three clients' quotas of the next round.
Gained: the difference to the whole pool or, of what is made, to the frozen generator, paired by
seed."""


if __name__ == "__main__":
    main()
