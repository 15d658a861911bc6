"""A comparison's tables: means, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from regl_app.core.formats import span
from regl_app.runs.comparison.outcome import Outcome
from regl_app.runs.statistics import TARGET_ACCURACY, mean_interval, paired


@dataclass(frozen=True)
class Comparison:
    """All finished runs of a comparison and what became of the others."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    clients: int
    outcomes: tuple[Outcome, ...]
    failures: tuple[str, ...]

    def of(self, method: str) -> list[Outcome]:
        """Return the finished runs of ``method``, by seed."""
        found = [outcome for outcome in self.outcomes if outcome.method == method]
        return sorted(found, key=lambda outcome: outcome.seed)

    @property
    def tailed(self) -> bool:
        """Return whether runs were also judged on the test set of a long tail."""
        return any(run.summary.tail_accuracy is not None for run in self.outcomes)

    @property
    def chosen(self) -> bool:
        """Return whether a run chose among its rounds: else it is the last that counts."""
        return any(run.keeps for run in self.outcomes)

    @property
    def at_clients(self) -> bool:
        """Return whether no run has a whole global model: only accuracies at clients compare."""
        return bool(self.outcomes) and not any(run.whole for run in self.outcomes)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows: one row per method, accuracies in percent."""
        columns: dict[str, Callable[[list[Outcome]], str]] = {
            "model of round": lambda runs: _kept(runs) if self.chosen else "-",
            "global accuracy %": lambda runs: _percent(runs, "accuracy"),
            "mean of all rounds %": lambda runs: _percent(runs, "mean_accuracy"),
            "long-tail accuracy %": lambda runs: _percent(runs, "tail_accuracy"),
            "global model at clients %": lambda runs: _percent(runs, "personalized"),
            "own models at clients %": lambda runs: _percent(runs, "own_models"),
            f"rounds to {TARGET_ACCURACY:.0%}": _rounds,
            "JS distance": _distances,
            "precision %": lambda runs: _percent(runs, "precision"),
            "runs": lambda runs: f"{len(runs)}/{len(self.seeds)}",
            "s/run": lambda runs: f"{mean_interval(_known(runs, 'seconds')).mean:.0f}",
        }
        cells = {
            name: [cell(runs) if (runs := self.of(method)) else "-" for method in self.methods]
            for name, cell in columns.items()
        }
        cells["runs"] = [f"{len(self.of(method))}/{len(self.seeds)}" for method in self.methods]
        # What no run measured is no column.
        shown = [name for name, column in cells.items() if set(column) != {"-"} or name == "s/run"]
        rows = [
            [method, *(cells[name][index] for name in shown)]
            for index, method in enumerate(self.methods)
        ]
        return ["method", *shown], rows

    def differences(self, of: str = "accuracy") -> tuple[list[str], list[list[str]]]:
        """Return header and rows: accuracy of the row's method minus the column's, in points.

        It is that of the model that each run keeps: the last round's, or the best one's where it
        chose by validation images.

        ``of`` is the number of the summaries that is compared: 'accuracy', 'tail_accuracy',
        'mean_accuracy' (of all rounds) or 'personalized' (at the clients).

        Paired by seed: runs of one seed share the split and the initial model, so the interval of
        the differences is the one to judge by, not whether two methods' intervals overlap.
        """
        rows = []
        for index, method in enumerate(self.methods[1:], start=1):
            cells = [self._difference(method, other, of) for other in self.methods[:index]]
            rows.append([method, *cells, *[""] * (len(self.methods) - 1 - index)])
        return ["difference in points", *(f"- {name}" for name in self.methods[:-1])], rows

    def gaps(self) -> list[tuple[str, tuple[list[str], list[list[str]]]]]:
        """Return the tables of differences that rows are judged by, each below its title."""
        whole = {"Global accuracy": "accuracy"} if not self.at_clients else {}
        tail = {"Long-tail accuracy": "tail_accuracy"} if self.tailed else {}
        partial = any(not run.whole for run in self.outcomes)
        clients = {"Accuracy at the clients": "personalized"} if partial else {}
        return [
            (f"{what}, row minus column", self.differences(of))
            for what, of in (whole | tail | clients).items()
        ]

    def _difference(self, method: str, other: str, of: str) -> str:
        base, own = (
            {run.seed: value for run in self.of(name) for value in _known([run], of)}
            for name in (other, method)
        )
        found = paired(own, base)
        return found.text(100) if found else "-"

    def to_markdown(self) -> str:
        """Return both tables, with what the figures mean."""
        parts = [markdown_table(*self.table())]
        tailed = self.tailed
        judged = "long-tail accuracy" if tailed else "global accuracy"
        if self.at_clients:
            judged = "accuracy at the clients"
        final = "final " if not self.chosen else ""
        if self.chosen:
            parts.append(
                "Accuracies are those of the model that a run keeps: the best round's by its "
                "clients' validation images, or the last one's."
            )
        if len(self.seeds) > 1:
            parts.append(
                f"Mean ± half width of the 95 % t-interval, {len(self.seeds)} seeds. Differences "
                f"of {final}{judged}, row minus column, are paired by seed:"
            )
        if len(self.methods) > 1 and self.at_clients:
            parts.append(markdown_table(*self.differences("personalized")))
        elif len(self.methods) > 1:
            parts.append(
                markdown_table(*self.differences("tail_accuracy" if tailed else "accuracy"))
            )
            if tailed:
                parts.append(f"Likewise of {final}global accuracy, on the balanced test set:")
                parts.append(markdown_table(*self.differences()))
            if not all(run.whole for run in self.outcomes):
                parts.append(
                    "Likewise of accuracy at the clients, the only one of methods that leave a "
                    "part of the model there:"
                )
                parts.append(markdown_table(*self.differences("personalized")))
            means = self.differences("mean_accuracy")
            if any(cell.strip("-") for row in means[1] for cell in row[1:]):
                parts.append("Likewise of global accuracy as the mean of all rounds:")
                parts.append(markdown_table(*means))
        parts += [f"Failed: {failure}" for failure in self.failures]
        return "\n\n".join(parts) + "\n"

    def to_json(self) -> dict[str, object]:
        """Return everything as plain JSON values."""
        outcomes = [outcome.to_json() for outcome in self.outcomes]
        return asdict(replace(self, outcomes=())) | {"outcomes": outcomes}


def _known(runs: Sequence[Outcome], name: str) -> list[float]:
    """Return one number of the runs' summaries, of those that have it."""
    return [value for run in runs if (value := getattr(run.summary, name)) is not None]


def _percent(runs: Sequence[Outcome], name: str) -> str:
    known = _known(runs, name)
    return mean_interval(known).text(100) if known else "-"


def _kept(runs: Sequence[Outcome]) -> str:
    """Return whose round's model the runs keep, and which rounds these are."""
    rounds = [int(number) for number in _known(runs, "model_round")]
    how = " or ".join(sorted({run.keeps or "last" for run in runs}))
    return f"{how}: {span(rounds)}" if rounds else how


def _rounds(runs: Sequence[Outcome]) -> str:
    reached = _known(runs, "rounds_to_target")
    if not all(run.whole for run in runs):
        return "-"
    if not reached:
        return f"> {max(run.summary.rounds for run in runs)}"
    text = mean_interval(reached).text()
    if len(reached) < len(runs):
        text += f" (reached by {len(reached)}/{len(runs)})"
    return text


def _distances(runs: Sequence[Outcome]) -> str:
    # A run has both or none: they are means over the same clients.
    known = [_known(runs, name) for name in ("js_before", "js_after")]
    if not all(known):
        return "-"
    before, after = (mean_interval(values).mean for values in known)
    return f"{before:.2f} → {after:.2f}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a GitHub table; a bar or a line's end in a cell is text."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
