"""Foundations are borrowed by a thread at a time, given back as they were, and not loaded twice."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import GeneratorError
from regl_app.generator.foundation import Foundation, shared_foundation
from regl_app.generator.kept_foundations import give_back

CONCEPTS = ("a cat", "a dog")


pytestmark = pytest.mark.usefixtures("nothing_kept")


@pytest.fixture
def config(second_pipeline: Path) -> GeneratorConfig:
    return GeneratorConfig(path=str(second_pipeline), precision="fp32")


def _elsewhere(task: Callable[[], Foundation]) -> Foundation:
    """Return what ``task`` returns in a thread of its own, which gives back and ends."""

    def whole() -> Foundation:
        try:
            return task()
        finally:
            give_back()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(whole).result()


def test_what_a_thread_gives_back_is_the_next_one_s(config: GeneratorConfig) -> None:
    first = shared_foundation(config, CONCEPTS)
    assert shared_foundation(config, CONCEPTS) is first
    second = _elsewhere(lambda: shared_foundation(config, CONCEPTS))
    assert second is not first  # this thread works with the first
    give_back()
    give_back()
    assert _elsewhere(lambda: shared_foundation(config, CONCEPTS)) is first
    assert shared_foundation(config, CONCEPTS) is first


def test_another_one_frees_what_is_idle_before_it_is_loaded(
    config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = [
        weakref.ref(_elsewhere(lambda: shared_foundation(config, CONCEPTS))),
        weakref.ref(shared_foundation(config, ("a log", "a line"))),
    ]
    assert former[0]() is None  # freed by the second
    give_back()
    load = Foundation.load

    def watched(*args: object) -> Foundation:
        gc.collect()
        assert former[1]() is None
        return load(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Foundation, "load", watched)
    shared_foundation(config, CONCEPTS)


def test_a_failure_leaves_nothing_borrowed_and_what_is_at_rest_is_kept(
    config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> Foundation:
        raise torch.OutOfMemoryError("none")

    with monkeypatch.context() as patched:
        patched.setattr(Foundation, "load", no_room)
        with pytest.raises(torch.OutOfMemoryError):
            shared_foundation(config, CONCEPTS)
    foundation = shared_foundation(config, CONCEPTS)
    state = {name: value.clone() for name, value in foundation.denoiser.state_dict().items()}
    with (
        pytest.raises(torch.OutOfMemoryError),
        foundation.adapters.using(_adapter(foundation), "here"),
    ):
        raise torch.OutOfMemoryError("none")
    give_back()
    again = _elsewhere(lambda: shared_foundation(config, CONCEPTS))
    assert again is foundation
    assert all(torch.equal(state[key], kept) for key, kept in again.denoiser.state_dict().items())


def test_one_with_an_adapter_in_it_is_not_handed_on(config: GeneratorConfig) -> None:
    foundation = shared_foundation(config, CONCEPTS)
    with foundation.adapters.using(_adapter(foundation), "here"):
        give_back()
        other = shared_foundation(config, CONCEPTS)
    assert other is not foundation and other.at_rest


def test_prompts_encoded_by_another_number_of_threads_are_another_s(
    config: GeneratorConfig,
) -> None:
    """Their last bits may differ, and a run's ``threads`` are part of it."""
    threads = torch.get_num_threads()
    first = shared_foundation(config, CONCEPTS)
    try:
        torch.set_num_threads(threads + 1)
        assert shared_foundation(config, CONCEPTS) is not first
    finally:
        torch.set_num_threads(threads)


def test_files_replaced_in_a_run_are_seen_where_none_is_kept(config: GeneratorConfig) -> None:
    with pytest.raises(GeneratorError, match="replaced in the midst of a run"):
        shared_foundation(config, CONCEPTS, digest="of another")


def _adapter(foundation: Foundation) -> dict[str, torch.Tensor]:
    name = next(key for key in foundation.denoiser.state_dict() if key.endswith("to_q.weight"))
    out, inside = foundation.denoiser.get_parameter(name).shape
    layer = f"unet.{name.removesuffix('.weight')}"
    return {
        f"{layer}.lora_A.weight": torch.ones(1, inside),
        f"{layer}.lora_B.weight": torch.ones(out, 1),
    }
