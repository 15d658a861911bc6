"""What is refused of the server goes by what 'auto' became, not by the word."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from regl_app import RunConfig
from regl_app.core.errors import ProtocolError
from regl_app.generator.fitting import fitted
from regl_app.rounds.client import Client
from regl_app.rounds.client_supplement import _made_again
from regl_app.supplement.payload import Payload, PoolReference


def test_no_more_images_are_made_again_than_the_fitted_pool_has(second_pipeline: Path) -> None:
    config = RunConfig.from_flat({"generator.path": str(second_pipeline), "supplement.cap": 3})
    synthesizer = SimpleNamespace(pool_digest="pool", config=fitted(config))
    client = cast(Client, SimpleNamespace(name="a", config=config, synthesizer=synthesizer))
    sequence = np.array([1, 81, 0])
    reference = PoolReference("pool", np.array([0]), sequence=sequence)
    with pytest.raises(ProtocolError, match="must be at most 80 images of a class"):
        _made_again(client, Payload(np.array([0])), reference)
