"""By which scales a run's data sets were read, as far as anybody has told."""

from __future__ import annotations

import pytest

from regl_app.data.depth import Scale, UsedDepth
from regl_app.runs.depths import depths_of
from regl_app.runs.records import GlobalMetrics, RoundRecord


@pytest.mark.parametrize("odd", ["[[1, 1], null]", "[null, [0, NaN]]", "[{}, []]", "nothing"])
def test_what_is_no_scale_is_passed_over(odd: str) -> None:
    metrics = GlobalMetrics(accuracy=0.5, macro_f1=0.5)
    told = {0: {"depth": odd}, 1: {"depth": "[[0.0, 255.0], null]"}, 2: {"loss": 1.0}}
    found = depths_of(None, [RoundRecord(round=1, metrics=metrics, clients=told)])
    assert found == {"client 1": UsedDepth(Scale(0.0, 255.0))}
