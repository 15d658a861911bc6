"""What a run writes down: one record per round, the federation it ran on, how it ended.

All are checked when they are made and again when they are read back. Matrices are K x C lists
(clients x classes) whose row is None for a client that did not reply.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from regl_app.core.bounds import MOST_SECONDS


def _plain(value: Any) -> Any:
    """Return numpy and torch values as plain Python numbers and lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def _finite_or_none(value: Any) -> Any:
    # A diverged loss is worth recording, but JSON has no NaN.
    value = _plain(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _durations(value: Any) -> Any:
    """Leave out what no clock has told: old folders have what clients were once believed."""
    value = _items(value)
    if not isinstance(value, list):
        return value
    return [None if isinstance(v, int | float) and v > MOST_SECONDS else v for v in value]


def _rows(value: Any) -> Any:
    value = _plain(value)
    return [_plain(row) for row in value] if isinstance(value, list | tuple) else value


def _items(value: Any) -> Any:
    value = _plain(value)
    return [_finite_or_none(v) for v in value] if isinstance(value, list | tuple) else value


Share = Annotated[float, BeforeValidator(_plain), Field(ge=0, le=1)]
Loss = Annotated[float | None, BeforeValidator(_finite_or_none)]
Seconds = Annotated[float, BeforeValidator(_plain), Field(ge=0)]
Shares = Annotated[list[Share | None], BeforeValidator(_items)]
CountMatrix = Annotated[
    list[list[Annotated[int, Field(ge=0)]] | None] | None, BeforeValidator(_rows)
]
CountTable = Annotated[list[list[Annotated[int, Field(ge=0)]]], BeforeValidator(_rows)]
Matrix = Annotated[list[list[float] | None] | None, BeforeValidator(_rows)]
Cells = Annotated[
    list[Annotated[list[float | None], BeforeValidator(_items)] | None], BeforeValidator(_rows)
]


class Record(BaseModel):
    """Base of the records: frozen, finite numbers, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GlobalMetrics(Record):
    """The global model on the server's test set, or where it has none, on the clients' together.

    ``per_class`` is recall; like ``precision`` and ``f1`` None for a class without test images,
    ``precision`` also for one that no image was taken for. ``confusion``: how often class i was
    taken for j, C x C; of many classes not in every round (``regl_app.runs.confusions``).
    """

    accuracy: Share
    macro_f1: Share
    loss: Loss = None
    per_class: Shares = []
    precision: Shares = []
    f1: Shares = []
    confusion: CountTable | None = None

    @model_validator(mode="after")
    def _check_classes(self) -> GlobalMetrics:
        classes = len(self.per_class)
        for name in ("precision", "f1", "confusion"):
            values = getattr(self, name)
            if values and len(values) != classes:
                raise ValueError(f"{name} must be of {classes} classes, got {len(values)}")
        if any(len(row) != classes for row in self.confusion or []):
            raise ValueError(f"confusion must be {classes} x {classes}")
        return self


class ValidationScores(Record):
    """The global model on the clients' validation images, all of the same weight."""

    images: int = Field(ge=1)
    accuracy: Share
    loss: Loss = None


class Personalized(Record):
    """Models on the clients' own test sets; ``mean`` weighs every client the same."""

    mean: Share
    per_client: dict[int, Share]


class PhaseSeconds(Record):
    """Wall-clock seconds: ``clients[phase]`` is a list over K (None = no reply), ``server[phase]``.

    ``wall`` is the round from start to end.
    """

    clients: dict[str, Annotated[list[Seconds | None], BeforeValidator(_durations)]] = {}
    server: dict[str, Seconds] = {}
    wall: Seconds = 0.0


class Traffic(Record):
    """Bytes of one round, seen from the client: summed, and per client as lists over K."""

    down: int = Field(0, ge=0)
    up: int = Field(0, ge=0)
    clients_down: list[Annotated[int, Field(ge=0)]] = []
    clients_up: list[Annotated[int, Field(ge=0)]] = []


class LabelFits(Record):
    """Distances of the clients' label distributions to the global one, lists over K.

    ``js`` Jensen-Shannon distance, ``tv`` total variation, of real images (``before``) and with
    synthetic ones (``after``); ``precision``: share of those in classes that the client lacks.
    """

    js_before: Shares
    js_after: Shares
    tv_before: Shares
    tv_after: Shares
    precision: Shares


class ImageQualities(Record):
    """How good the clients' synthetic images are, each K x C; None in a row: not measured.

    Means as in ``regl_app.supplement.image_quality.ImageQuality``.
    """

    images: CountMatrix
    reading: Cells
    fidelity: Cells
    diversity: Cells
    near_copies: Cells


_ONLY_WHERE_KNOWN = {"lr", "validation"}


class RoundRecord(Record):
    """One round. Round 0, if present, is the first model, before any client trains.

    ``tail`` is the global model on the part of the test set that is distributed as all training
    images are, where these have a long tail. ``lr`` is the clients' learning rate, where it changes
    from round to round; like ``validation`` it is not written where there is none.
    """

    round: int = Field(ge=0)
    metrics: GlobalMetrics
    tail: GlobalMetrics | None = None
    labels: LabelFits | None = None
    personalized: Personalized | None = None
    discrepancy: Matrix = None
    quotas: CountMatrix = None
    real_counts: CountMatrix = None
    synthetic_counts: CountMatrix = None
    quality: ImageQualities | None = None
    lr: Annotated[float, Field(gt=0)] | None = None
    validation: ValidationScores | None = None
    seconds: PhaseSeconds = PhaseSeconds()
    bytes: Traffic = Traffic()
    clients: dict[int, dict[str, bool | int | float | str | None]] = {}
    failures: list[str] = []

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what only some runs have: the others' histories stay as they were."""
        found: dict[str, Any] = plain(self)
        return {k: v for k, v in found.items() if v is not None or k not in _ONLY_WHERE_KNOWN}

    @model_validator(mode="after")
    def _check_matrices(self) -> RoundRecord:
        sizes: dict[str, tuple[int, int | None]] = {}
        for name in ("discrepancy", "quotas", "real_counts", "synthetic_counts"):
            matrix = getattr(self, name)
            if matrix is None:
                continue
            widths = {len(row) for row in matrix if row is not None}
            if len(widths) > 1:
                raise ValueError(f"{name} has rows of different lengths: {sorted(widths)}")
            sizes[name] = (len(matrix), next(iter(widths), None))
        if len({rows for rows, _ in sizes.values()}) > 1 or (
            len({width for _, width in sizes.values() if width is not None}) > 1
        ):
            raise ValueError(f"matrices of one round must be K x C alike, got {sizes}")
        return self


class DepthScales(Record):
    """Which values of deep greyscale are black and white, of whole numbers and of floats.

    None of a kind that the data set has none of.
    """

    whole: tuple[float, float] | None = None
    real: tuple[float, float] | None = None


class FederationFacts(Record):
    """What was federated; ``train_counts`` is K x C and absent where labels are private.

    ``prompts``: what the generator was told of each class, one text or several, ``(C,)``.
    ``unreadable``: picture files of the source that were left out (``data.unreadable=skip``).
    ``channels``: of the images, 1 or 3; 0 in what older versions wrote.
    ``depth``: by which scales the source's deep greyscale was read; None without any, and in what
    older versions wrote. Of sites it is the server's test folder's: theirs are in the history.
    """

    class_names: list[str]
    concepts: list[str] = []
    prompts: list[list[str]] = []
    num_clients: int = Field(ge=1)
    train_counts: CountMatrix = None
    test_images: int = Field(0, ge=0)
    unreadable: int = Field(0, ge=0)
    channels: int = Field(0, ge=0)
    depth: DepthScales | None = None


class RunResult(Record):
    """How a run ended. ``error`` says why a failed run failed, or that it was stopped.

    Where it held validation images out: ``best_round`` by these, and ``model_round``, whose global
    model model.safetensors is.
    """

    status: Literal["finished", "failed", "stopped"]
    seconds: Seconds
    error: str | None = None
    best_round: int | None = None
    model_round: int | None = None
