from __future__ import annotations

from collections.abc import Callable

from regl_app.config import RunConfig
from regl_app.supplement.run_generator import RunGenerator


def test_a_part_reports_its_share_of_the_whole_work(
    config: RunConfig, run_generator: Callable[..., RunGenerator]
) -> None:
    assert run_generator(config).reporter("images") is None
    calls: list[tuple[str, int, int]] = []
    generator = run_generator(config, progress=lambda *call: calls.append(call))
    for reporter in (generator.reporter("adapter steps"), generator.reporter("images", 4, 9)):
        assert reporter is not None
        reporter(1, 3)
    assert calls == [("adapter steps", 1, 3), ("images", 5, 9)]
