"""The keys by which a run chooses among its own rounds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regl_app.config.section import RESULT, Section


class ValidationConfig(Section):
    """Images held out to choose by: when to stop, and which round's model to keep."""

    fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each client's training images that nobody trains on, by class; all "
        "clients measure the global model on theirs after every round; 0 = none",
        json_schema_extra=RESULT,
    )
    metric: Literal["accuracy", "loss"] = Field(
        "accuracy",
        description="what is compared: of all clients' validation images together",
        json_schema_extra=RESULT,
    )
    patience: int = Field(
        0,
        ge=0,
        description="rounds without a better one after which the run ends; 0 = never",
        json_schema_extra=RESULT,
    )
    keep: Literal["last", "best"] = Field(
        "last",
        description="whose round's global model model.safetensors is; with a validation share the "
        "best one is in checkpoints/ anyway",
        json_schema_extra=RESULT,
    )

    @property
    def used(self) -> bool:
        """Whether images are held out."""
        return self.fraction > 0
