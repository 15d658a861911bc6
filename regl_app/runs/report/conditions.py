"""Which runs are seeds of one configuration, and what to call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regl_app.config import RunConfig, default_flat
from regl_app.config.auto_teaching import TAUGHT_KEYS
from regl_app.config.presets import PRESET_KEYS
from regl_app.core.log import logger
from regl_app.runs.comparison.plan import CLIENTS, GENERATOR
from regl_app.runs.report.run_data import RunData

# What a method's name already says.
_IMPLIED = {"method", *PRESET_KEYS, *TAUGHT_KEYS}
_NAMES = {"labels.by": "labels"}
_DEFAULTS = default_flat()
_PLAIN = RunConfig.from_flat({}).to_flat()


@dataclass(frozen=True)
class Condition:
    """Runs of one configuration, each with other seeds, and what to call them.

    ``left_out`` are older runs of the same seeds: to count them would make an interval narrow that
    says how far seeds differ.
    """

    label: str
    runs: tuple[RunData, ...]
    left_out: tuple[RunData, ...] = ()

    @property
    def finished(self) -> tuple[RunData, ...]:
        """Return the runs that count for means: those that came to their end."""
        return tuple(run for run in self.runs if run.finished)

    @property
    def whole(self) -> bool:
        """Return whether its global model is a whole one (`RunData.whole`)."""
        return self.runs[0].whole


def conditions(runs: Sequence[RunData]) -> list[Condition]:
    """Group ``runs`` by configuration; labels are a comparison's rows, where these are known, else
    name the method and what else differs.

    Of several runs of the same seeds the latest that finished counts, with a warning.
    """
    groups: dict[tuple[tuple[str, object], ...], list[RunData]] = {}
    for run in runs:
        groups.setdefault(run.condition, []).append(run)
    told = _labels([dict(key) for key in groups], [group[0] for group in groups.values()])
    labels = [_row(group) or label for group, label in zip(groups.values(), told, strict=True)]
    if len(set(labels)) < len(labels):  # rows of several comparisons
        labels = told
    return [_counted(label, group) for label, group in zip(labels, groups.values(), strict=True)]


def _row(group: Sequence[RunData]) -> str:
    """Return what a comparison calls the configuration of ``group``; two rows may be one."""
    return " = ".join(dict.fromkeys(row for run in group for row in run.rows))


def _counted(label: str, group: Sequence[RunData]) -> Condition:
    """Return the condition of ``group``, each pair of seeds once."""
    latest: dict[tuple[int, int], RunData] = {}
    for run in group:
        seeds = (run.config.seed, run.config.data.seed)
        if seeds not in latest or run.ended >= latest[seeds].ended:
            latest[seeds] = run
    kept = {id(run) for run in latest.values()}
    left_out = tuple(run for run in group if id(run) not in kept)
    for run in left_out:
        taken = latest[run.config.seed, run.config.data.seed].name
        logger.warning(
            "%s and %s are one configuration with the same seeds: %s, the later one, counts",
            run.name,
            taken,
            taken,
        )
    return Condition(label, tuple(run for run in group if id(run) in kept), left_out)


def _labels(keys: Sequence[Mapping[str, object]], firsts: Sequence[RunData]) -> list[str]:
    """Return the names of conditions by what they differ in, each another one.

    Args:
        keys: by condition, what can change its result: only of that something is said.
        firsts: a run of each.
    """
    tables = [
        run.config.to_flat() | {key: table[key] for key in (CLIENTS, GENERATOR) if table[key]}
        for table, run in zip(keys, firsts, strict=True)
    ]
    labels: list[str] = []
    for own, table, run in zip(keys, tables, firsts, strict=True):
        twins = [other for other in tables if other["method"] == table["method"]]
        said = [
            key
            for key, value in table.items()
            if key in own
            and (
                _differ(twins, key)
                or (key not in _IMPLIED and _differ(tables, key) and not _plain(key, value))
            )
        ]
        extra = ", ".join(f"{_NAMES.get(key, key.rsplit('.', 1)[-1])} {table[key]}" for key in said)
        label = f"{table['method']} ({extra})" if extra else str(table["method"])
        labels.append(f"{label}: {run.name}" if label in labels else label)
    return labels


def _plain(key: str, value: object) -> bool:
    """Return whether ``value`` is what ``key`` is when nobody says anything."""
    return key not in (CLIENTS, GENERATOR) and value in (_DEFAULTS[key], _PLAIN[key])


def _differ(tables: Sequence[Mapping[str, object]], key: str) -> bool:
    """Return whether ``key`` has several values among the ``tables`` that have it."""
    return len({str(table[key]) for table in tables if key in table}) > 1
