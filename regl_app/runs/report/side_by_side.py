"""Several runs laid side by side: table, overlaid curves, who ends above whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from regl_app.core.formats import NONE, duration, span
from regl_app.core.log import logger
from regl_app.runs.report.conditions import Condition, conditions
from regl_app.runs.report.figures.base import run_colour
from regl_app.runs.report.figures.curves import overlay
from regl_app.runs.report.run_data import RunData
from regl_app.runs.report.run_page import Section, make_section
from regl_app.runs.report.run_words import how_far
from regl_app.runs.report.standing import Standing, gap_words, headline, standing, unlike_words
from regl_app.runs.statistics import Summary, mean_interval

MAX_DETAILED = 8

_FINAL = "final accuracy"
_HEADS = (
    "run",
    _FINAL,
    "macro-F1",
    "personalized",
    "rounds to 90 %",
    "synthetic images",
    "time",
)


@dataclass(frozen=True)
class Row:
    """One configuration in the table."""

    label: str
    repeats: str
    colour: str
    accuracy: str
    share: float
    cells: list[str]
    best: bool


@dataclass(frozen=True)
class SideBySide:
    """Everything the template needs of several runs."""

    kicker: str
    headline: Markup
    lede: Markup
    lead: str
    detail: str
    columns: tuple[str, ...]
    rows: list[Row]
    section: Section


def lay_side_by_side(runs: Sequence[RunData]) -> tuple[SideBySide, list[RunData]]:
    """Return what ``runs`` show together, and which to show in detail, one per configuration."""
    groups = conditions(runs)
    if unfinished := [run.name for run in runs if run.kept is None]:
        logger.warning("no round was finished: %s", ", ".join(unfinished))
    same = _same_data(groups)
    stands = standing(groups) if same else None
    best = stands.best if stands and stands.ahead and not stands.parted else None
    repeated = any(len(group.finished) > 1 for group in groups)
    # Every run where they are few, else the first seed of each configuration: the file stays small.
    detailed = list(runs) if len(runs) <= MAX_DETAILED else [g.runs[0] for g in groups]
    detailed = detailed[:MAX_DETAILED]
    together = SideBySide(
        kicker=f"Comparison of {len(runs)} runs",
        headline=(
            headline(stands, len(groups))
            if stands
            else Markup("{} configurations on different data").format(len(groups))
        ),
        lede=_lede(groups, stands),
        lead=(
            "Means over seeds with 95 % confidence intervals (Student's t)."
            if repeated
            else "One run per configuration: differences of a point or two may be chance."
        ),
        detail=(
            "Open a run to see its figures."
            if len(detailed) == len(runs)
            else f"{len(detailed)} of {len(runs)} runs in detail, the first seed of each."
        ),
        columns=_heads(groups),
        rows=[_row(index, group, group.label == best) for index, group in enumerate(groups)],
        section=_curves(groups),
    )
    return together, detailed


def _values(group: Condition, reading: Callable[[Summary], float | None]) -> list[float]:
    found = (reading(run.summary) for run in group.finished)
    return [float(value) for value in found if value is not None]


def _same_data(groups: Sequence[Condition]) -> bool:
    """Return whether all are about the same data: accuracies on different ones do not compare."""
    runs = [run for group in groups for run in group.runs]
    known = [(run.config.data.seed, run.facts) for run in runs if run.facts is not None]
    classes = {tuple(facts.class_names) for _, facts in known}
    tested = {(split, facts.test_images) for split, facts in known}
    return (
        len({_data(group) for group in groups}) == 1
        and len(classes) <= 1
        and len(tested) == len({split for split, _ in tested})
    )


def _data(group: Condition) -> str:
    """Return what the configuration says of a condition's data; a folder may lie elsewhere."""
    config = group.runs[0].config
    elsewhere = {"seed"} if config.data.source == "hub" else {"seed", "path"}
    return str((config.data.model_dump(exclude=elsewhere), config.partition, config.long_tail))


def _lede(groups: Sequence[Condition], stands: Standing | None) -> Markup:
    text = [
        Markup("{} configurations on {}, {} runs.").format(
            len(groups),
            ", ".join(dict.fromkeys(group.runs[0].config.data.source for group in groups)),
            sum(len(group.runs) for group in groups),
        )
    ]
    if open_ := sum(not run.finished for group in groups for run in group.runs):
        words = ("1 run has", "does") if open_ == 1 else (f"{open_} runs have", "do")
        text.append(Markup("<b>{} not finished</b> and {} not count.").format(*words))
    if stands is None:
        return Markup(" ").join(text)
    if stands.where:
        parts = [group.label for group in groups if not group.whole]
        text.append(
            Markup("Compared by accuracies at the clients: {} {} no whole global model.").format(
                ", ".join(parts), "has" if len(parts) == 1 else "have"
            )
        )
    text.append(unlike_words(stands))
    by_method = {str(group.runs[0].config.method): group.label for group in reversed(groups)}
    gaps = [
        gap_words(gap, what)
        for method, what in (("fedavg", "plain FedAvg"), ("central", "all data in one place"))
        if (gap := stands.gaps.get(by_method.get(method, ""))) is not None
    ]
    if gaps:
        text.append(Markup("{} ends {}.").format(stands.best, Markup(" and ").join(gaps)))
    return Markup(" ").join(filter(None, text))


def _row(index: int, group: Condition, best: bool) -> Row:
    accuracy = _values(group, lambda s: s.accuracy)
    reached = _values(group, lambda s: s.rounds_to_target)
    count, older = len(group.finished), len(group.left_out)
    left_out = f"{older} older of the same seed left out" * (older > 0)
    rounds = f"{mean_interval(reached).mean:.3g}" if reached else "never" if accuracy else NONE
    if reached and len(reached) < count:
        rounds += f" ({len(reached)} of {count} runs)"
    said = (f"{count} seeds" * (count > 1), _kept(group), *_open(group), left_out)
    made = _values(group, lambda s: s.synthetic_images)
    seconds = _values(group, lambda s: s.seconds)
    return Row(
        label=group.label,
        repeats=", ".join(filter(None, said)),
        colour=run_colour(index),
        accuracy=_share(accuracy),
        share=round(100 * mean_interval(accuracy).mean, 1) if accuracy else 0.0,
        cells=[
            _share(_values(group, lambda s: s.macro_f1)),
            _share(_values(group, lambda s: s.personalized)),
            rounds,
            f"{mean_interval(made).mean:.0f}" if made else "0" if count else NONE,
            duration(mean_interval(seconds).mean) if seconds else NONE,
        ],
        best=best,
    )


def _heads(groups: Sequence[Condition]) -> tuple[str, ...]:
    """Return the table's head: 'final' is what the model of a round that was chosen is not."""
    if not any(_kept(group) for group in groups):
        return _HEADS
    return tuple("accuracy, kept" if head == _FINAL else head for head in _HEADS)


def _kept(group: Condition) -> str:
    """Return which rounds' models the runs keep, '' where none of them chose."""
    numbers = [number for run in group.finished if (number := run.model_round) is not None]
    if not numbers:
        return ""
    which = "best" if group.runs[0].config.validation.keep == "best" else "last"
    return f"{which} round kept, {span(numbers)}"


def _open(group: Condition) -> list[str]:
    """Return how far each run is that has not finished, and whose it is."""
    alone = len(group.runs) == 1
    return [
        how_far(run) if alone else f"seed {run.config.seed}: {how_far(run)}"
        for run in group.runs
        if not run.finished
    ]


def _share(values: Sequence[float]) -> str:
    if not values:
        return NONE
    return f"{mean_interval(values).text(100)} %"


def _curves(groups: Sequence[Condition]) -> Section:
    return make_section(
        "curves",
        "Round by round",
        "The same quantity of every configuration in one picture.",
        [
            overlay(
                groups,
                "compare-accuracy",
                "Global accuracy",
                lambda record: record.metrics.accuracy,
                share=True,
                whole=True,
                says="Global model on the server's test set, or the clients' together.",
            ),
            overlay(
                groups,
                "compare-personalized",
                "Personalized accuracy",
                lambda record: record.personalized.mean if record.personalized else None,
                share=True,
                says="Mean over clients, each on test images like its own.",
            ),
            overlay(
                groups,
                "compare-loss",
                "Global loss",
                lambda record: record.metrics.loss,
                share=False,
                whole=True,
                says="Cross-entropy on the same images.",
            ),
            overlay(
                groups,
                "compare-f1",
                "Macro-F1",
                lambda record: record.metrics.macro_f1,
                share=True,
                whole=True,
                says="F1 averaged over classes: a forgotten class shows here first.",
            ),
        ],
    )
