"""The groups of keys of teaching: what labels synthetic images, and who speaks for a class."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from regl_app.config.choices import LABELS, SAYS
from regl_app.config.one_of import OneOf
from regl_app.config.section import RESULT, Section


class LabelsConfig(Section):
    """How sure a synthetic image is of being what its prompt says."""

    by: Annotated[str, OneOf.of(LABELS, "auto")] = Field(
        "auto",
        description="what synthetic images are labelled by: their prompt alone ('hard'); softly, "
        "by the 'global' model, or by the class 'experts' (site 'download'); 'auto' = by the site, "
        "see docs/teaching.md; 'hard' makes teaching's 'auto' nothing as well: the papers' form",
        json_schema_extra=RESULT,
    )
    share: float = Field(
        0.9,
        ge=0,
        le=1,
        description="a_max: part of a soft label that the prompt loses to the model's opinion in "
        "late rounds",
        json_schema_extra=RESULT,
    )
    rounds: float = Field(
        2.0,
        gt=0,
        description="how many rounds it takes: a_t = a_max (1 - exp(-(t - 1) / rounds)); round 1 "
        "is hard",
        json_schema_extra=RESULT,
    )


class TeachingConfig(Section):
    """What the server makes of the average with the help of those who hold a class for real."""

    head: Literal["auto", "average", "experts", "bounded"] = Field(
        "auto",
        description="rows of the last layer: FedAvg's, averaged by who holds the class "
        "('experts'), or likewise but none moved further than the median one ('bounded'); 'auto' = "
        "by the site",
        json_schema_extra=RESULT,
    )
    distill: Literal["auto", "none", "experts"] = Field(
        "auto",
        description="'experts' trains the average on synthetic images with the experts' opinion of "
        "them; at site 'server' instead of tuning each upload; 'auto' = by the site",
        json_schema_extra=RESULT,
    )
    say: Annotated[str, OneOf.of(SAYS, "auto")] = Field(
        "auto",
        description="what tells the experts, who holds how much of a class: label 'counts', "
        "'noisy' ones (privacy.histogram-noise), or the server's guess from the 'updates' of last "
        "layers or from 'discrepancy' vectors; 'auto' = 'counts' with share-diagnostics, else "
        "'updates'",
        json_schema_extra=RESULT,
    )
    first_steps: int = Field(
        0,
        ge=0,
        description="steps that the server trains the first global model on the shared pool, "
        "labelled by its prompts, before round 1, as clients train; 0 = it begins as it is",
        json_schema_extra=RESULT,
    )
    steps: int = Field(30, ge=1, description="steps of a distillation", json_schema_extra=RESULT)
    batch_size: int = Field(32, ge=1, description="images per step", json_schema_extra=RESULT)
    lr: float = Field(0.003, gt=0, description="its learning rate", json_schema_extra=RESULT)
