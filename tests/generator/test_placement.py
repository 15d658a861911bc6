"""Cards that hold no more than one part of a generator, or not even that: the same images.

A processor stands in for the card: what is away from it must not work, and memory is made to end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.hooks.group_offloading import ModuleGroup

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.data.images import ImageSet
from regl_app.generator import adapters, held_weights, placement, portions, vae_tiles
from regl_app.generator.adaptation import micro_batches
from regl_app.generator.adaptation.lora import TunedAdapter, tune_lora
from regl_app.generator.adapters import AdapterSlot, lora_update
from regl_app.generator.discrepancy_guidance import DiscrepancyGuidance
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.image_encoder import Features, OwnEncoder
from regl_app.generator.image_features import read_pictures
from regl_app.generator.sampling import sample

CONCEPTS = ("the digit zero", "the digit one", "the digit two")
CPU, META = torch.device("cpu"), torch.device("meta")
LORA = LoraConfig(layers="all", rank=2, steps=2, batch_size=3, lr=1e-3)


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    placement._learnt.clear()
    portions._fits.clear()
    micro_batches._learnt.clear()


@pytest.fixture
def config(second_pipeline: Path) -> GeneratorConfig:
    return GeneratorConfig(
        path=str(second_pipeline), steps=2, guidance=2.0, precision="fp32", batch_size=3
    )


@pytest.fixture
def foundation(config: GeneratorConfig) -> Foundation:
    return Foundation.load(config, CONCEPTS)


class Card:
    """What holds one part of a generator with three images, or, of the denoiser, only layers.

    With ``adapters_crowd`` the latter holds where an adapter is in effect.
    """

    def __init__(
        self,
        foundation: Foundation,
        monkeypatch: pytest.MonkeyPatch,
        *,
        layers_only: bool = False,
        adapters_crowd: bool = False,
    ) -> None:
        self.away: set[Any] = set()
        self.asked: dict[str, list[int]] = {"denoiser": [], "vae": []}
        monkeypatch.setattr(placement, "can_wait", lambda _: True)
        # Both places are a processor's: which of them is meant is told by which constant it is.
        monkeypatch.setattr(placement, "_PROCESSOR", META)
        vae, denoiser = foundation.vae, foundation.denoiser

        def work(part: str, images: int) -> None:
            self.asked[part].append(images)
            mine, other = (denoiser, vae) if part == "denoiser" else (vae, denoiser)
            streamed = foundation.placement.mode == "layer by layer"
            assert mine not in self.away or (mine is denoiser and streamed)
            alone = other in self.away or (other is denoiser and streamed)
            crowded = foundation.adapters.filled and adapters_crowd
            whole = mine is denoiser and (layers_only or crowded) and not streamed
            if not alone or whole or images > 6:
                raise torch.OutOfMemoryError("CUDA out of memory")

        for part, first in (
            ("denoiser", denoiser.conv_in),
            ("vae", vae.decoder.conv_in),
            ("vae", vae.encoder.conv_in),
        ):
            first.register_forward_pre_hook(lambda _, given, part=part: work(part, len(given[0])))

        def bring(module: Any, device: torch.device) -> None:
            if device == META:
                self.away.add(module)
                return
            if module is denoiser and layers_only:
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.away.discard(module)

        monkeypatch.setattr(placement, "_bring", bring)


def draw(foundation: Foundation, config: GeneratorConfig, **more: Any) -> torch.Tensor:
    return sample(foundation, [0, 1, 2, 0, 1], [0, 0, 0, 1, 1], config, stream=7, **more)


def tuned(foundation: Foundation) -> TunedAdapter:
    images = torch.randint(0, 256, (6, 3, 48, 48), generator=torch.Generator().manual_seed(0))
    real = ImageSet(images.byte(), torch.tensor([0, 0, 0, 1, 1, 1]))
    return tune_lora(foundation, real, LORA, seed=3, encoded_at_once=3)


def weights(foundation: Foundation) -> dict[str, torch.Tensor]:
    parts = {"denoiser": foundation.denoiser, "vae": foundation.vae}
    return {
        f"{part}.{name}": value.clone()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }


def test_on_a_processor_all_parts_stay(foundation: Foundation) -> None:
    assert foundation.placement.mode == "together"
    assert not foundation.placement.take_turns()
    assert not foundation.placement.stream_layers()
    assert not placement.can_wait(CPU)
    assert placement.can_wait(torch.device("cuda", 0))


def test_the_vae_waits_while_the_denoiser_works_and_the_other_way_round(
    foundation: Foundation,
    config: GeneratorConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = draw(foundation, config)
    before = weights(foundation)
    caplog.set_level(logging.WARNING, logger="regl")
    card = Card(foundation, monkeypatch)
    assert torch.equal(draw(foundation, config), expected)
    assert foundation.placement.mode == "in turns"
    # Two images with guidance are four: halved, then the VAE leaves and all of a batch fits.
    assert card.asked == {"denoiser": [6, 2, 6, 6, 4, 4], "vae": [3, 2]}
    assert card.away == {foundation.denoiser}
    (message,) = caplog.messages
    assert "does not hold denoiser and VAE of the generator with one image" in message
    card.asked["denoiser"].clear()
    assert torch.equal(draw(foundation, config), expected)  # remembered, and said once
    assert card.asked["denoiser"] == [6, 6, 4, 4]
    assert len(caplog.messages) == 1
    after = weights(foundation)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_an_adapter_goes_where_the_denoiser_goes(
    foundation: Foundation, config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tuned(foundation).state
    with foundation.adapters.using(state, "a test"):
        expected = draw(foundation, config)
    before, frozen = weights(foundation), draw(foundation, config)
    assert not torch.equal(expected, frozen)
    Card(foundation, monkeypatch)
    both = config.model_copy(update={"guide": "frozen"})
    with foundation.adapters.using(state, "a test"):
        assert torch.equal(draw(foundation, config), expected)
        again = draw(foundation, config)  # the denoiser was away, and is back
        guided = draw(foundation, both)
    assert torch.equal(again, expected)
    assert torch.equal(draw(foundation, config), frozen)
    with foundation.adapters.using(state, "a test"):
        assert torch.equal(draw(foundation, both), guided)
    after = weights(foundation)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_pictures_are_encoded_while_the_denoiser_waits(
    foundation: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = torch.randint(0, 256, (3, 3, 48, 48), dtype=torch.uint8)
    expected = encode_latents(foundation, pictures)
    card = Card(foundation, monkeypatch)
    assert torch.equal(encode_latents(foundation, pictures), expected)
    assert card.away == {foundation.denoiser}
    assert not foundation.vae.use_tiling  # tiles would be seen


class Reader:
    """An image encoder that fits where neither denoiser nor VAE is; counts how often it came."""

    def __init__(self, foundation: Foundation, card: Card) -> None:
        self._parts, self._card, self.came = {foundation.denoiser, foundation.vae}, card, 0

    @contextmanager
    def on(self, device: torch.device) -> Iterator[Features]:
        self.came += 1
        if self._card.away != self._parts:
            raise held_weights.WeightsTooLargeError("the reader does not fit")
        yield lambda shown: shown.float().mean((2, 3))


def test_denoiser_and_vae_wait_while_an_image_encoder_reads(
    foundation: Foundation,
    config: GeneratorConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pictures = torch.randint(0, 256, (3, 3, 48, 48), dtype=torch.uint8)
    expected = draw(foundation, config)
    caplog.set_level(logging.WARNING, logger="regl")
    card = Card(foundation, monkeypatch)
    reader = Reader(foundation, card)
    features = read_pictures(foundation, pictures, 2, reader)
    assert torch.equal(features, pictures.float().mean((2, 3)))
    assert (foundation.placement.mode, reader.came) == ("in turns", 2)
    (message,) = caplog.messages
    assert "denoiser and VAE of the generator with the image encoder" in message
    assert torch.equal(draw(foundation, config), expected)
    assert torch.equal(read_pictures(foundation, pictures, 2, reader), features)
    assert (reader.came, len(caplog.messages)) == (3, 1)  # what was at work has left before


def test_what_an_image_encoder_cannot_hold_leaves_the_vae_as_it_is(
    foundation: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(Reader):
        @contextmanager
        def on(self, device: torch.device) -> Iterator[Features]:
            def features(shown: torch.Tensor) -> torch.Tensor:
                raise torch.OutOfMemoryError("CUDA out of memory")

            yield features

    monkeypatch.setattr(vae_tiles, "LEAST_TILE", 8)
    reader = Full(foundation, Card(foundation, monkeypatch))
    with pytest.raises(GeneratorError, match="reading of a single image of 48 x 48 pixels in fp32"):
        read_pictures(foundation, torch.zeros(2, 3, 48, 48, dtype=torch.uint8), 2, reader)
    assert not foundation.vae.use_tiling


def test_a_tuning_step_has_the_vae_leave_before_activations_are_computed_twice(
    foundation: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tuned(foundation)
    card = Card(foundation, monkeypatch)
    found = tuned(foundation)
    assert found.loss == expected.loss
    assert all(torch.equal(found.state[name], each) for name, each in expected.state.items())
    assert card.away == {foundation.vae}
    assert all(not learnt.checkpointing for learnt in micro_batches._learnt.values())


def test_guidance_by_the_decoder_has_both_take_turns_in_every_step(
    foundation: Foundation, config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gap(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).mean(1)

    guide = DiscrepancyGuidance(foundation.noise_process(), gap, (3, 48, 48), 2.0, 0.5)
    expected = draw(foundation, config, discrepancy_guidance=guide)
    Card(foundation, monkeypatch)
    assert torch.equal(draw(foundation, config, discrepancy_guidance=guide), expected)
    assert foundation.placement.mode == "in turns"


def test_a_denoiser_too_large_for_the_card_draws_layer_by_layer(
    foundation: Foundation,
    config: GeneratorConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = tuned(foundation).state
    before, expected = weights(foundation), draw(foundation, config)
    with foundation.adapters.using(state, "a test"):
        adapted = draw(foundation, config)
    caplog.set_level(logging.WARNING, logger="regl")
    loaded: list[Any] = []
    plain = ModuleGroup.onload_
    monkeypatch.setattr(ModuleGroup, "onload_", lambda self: (loaded.append(self), plain(self)))
    Card(foundation, monkeypatch, layers_only=True)
    assert torch.equal(draw(foundation, config), expected)
    assert foundation.placement.mode == "layer by layer"
    leaves = [each for each in foundation.denoiser.modules() if isinstance(each, torch.nn.Conv2d)]
    assert len(loaded) > len(leaves) > 10
    assert [" ".join(each.split()[-10:]) for each in caplog.messages][1:] == [
        "from the processor's memory one by one, which is slow"
    ]
    with foundation.adapters.using(state, "a test"):
        assert torch.equal(draw(foundation, config), adapted)
    assert torch.equal(draw(foundation, config), expected)
    after = foundation.denoiser.state_dict()
    assert all(torch.equal(after[name], before[f"denoiser.{name}"]) for name in after)
    with pytest.raises(GeneratorError) as error:
        tuned(foundation)
    assert "so that no adapter can be tuned on it (supplement.adapter=frozen" in str(error.value)


def test_memory_that_was_taken_meanwhile_is_our_error(
    foundation: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "can_wait", lambda _: True)
    monkeypatch.setattr(placement, "_PROCESSOR", META)
    assert foundation.placement.take_turns()

    def full(module: Any, device: torch.device) -> None:
        if module is foundation.denoiser and device != META:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(placement, "_bring", full)
    with pytest.raises(GeneratorError, match="does not hold the weights of the generator's denoi"):
        tuned(foundation)


@pytest.mark.parametrize(("part", "mode"), [("vae", "in turns"), ("denoiser", "layer by layer")])
def test_weights_that_do_not_fit_wait_in_the_processor_s_memory(
    config: GeneratorConfig,
    foundation: Foundation,
    part: str,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = draw(foundation, config)
    monkeypatch.setattr(placement, "can_wait", lambda _: True)
    kind, plain, tried = type(getattr(foundation, part)).__name__, held_weights._move, []

    def full(module: Any, *rest: Any) -> None:
        if type(module).__name__ == kind and not tried:
            tried.append(kind)
            raise torch.OutOfMemoryError("CUDA out of memory")
        plain(module, *rest)

    monkeypatch.setattr(held_weights, "_move", full)
    caplog.set_level(logging.WARNING, logger="regl")
    found = Foundation.load(config, CONCEPTS)
    assert (found.placement.mode, tried) == (mode, [kind])
    assert torch.equal(draw(found, config), expected)
    (message,) = caplog.messages
    assert f"GB of weights of the generator's {kind} do not fit into cpu" in message
    assert "from now on it comes from the processor's memory" in message
    tried.append("remembered")  # nothing fails any more
    again = Foundation.load(config, CONCEPTS)
    assert again.placement.mode == mode
    assert torch.equal(draw(again, config), expected)
    assert len(caplog.messages) == 1


def test_an_encoder_of_the_checkpoints_own_that_does_not_fit_is_our_error() -> None:
    class Model(torch.nn.Linear):
        def to(self, *place: Any, **more: Any) -> Any:
            if place[0] == META:
                raise torch.OutOfMemoryError("CUDA out of memory")
            came_back.append(place[0])
            return super().to(*place, **more)

    came_back: list[object] = []
    encoder = OwnEncoder(Model(2, 2), SimpleNamespace(image_mean=[0.5] * 3, image_std=[0.5] * 3))
    encoder._model.config = SimpleNamespace(image_size=8)
    with (
        pytest.raises(
            held_weights.WeightsTooLargeError, match=r"generator's image encoder: its .* GB of"
        ),
        encoder.on(META),
    ):
        pass
    assert came_back == ["cpu"]


def test_adapted_weights_are_moved_and_not_copied() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(3, 2))
    slot = AdapterSlot(layer, "unet", CPU)
    state = {
        "unet.0.lora_A.weight": torch.ones(1, 3),
        "unet.0.lora_B.weight": torch.ones(2, 1),
    }
    with slot.using(state, "a test"):
        layer.to(META)
        slot.follow()
        assert slot._frozen["0"].device == slot._merged["0"].device == META
        kept = slot._merged["0"]
        with slot.suspended():
            assert layer[0].weight.data is not kept and layer[0].weight.device == META
            slot.follow()
    assert slot._merged == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED: no GPU")
@pytest.mark.parametrize("mode", ["in turns", "layer by layer"])
def test_a_card_draws_the_same_and_holds_what_works(config: GeneratorConfig, mode: str) -> None:
    card = torch.device("cuda", 0)
    found = Foundation.load(config, CONCEPTS, card)
    expected = draw(found, config)
    assert found.placement.take_turns()
    if mode == "layer by layer":
        assert found.placement.stream_layers()
    latents = torch.zeros(1, *found.latent_shape, device=card)
    found.predict(latents, torch.tensor(5, device=card), torch.zeros(1, device=card).long())
    assert {each.device.type for each in found.vae.parameters()} == {"cpu"}
    found.decode(latents)
    assert {each.device.type for each in found.denoiser.parameters()} == {"cpu"}
    assert torch.equal(draw(found, config), expected)


def test_who_could_not_draw_with_an_adapter_can_still_be_tuned(
    foundation: Foundation, config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, frozen = tuned(foundation).state, draw(foundation, config)
    with foundation.adapters.using(first, "a test"):
        expected = draw(foundation, config)
    before = weights(foundation)
    Card(foundation, monkeypatch, adapters_crowd=True)
    for _ in range(2):
        with foundation.adapters.using(first, "a test"):
            assert torch.equal(draw(foundation, config), expected)
        assert foundation.placement.mode == "layer by layer"
        again = tuned(foundation).state
        assert foundation.placement.mode == "in turns"
        assert all(torch.equal(again[name], value) for name, value in first.items())
        assert torch.equal(draw(foundation, config), frozen)
    after = weights(foundation)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_an_adapter_s_second_copy_has_the_vae_wait(
    foundation: Foundation, config: GeneratorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tuned(foundation).state
    with foundation.adapters.using(state, "a test"):
        expected = draw(foundation, config)
    card = Card(foundation, monkeypatch)
    added: list[torch.Tensor] = []

    def update(down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        added.append(up)
        if len(added) > 2 and foundation.vae not in card.away:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lora_update(down, up)

    monkeypatch.setattr(adapters, "lora_update", update)
    with foundation.adapters.using(state, "a test"):
        assert foundation.placement.mode == "in turns"
        assert torch.equal(draw(foundation, config), expected)
