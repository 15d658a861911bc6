"""The keys of the server: how it aggregates, and what it does when clients fail."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from regl_app.config.choices import STRATEGIES
from regl_app.config.one_of import OneOf
from regl_app.config.or_auto import NOT_YET, OrAuto
from regl_app.config.section import RESULT, VIEW, Section


class ServerConfig(Section):
    """Aggregation and what the server does when clients fail."""

    strategy: Annotated[str, OneOf.of(STRATEGIES)] = Field(
        "fedavg", description="the Flower strategy that is wrapped", json_schema_extra=RESULT
    )
    eta: Annotated[float, Field(gt=0), OrAuto()] = Field(
        NOT_YET,
        description="fedavgm, fedadagrad, fedadam, fedyogi: the server's learning rate (the "
        "clients' is train.lr); adaptive ones move each weight by about as much per round; 'auto' "
        "= 1 for fedavgm, else 0.01",
        json_schema_extra=RESULT,
    )
    momentum: Annotated[float, Field(ge=0, lt=1), OrAuto()] = Field(
        NOT_YET,
        description="fedavgm: share of the last round's step that is taken again; 'auto' = 0.9",
        json_schema_extra=RESULT,
    )
    beta_1: Annotated[float, Field(ge=0, lt=1), OrAuto()] = Field(
        NOT_YET,
        description="fedadam, fedyogi: decay of the mean of the clients' changes; 'auto' = 0.9",
        json_schema_extra=RESULT,
    )
    beta_2: Annotated[float, Field(ge=0, lt=1), OrAuto()] = Field(
        NOT_YET,
        description="fedadam, fedyogi: decay of the mean of their squares; 'auto' = 0.99",
        json_schema_extra=RESULT,
    )
    tau: Annotated[float, Field(gt=0), OrAuto()] = Field(
        NOT_YET,
        description="fedadagrad, fedadam, fedyogi: changes far below it move a weight less than "
        "eta, in proportion: the larger, the more like plain averaging; 'auto' = 0.001",
        json_schema_extra=RESULT,
    )
    weights: Literal["all", "real"] = Field(
        "all",
        description="what a client weighs by in the average: all images that it trains on, or its "
        "real ones alone",
        json_schema_extra=RESULT,
    )
    fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of clients that train each round",
        json_schema_extra=RESULT,
    )
    min_nodes: int = Field(
        1, ge=1, description="nodes to wait for before a round starts", json_schema_extra=RESULT
    )
    min_replies: int = Field(
        1, ge=1, description="usable train replies a round needs", json_schema_extra=VIEW
    )
    tune_steps: int = Field(
        10,
        ge=1,
        description="site 'server': steps on synthetic images on each uploaded model",
        json_schema_extra=RESULT,
    )
    tune_lr: float = Field(
        0.01,
        gt=0,
        description="site 'server': learning rate of these steps",
        json_schema_extra=RESULT,
    )
    timeout: float = Field(
        3600.0, gt=0, description="seconds a phase may take", json_schema_extra=VIEW
    )
    personalized_every: int = Field(
        1,
        ge=0,
        description="rounds between personalized evaluations; 0 = last round only",
        json_schema_extra=RESULT,
    )
