"""Can the server tell who holds what without label counts? `python benchmarks/who_holds_what.py`.

Digits, Dirichlet 0.01, 10 clients, frozen generator, soft labels by the global model, expert head.
First table: what each stand-in for the label counts finds on the same models, those of the run by
counts, after some rounds. Second table: the accuracy of these rounds' global models, had the head
of that round gone by it. Third table: whole runs whose head goes by it (``--rows``). Finished runs
are kept in the result file and not run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from limits import CPU
from scipy.stats import spearmanr
from table import machine_facts, machine_line

from regl_app import Federation, RunConfig, federate, make_model, make_synthesizer
from regl_app.config.parsing import parse_settings
from regl_app.core.files import write_json, write_text
from regl_app.core.log import setup_logging
from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Floats, Scalar, Weights
from regl_app.learning.evaluation.metrics import evaluate
from regl_app.learning.evaluation.predict import predict_log_probs
from regl_app.rounds.averaging import fedavg
from regl_app.rounds.exchange import RoundResult
from regl_app.rounds.experts import expert_head, say
from regl_app.rounds.federate import FederatedRound
from regl_app.rounds.holdings import counts, updates
from regl_app.runs.comparison.tables import markdown_table
from regl_app.supplement.discrepancy import class_discrepancy
from regl_app.supplement.privacy import histogram_epsilon, noisy_histogram

RESULT = Path(__file__).resolve().parent / "results" / "who-holds-what.json"
ROUNDS, CLIENTS = (1, 2, 5, 10), 10
NOISES = (1.2, 4.0, 8.0, 16.0)
BASE: dict[str, Scalar] = {
    "method": "regl-free",
    "partition.beta": 0.01,
    "labels.by": "global",
    "teaching.head": "experts",
    "server.personalized-every": 0,
    "tensorboard": False,
}
PRIVATE: dict[str, Scalar] = {"share-diagnostics": False}
NOISY = PRIVATE | {"teaching.say": "noisy", "privacy.reproducible": True}
ROWS: dict[str, dict[str, Scalar]] = {
    "counts": {"teaching.say": "counts"},
    "updates": PRIVATE | {"teaching.say": "updates"},
    **{f"noisy, sigma {s:g}": NOISY | {"privacy.histogram-noise": s} for s in NOISES},
    "no expert head": PRIVATE | {"teaching.head": "average"},
}
Found = dict[str, float]


def main() -> None:
    """Run what is missing, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="such as cache-dir")
    parser.add_argument("--seeds", default="100,101")
    # Their names have commas.
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=list(ROWS), help="'counts' has to be one"
    )
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    torch.set_num_threads(1)
    setup_logging()
    done = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    done = {"machine": machine_facts(), "accuracy": {}, "found": {}} | done
    for row in options.rows:
        for seed in seeds:
            if str(seed) not in done["accuracy"].setdefault(row, {}):
                own: dict[str, Scalar] = {"seed": seed, "data.seed": seed}
                config = RunConfig.from_flat(BASE | own | parse_settings(options.settings))
                accuracies, found = _run(config, config.updated(ROWS[row]))
                done["accuracy"][row][str(seed)] = accuracies
                if found:
                    done["found"][str(seed)] = found
                print(f"{row}, seed {seed}: {accuracies}", flush=True)
                write_json(RESULT, done)
    text = _document(done, seeds)
    write_text(RESULT.with_suffix(".md"), text)
    print(text)


def _run(base: RunConfig, config: RunConfig) -> tuple[list[float], dict[str, dict[str, Found]]]:
    """Return the accuracy after each round, and what stand-ins found, in the run by counts."""
    found: dict[str, dict[str, Found]] = {}
    accuracies: list[float] = []
    look = Look(base) if config.asks_experts and config.say == "counts" else None

    def on_round(each: FederatedRound) -> None:
        accuracies.append(each.metrics.accuracy)
        if look is not None and each.number > 0:
            found[str(each.number)] = look(each.number, each.results)

    federate(config, CLIENTS, on_round=on_round)
    return accuracies, found if look is not None else {}


class Look:
    """Compares what stand-ins find in a run's uploads with who really holds what."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        federation = Federation.load(config, CLIENTS)
        self._model = make_model(config, federation)
        self._start: Weights = self._model.state_dict()
        self._test = federation.source.test
        self._probe = make_synthesizer(config, federation).probe()

    def __call__(self, number: int, results: Mapping[int, RoundResult]) -> dict[str, Found]:
        """Return each stand-in's agreement with the counts, and go on to the next round."""
        uploads = [each for each in results.values() if each.weights is not None]
        classes = self._model.head.out_features
        real = counts.told(self._start, uploads, classes)
        images = real.sum(axis=1, keepdims=True)
        weight, bias = (_moved(self._start, uploads, name) for name in ("head.weight", "head.bias"))
        guesses: dict[str, Floats] = {
            "updates": updates.guessed(self._start, uploads, classes),
            "its bias": _spread(bias, images),
            "its row's sum": _spread(weight.sum(axis=2), images),
            "its row's positive part": _spread(np.maximum(weight, 0).sum(axis=2), images),
            "its row's length": _spread(np.linalg.norm(weight, axis=2), images),
            "discrepancy": np.maximum(-self._discrepancies(uploads), 0.0),
        }
        for sigma in NOISES:
            keys = self._config.privacy.model_copy(update={"histogram_noise": sigma})
            random = numpy_generator(self._config.seed, "noise", str(sigma))
            told = noisy_histogram(real.astype(np.int64), keys, random)
            guesses[f"noisy, sigma {sigma:g}"] = np.maximum(told, 0.0)
        random = numpy_generator(self._config.seed, "ties")
        guesses["counts, ties broken"] = real + 1e-3 * random.random(real.shape)
        states = [each.weights for each in uploads if each.weights is not None]
        average = fedavg({k: each for k, each in results.items() if each.num_examples > 0})
        found = {name: agreement(guess, real) for name, guess in guesses.items()}
        if number in ROUNDS:
            for name, guess in guesses.items():
                head = expert_head(average, states, say(results, guess))
                found[name]["accuracy"] = self._accuracy(head)
            found["no expert head"] = {"accuracy": self._accuracy(average)}
        self._start = expert_head(average, states, say(results, real))
        return found

    def _accuracy(self, state: Weights) -> float:
        self._model.load_state_dict(dict(state))
        return evaluate(self._model, self._test, self._model.head.out_features, CPU).accuracy

    def _discrepancies(self, uploads: Sequence[RoundResult]) -> Floats:
        answers = [
            self._answers(state) for state in (self._start, *(u.weights or {} for u in uploads))
        ]
        labels, classes = self._probe.labels.numpy(), self._model.head.out_features
        return np.stack([class_discrepancy(answers[0], a, labels, classes) for a in answers[1:]])

    def _answers(self, state: Weights) -> Floats:
        self._model.load_state_dict(dict(state))
        return predict_log_probs(self._model, self._probe.images, CPU).double().numpy()


def agreement(guess: Floats, real: Floats) -> Found:
    """Return how a guess ``(K, C)`` agrees with the counts ``(K, C)``.

    ``class``, ``client``: Spearman's rank correlation over clients, mean over classes that somebody
    holds, and over classes, mean over clients. ``say``: the part of the say in a class that is with
    whom the counts would give it, ``sum_k min(s_k[c], s*_k[c])``, mean over these classes.
    """
    some = real.sum(axis=0) > 0
    by_class = [_rank(guess[:, c], real[:, c]) for c in np.flatnonzero(some)]
    by_client = [_rank(own, held) for own, held in zip(guess, real, strict=True)]
    total = guess.sum(axis=0)
    shares = np.where(total > 0, guess / np.where(total > 0, total, 1.0), 1 / len(guess))
    right = np.minimum(shares[:, some], real[:, some] / real[:, some].sum(axis=0)).sum(axis=0)
    return {
        "class": float(np.mean(by_class)),
        "client": float(np.mean(by_client)),
        "say": float(right.mean()),
    }


def _rank(one: Floats, other: Floats) -> float:
    constant = np.ptp(one) == 0 or np.ptp(other) == 0
    return 0.0 if constant else float(spearmanr(one, other).statistic)


def _moved(start: Weights, uploads: Sequence[RoundResult], name: str) -> Floats:
    return np.stack(
        [((u.weights or {})[name].double() - start[name].double()).numpy() for u in uploads]
    )


def _spread(signal: Floats, images: Floats) -> Floats:
    """Return a client's images over its classes by what is above its mean, ``(K, C)``."""
    above = np.maximum(signal - signal.mean(axis=1, keepdims=True), 0.0)
    spread: Floats = images * above / np.maximum(above.sum(axis=1, keepdims=True), 1e-12)
    return spread


def _document(done: dict[str, Any], seeds: Sequence[int]) -> str:
    found = [done["found"][str(seed)] for seed in seeds]

    def cell(number: int, name: str) -> str:
        each = [one[str(number)][name] for one in found]
        kinds = ("class", "client", "say")
        return " / ".join(f"{np.mean([one[kind] for one in each]):.2f}" for kind in kinds)

    def once(number: int, name: str) -> str:
        return f"{100 * np.mean([one[str(number)][name]['accuracy'] for one in found]):.1f}"

    names = list(found[0]["1"])
    agreements = [
        [name, *(cell(number, name) for number in ROUNDS)]
        for name in names
        if "class" in found[0]["1"][name]
    ]
    single = [[name, _epsilons(name), *(once(n, name) for n in ROUNDS)] for name in names]
    ends = []
    for row in (row for row in ROWS if done["accuracy"].get(row)):
        runs = [done["accuracy"][row].get(str(seed)) for seed in seeds]
        last = [f"{100 * np.mean(run[-3:]):.1f}" if run else "-" for run in runs]
        whole = [run for run in runs if run] if all(runs) else []
        mean = f"{100 * np.mean([run[-3:] for run in whole]):.1f}" if whole else "-"
        early = f"{100 * np.mean([run[3] for run in whole]):.1f}" if whole else "-"
        ends.append([row, _epsilons(row), *last, mean, early])
    of = ", ".join(map(str, seeds))
    first = markdown_table(["stand-in", *(f"round {n}" for n in ROUNDS)], agreements)
    heads = ["who holds what, by", "epsilon"]
    second = markdown_table([*heads, *(f"round {n}" for n in ROUNDS)], single)
    third = markdown_table([*heads, *(f"seed {s}" for s in seeds), "mean", "round 3"], ends)
    return f"""digits, 10 clients, Dirichlet 0.01, method=regl-free labels.by=global \
teaching.head=experts, seeds {of} (each another split); `python benchmarks/who_holds_what.py`

Agreement with the true label counts, on the models of the run by counts: Spearman's rank \
correlation over clients (mean over classes) / over classes (mean over clients) / part of the say \
in a class that is with the right clients. Most counts are 0, alike; *ties broken*: what the true \
counts themselves reach where a guess puts those in a chance order.

{first}

Accuracy on the server's test images, %, of these rounds' global models, if the head of that round \
alone goes by the stand-in, all before it by the counts; mean of the seeds. Epsilon at delta 1e-5 \
for one image more or less (in brackets: for one label changed), were the noise secret and on the \
counts of all images, as it is in a run; measured is with noise on the training counts, from a seed.

{second}

Whole runs: mean accuracy of the last three rounds, %, and after round 3.

{third}

{machine_line(done["machine"])}
"""


def _epsilons(row: str) -> str:
    if not row.startswith("noisy"):
        return "infinite" if row.startswith("counts") else "-"
    noise = float(row.rpartition(" ")[2])
    secret = {"privacy.reproducible": False}  # what the noise would give, were it no comparison's
    config = RunConfig.from_flat(BASE | NOISY | secret)
    each = [config.updated({"privacy.histogram-noise": by}) for by in (noise, noise / 2**0.5)]
    return "{:.2f} ({:.2f})".format(*map(histogram_epsilon, each))


if __name__ == "__main__":
    main()
