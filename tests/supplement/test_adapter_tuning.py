from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.choices import REWARDS
from regl_app.core.disk_cache import GIGABYTE
from regl_app.core.errors import ProtocolError
from regl_app.core.files import sha256_file
from regl_app.core.types import Scalar
from regl_app.data.images import ImageSet
from regl_app.data.picture_store import PictureStore
from regl_app.generator.adaptation.cache import AdapterCache
from regl_app.generator.adaptation.dpo import PreferenceTuned, tune_dpo
from regl_app.generator.adaptation.ruin import Known
from regl_app.generator.adaptation.shared import SharedAdapter, up_of
from regl_app.generator.adapters import WEIGHTS, load_adapter
from regl_app.generator.fitting import fitted
from regl_app.generator.foundation import Foundation
from regl_app.supplement.adapter_tuning import AdapterTuning
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.own_pictures import OwnPictures
from regl_app.supplement.pools import Pools
from regl_app.supplement.run_generator import RunGenerator

Make = Callable[..., AdapterTuning]
Pair = Callable[..., ModelPair]


@pytest.fixture
def make(run_generator: Callable[..., RunGenerator], tmp_path: Path) -> Make:
    def tuning(config: RunConfig, **changes: object) -> AdapterTuning:
        generator = run_generator(config, **changes)
        pools = Pools(generator, tmp_path / "pools", GIGABYTE)
        own = OwnPictures(generator, PictureStore(tmp_path / "pictures"))
        return AdapterTuning(generator, AdapterCache(tmp_path / "adapters"), pools, own)

    return tuning


def test_too_few_images_or_a_frozen_run_stay_frozen(
    config: RunConfig, real: ImageSet, make: Make
) -> None:
    assert make(config).adapt("a", real.subset([0, 1])).path is None
    frozen = config.updated({"method": "regl-free"})
    assert make(frozen).adapt("a", real) == ClientGenerator.frozen("a")


def test_image_tokens_are_made_by_the_encoder_that_the_run_names(
    config: RunConfig, real: ImageSet, make: Make, tmp_path: Path
) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    shape = {"hidden_size": 8, "intermediate_size": 8, "image_size": 16, "patch_size": 8}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 5}
    with torch.random.fork_rng(devices=[]):
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(**shape, **layers))
    model.save_pretrained(tmp_path / "clip")
    named = config.updated(
        {"lora.image-tokens": 2, "generator.image-encoder": str(tmp_path / "clip")}
    )
    widths = {}
    for name, told in (("clip", named), ("auto", config.updated({"lora.image-tokens": 2}))):
        path = make(told).adapt("a", real).path
        assert path is not None
        widths[name] = load_adapter(path)["image_tokens.looks"].shape[1]
    assert widths == {"clip": 5, "auto": 4 * 8 * 8}


def test_a_damaged_adapter_is_tuned_again(config: RunConfig, real: ImageSet, make: Make) -> None:
    first = make(config).adapt("a", real)
    assert first.path is not None
    for file in first.path.iterdir():
        file.write_bytes(file.read_bytes()[:-20])
    second = make(config).adapt("a", real)
    assert not second.cached
    assert second.digest == first.digest


def test_other_prompts_have_another_prior(
    config: RunConfig, real: ImageSet, make: Make, tmp_path: Path
) -> None:
    preserving = config.updated({"lora.prior-weight": 1.0})
    make(preserving).adapt("a", real)
    make(preserving, concepts=("a shirt", "a shoe", "a bag")).adapt("a", real)
    assert len(list((tmp_path / "pools").glob("*.safetensors"))) == 2


def test_who_has_every_class_needs_no_prior(
    config: RunConfig, real: ImageSet, make: Make, tmp_path: Path
) -> None:
    every = ImageSet(real.images, torch.tensor([0] * 7 + [1] * 2 + [2]))
    make(config.updated({"lora.prior-weight": 1.0})).adapt("a", every)
    assert not (tmp_path / "pools").exists()


@pytest.mark.parametrize(
    ("change", "preserving", "same"),
    [
        ({"generator.image-size": 24}, False, False),
        ({"generator.guidance": 5.0}, False, True),
        ({"generator.guidance": 5.0}, True, False),
    ],
)
def test_an_adapter_is_found_again_only_by_what_it_was_tuned_from(
    config: RunConfig,
    real: ImageSet,
    make: Make,
    change: dict[str, Scalar],
    preserving: bool,
    same: bool,
) -> None:
    first = config.updated({"lora.prior-weight": float(preserving)})
    assert not make(first).adapt("a", real).cached
    assert make(first.updated(change)).adapt("a", real).cached == same


@pytest.mark.parametrize("start", ["frozen", "lora"])
def test_a_preferred_adapter_is_tuned_once_and_found_by_name(
    config: RunConfig,
    real: ImageSet,
    make: Make,
    model_pair: Pair,
    start: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dpo = config.updated({"supplement.adapter": "dpo", "dpo.start": start})
    tuning = make(dpo)
    base = tuning.adapt("a", real)
    assert (base.path is None) == (start == "frozen")
    preferred = tuning.prefer(base, model_pair())
    assert preferred.steps == 2
    assert preferred.facts["pairs"] == 3 * max(1, int(0.25 * 6))
    assert preferred.facts["reward_margin"] > 0
    assert preferred.path is not None
    assert preferred.digest != base.digest
    assert tuning.prefer(base, model_pair((1, 0))).digest != preferred.digest

    monkeypatch.setattr(RunGenerator, "foundation", property(lambda self: pytest.fail("loaded")))
    warm = make(dpo)
    again = warm.prefer(warm.adapt("a", real), model_pair())
    assert again.cached
    assert again.facts == preferred.facts
    by_name = warm.preferred("a", preferred.path.name)
    assert by_name is not None
    assert by_name.digest == preferred.digest
    assert warm.preferred("a", "") is None
    assert warm.preferred("a", "../" + preferred.path.name) is None
    assert warm.preferred("a", "0" * 40) is None


def test_preferences_are_told_what_their_images_were_drawn_from(
    config: RunConfig,
    real: ImageSet,
    make: Make,
    model_pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tuning = make(
        config.updated({"supplement.adapter": "dpo", "dpo.start": "frozen", "pool.per-class": 4}),
        concepts=("the digit zero", ("the digit one", "a one"), "the digit two"),
    )
    told: list[list[int]] = []

    def watched(
        foundation: Foundation, latents: torch.Tensor, rows: torch.Tensor, *args: Any, **keys: Any
    ) -> PreferenceTuned:
        told.append(rows.tolist())
        return tune_dpo(foundation, latents, rows, *args, **keys)

    monkeypatch.setattr("regl_app.supplement.adapter_tuning.tune_dpo", watched)
    tuning.prefer(tuning.adapt("a", real), model_pair())
    assert told == [[0, 0, 0, 0, 1, 3, 1, 3, 2, 2, 2, 2]]


def test_another_reward_is_another_adapter(
    config: RunConfig, real: ImageSet, make: Make, model_pair: Pair
) -> None:
    dpo = config.updated({"supplement.adapter": "dpo"})
    tunings = [make(dpo.updated({"dpo.reward": name})) for name in REWARDS]
    start = tunings[0].adapt("a", real)
    digests = [tuning.prefer(start, model_pair()).digest for tuning in tunings]
    assert len(set(digests)) == len(REWARDS)


def test_preferences_on_top_of_lora_keep_the_lora(
    config: RunConfig, real: ImageSet, make: Make, model_pair: Pair
) -> None:
    tuning = make(config.updated({"supplement.adapter": "dpo", "dpo.start": "lora"}))
    base = tuning.adapt("a", real)
    preferred = tuning.prefer(base, model_pair())
    assert base.path is not None
    assert preferred.path is not None
    below, both = load_adapter(base.path), load_adapter(preferred.path)
    assert both.keys() == below.keys()
    for name, value in below.items():
        axis = 0 if ".lora_A." in name else 1
        assert torch.equal(both[name].narrow(axis, 0, value.shape[axis]), value)


def test_an_adapter_from_another_machine_is_kept_under_its_digest(
    config: RunConfig, real: ImageSet, make: Make
) -> None:
    sent = make(config).adapt("a", real)
    assert sent.path is not None
    digest, file = sha256_file(sent.path / WEIGHTS), (sent.path / WEIGHTS).read_bytes()
    assert make(config).received("b", digest, b"") is None
    with pytest.raises(ProtocolError, match="must have digest"):
        make(config).received("b", digest, file[:-1])
    for content in (file, b""):
        received = make(config).received("b", digest, content)
        assert received is not None
        assert (received.client, received.digest, received.cached) == ("b", sent.digest, True)


def test_a_part_in_a_shared_adapter_is_tuned_once_from_what_it_starts_from(
    config: RunConfig, real: ImageSet, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = config.updated({"supplement.adapter": "shared"})
    tuning = make(shared)
    assert tuning.adapt("a", real) == ClientGenerator.frozen("a")  # nobody has one of its own
    assert tuning.tune_part("a", real.subset([0, 1]), 1, SharedAdapter("")).path is None
    first = tuning.tune_part("a", real, 1, SharedAdapter(""))
    assert (first.steps, first.cached) == (3, False)
    assert first.path is not None
    start = SharedAdapter.of(up_of(load_adapter(first.path)))
    second = tuning.tune_part("a", real, 2, start)
    other = tuning.tune_part("b", real, 1, SharedAdapter(""))
    assert len({first.digest, second.digest, other.digest}) == 3
    monkeypatch.setattr(RunGenerator, "foundation", property(lambda self: pytest.fail("loaded")))
    assert make(shared).tune_part("a", real, 2, start).digest == second.digest


def test_a_shared_adapter_is_the_same_for_all_and_found_by_its_digest(
    config: RunConfig, real: ImageSet, make: Make
) -> None:
    shared = config.updated({"supplement.adapter": "shared"})
    tuning = make(shared)
    part = tuning.tune_part("a", real, 1, SharedAdapter(""))
    assert part.path is not None
    whole = SharedAdapter.of(up_of(load_adapter(part.path)))
    named = SharedAdapter(whole.digest)
    with pytest.raises(ProtocolError, match="is no longer in this client's cache"):
        tuning.shared("a", named)
    kept = tuning.shared("a", whole)
    # Of one client alone the average is what it tuned, A included.
    assert kept.digest == part.digest
    assert (kept.steps, kept.loss) == (0, None)
    assert tuning.shared("b", named).path == kept.path
    with pytest.raises(ProtocolError, match="is no longer in this client's cache"):
        make(shared, seed=1).shared("a", named)  # another run's A


def test_the_rounds_of_a_shared_adapter_are_no_part_of_an_own_ones_key(
    config: RunConfig, real: ImageSet, make: Make
) -> None:
    assert not make(config).adapt("a", real).cached
    assert make(config.updated({"lora.rounds": 3})).adapt("a", real).cached


@pytest.fixture
def ruined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whatever is tuned count as ruined."""
    monkeypatch.setattr("regl_app.supplement.adapter_tuning.strangeness", lambda *_: 41.6)


@pytest.mark.usefixtures("ruined")
def test_a_ruined_adapter_is_told_and_not_used(
    config: RunConfig, real: ImageSet, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", logger="regl")
    kept = make(config).adapt("client-3", real)
    assert kept.path is None and kept.digest == "frozen"
    assert kept.facts == {"ruined": 41.6}
    assert kept.steps == 3
    (told,) = caplog.messages
    assert told.startswith(
        "client-3: the adapter is ruined and not used: what it draws is 42 times"
    )
    assert told.endswith("at most 7 is sound (lower lora.lr, now 0.005)")
    again = make(config).adapt("client-3", real)  # remembered, not tuned again
    assert again.cached and again.path is None
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("start", ["frozen", "lora"])
def test_ruined_preferences_leave_what_they_started_from(
    config: RunConfig,
    real: ImageSet,
    make: Make,
    model_pair: Pair,
    start: str,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tuning = make(config.updated({"supplement.adapter": "dpo", "dpo.start": start}))
    base = tuning.adapt("a", real)
    request.getfixturevalue("ruined")
    caplog.set_level("WARNING", logger="regl")
    kept = tuning.prefer(base, model_pair())
    assert (kept.path, kept.digest) == (base.path, base.digest)
    assert kept.facts["ruined"] == 41.6
    assert kept.facts["pairs"] > 0
    assert "(lower dpo.lr, now 0.003)" in caplog.text


@pytest.mark.usefixtures("ruined")
def test_a_ruined_part_is_none_of_the_shared_adapter(
    config: RunConfig, real: ImageSet, make: Make
) -> None:
    part = make(config).tune_part("a", real, 1, SharedAdapter(""))
    assert part.path is None
    assert part.facts == {"ruined": 41.6}


def test_the_judge_gets_what_is_used_and_what_it_was_tuned_from(
    config: RunConfig,
    real: ImageSet,
    make: Make,
    model_pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[object, ...]] = []

    def judge(foundation: object, *rest: object) -> float:
        asked.append(rest)
        return 1.0

    monkeypatch.setattr("regl_app.supplement.adapter_tuning.strangeness", judge)
    dpo = config.updated({"supplement.adapter": "dpo", "dpo.start": "lora"})
    tuning = make(dpo)
    base = tuning.adapt("a", real)
    preferred = tuning.prefer(base, model_pair())
    assert base.path is not None and preferred.path is not None
    (sampler, tuned, start, images), (_, both, below, drawn) = asked
    assert sampler == fitted(dpo).generator
    assert isinstance(images, Known) and isinstance(drawn, Known)
    assert images.rows.tolist() == real.labels[[0, 1, 2, 3, 5, 6, 7, 8]].tolist()
    assert drawn.rows.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]  # of six a class
    assert images.share < drawn.share == 1.0
    assert start == {}
    for state, path in ((tuned, base.path), (both, preferred.path), (below, base.path)):
        assert isinstance(state, dict)
        assert state.keys() == load_adapter(path).keys()
    assert "ruined" not in preferred.facts and base.facts == {}
