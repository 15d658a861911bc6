"""What the page says about one run: headline, tiles, settings, sections, record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from regl_app.runs.report.choice import after
from regl_app.runs.report.figures import (
    classes,
    curves,
    discrepancy,
    embedding,
    image_quality,
    label_distance,
    labels,
    pictures,
    timing,
)
from regl_app.runs.report.figures.base import Absent, Figure
from regl_app.runs.report.run_data import RunData
from regl_app.runs.report.run_words import (
    Tile,
    columns,
    headline,
    how_it_ended,
    key_settings,
    keys,
    lede,
    outcome,
    prompts,
    rows,
    tiles,
)

Maker = Callable[[RunData, str], Figure | Absent | None]
"""None: it is about what only some runs have, and the others need not hear of."""

_SECTIONS: Sequence[tuple[str, str, str, Sequence[Maker]]] = (
    (
        "learning",
        "Learning",
        "Does the global model become good at every class, and do clients gain from it?",
        (
            curves.accuracy,
            curves.personalized,
            curves.loss,
            curves.rate,
            curves.recall,
            classes.confusion,
            classes.scores,
        ),
    ),
    (
        "labels",
        "Labels",
        "The cause of the trouble, and what the supplement makes of it.",
        (labels.partition, label_distance.distance, labels.before_after, labels.all_clients),
    ),
    (
        "supplement",
        "Supplement",
        "How the server saw what each client lacks, and what was generated in answer.",
        (discrepancy.matrices, discrepancy.quotas),
    ),
    (
        "images",
        "Images",
        "What the generator makes, before and after it has seen a client's own images, and what "
        "that is worth.",
        (pictures.samples, image_quality.quality_of_images),
    ),
    (
        "features",
        "Features",
        "Whether models keep classes apart that a client has never held.",
        (embedding.embedding,),
    ),
    (
        "cost",
        "Cost",
        "Seconds and bytes, by phase and by client.",
        (timing.per_round, timing.per_client, timing.traffic),
    ),
)


@dataclass(frozen=True)
class Section:
    """A heading with its figures, and those that this run has no data for."""

    id: str
    title: str
    lead: str
    figures: list[Figure]
    absent: list[Absent]

    @property
    def lone(self) -> set[str]:
        """Return the half-width figures that have no neighbour: their caption goes beside."""
        alone: set[str] = set()
        open_half: str | None = None
        for figure in self.figures:
            if figure.wide:
                alone |= {open_half} if open_half else set()
                open_half = None
            else:
                open_half = None if open_half else figure.id
        return alone | ({open_half} if open_half else set())


@dataclass(frozen=True)
class RunPage:
    """Everything the template needs of one run."""

    prefix: str
    name: str
    kicker: str
    headline: Markup
    lede: Markup
    ended: str
    outcome: str
    tiles: list[Tile]
    settings: list[tuple[str, str]]
    error: str | None
    failures: list[str]
    sections: list[Section]
    left_out: list[Absent]
    class_columns: list[str]
    classes_after: str
    class_rows: list[list[str]]
    columns: list[str]
    rows: list[list[str]]
    prompts: list[tuple[str, str]]
    keys: list[tuple[str, str, bool]]
    environment: dict[str, str]


def make_section(
    section_id: str, title: str, lead: str, items: Sequence[Figure | Absent | None]
) -> Section:
    """Sort ``items`` into figures and absent ones."""
    return Section(
        section_id,
        title,
        lead,
        [item for item in items if isinstance(item, Figure)],
        [item for item in items if isinstance(item, Absent)],
    )


def run_page(run: RunData, prefix: str = "") -> RunPage:
    """Return the page of ``run``; ``prefix`` keeps the ids of several runs apart."""
    ended = how_it_ended(run)
    error = (run.result.error or "no reason was recorded") if run.result and ended else None
    sections = [
        make_section(prefix + name, title, lead, [make(run, prefix) for make in makers])
        for name, title, lead, makers in _SECTIONS
    ]
    return RunPage(
        prefix=prefix,
        name=run.name,
        kicker=f"{run.name} · {run.environment.get('date', '')[:16].replace('T', ' ')}".rstrip(
            " ·"
        ),
        headline=headline(run),
        lede=lede(run),
        ended=ended,
        outcome=outcome(run),
        tiles=tiles(run),
        settings=key_settings(run),
        error=error,
        failures=[f"round {r.round}: {line}" for r in run.history for line in r.failures],
        sections=[section for section in sections if section.figures],
        left_out=[item for section in sections if not section.figures for item in section.absent],
        class_columns=list(classes.COLUMNS),
        classes_after=after(run) if run.history else "",
        class_rows=classes.class_rows(run),
        columns=columns(run),
        rows=rows(run),
        prompts=prompts(run),
        keys=keys(run.config),
        environment=run.environment,
    )
