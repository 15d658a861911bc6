"""An IP-Adapter shows pictures as in plain diffusers, and is gone when it is not asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.seeding import torch_generator
from regl_app.data.images import ImageSet
from regl_app.generator import placement
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adapters import save_adapter
from regl_app.generator.encoder_files import image_encoder_digest
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_features import read_pictures
from regl_app.generator.image_prompts import ImagePrompts
from regl_app.generator.ip_adapter import IpAdapter, check_ip_adapter
from regl_app.generator.named_encoder import NamedEncoder
from regl_app.generator.sampling import sample

FILE = "ip-adapter_tiny.safetensors"
CLASSES = ("a cat", "a dog", "a horse")
LABELS, INDICES = [0, 1, 2, 2, 0], [0, 0, 0, 2, 1]
OWN = torch.tensor([0, 0, 1])
SHOWN = [0, 2, 0, 2, 1]
"""Of the client's three pictures: cats and a dog in turn, and of all for horses, which it lacks."""
SCALE = 0.7


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    pipelines: Callable[[str], Path],
    second_pipeline: Path,
    save_ip_adapter: Callable[..., Path],
    save_clip: Callable[..., Path],
) -> Callable[[str], tuple[Path, Path]]:
    """Return what gives a pipeline's folder and one of an IP-Adapter for it, with its encoder."""
    made: dict[str, tuple[Path, Path]] = {}

    def of(name: str) -> tuple[Path, Path]:
        if name not in made:
            pipeline = second_pipeline if name == "sd" else pipelines(name)
            place = tmp_path_factory.mktemp(f"ip-{name}")
            assert save_ip_adapter(pipeline, place) == place / FILE
            save_clip(place / "image_encoder")
            made[name] = pipeline, place
        return made[name]

    return of


def settings(pipeline: Path, guidance: float) -> GeneratorConfig:
    return GeneratorConfig(
        path=str(pipeline), steps=3, guidance=guidance, guidance_stop=1.0, precision="fp32"
    )


def pictures() -> torch.Tensor:
    made = torch.randint(0, 256, (3, 3, 40, 40), generator=torch_generator(0, "pictures"))
    return made.to(torch.uint8)


def prompts_of(foundation: Foundation, place: Path, scale: float = SCALE) -> ImagePrompts:
    encoder = place / "image_encoder"
    named = NamedEncoder(str(encoder), image_encoder_digest(encoder))
    return ImagePrompts(read_pictures(foundation, pictures(), 2, named), OWN, scale)


def by_diffusers(
    pipeline: Path,
    place: Path,
    foundation: Foundation,
    config: GeneratorConfig,
    adapter: Path | None = None,
) -> torch.Tensor:
    """Return what the pipeline's own ``load_ip_adapter`` makes of the same noise, in [0, 1]."""
    from diffusers import AutoPipelineForText2Image

    pipe: Any = AutoPipelineForText2Image.from_pretrained(pipeline, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    if adapter is not None:
        pipe.load_lora_weights(adapter)
    pipe.load_ip_adapter(str(place), subfolder="", weight_name=FILE)
    pipe.set_ip_adapter_scale(SCALE)
    made = []
    # The pipeline shows the same picture beside all prompts of a call.
    for label, index, shown in zip(LABELS, INDICES, SHOWN, strict=True):
        noise = torch.randn(foundation.latent_shape, generator=torch_generator(7, label, index))
        images = pipe(
            foundation.prompts[label],
            ip_adapter_image=Image.fromarray(pictures()[shown].permute(1, 2, 0).numpy()),
            num_inference_steps=config.steps,
            guidance_scale=config.guidance,
            latents=noise[None],
            height=foundation.image_size,
            width=foundation.image_size,
            output_type="pt",
        ).images
        made.append(images)
    return torch.cat(made)


@pytest.mark.parametrize(("name", "guidance"), [("sd", 1.0), ("sd", 2.5), ("sdxl", 2.5)])
def test_images_are_those_of_the_pipelines_own_load_ip_adapter(
    name: str, guidance: float, folder: Callable[[str], tuple[Path, Path]]
) -> None:
    pipeline, place = folder(name)
    config = settings(pipeline, guidance)
    foundation = Foundation.load(config, CLASSES)
    before = {key: value.clone() for key, value in foundation.denoiser.state_dict().items()}
    plain = sample(foundation, LABELS, INDICES, config, stream=7)
    expected = by_diffusers(pipeline, place, foundation, config)
    adapter, prompts = IpAdapter.of(str(place / FILE)), prompts_of(foundation, place)
    for _ in range(2):  # its layers are kept for the next time
        with foundation.image_prompts.using(adapter, prompts):
            images = sample(foundation, LABELS, INDICES, config, stream=7)
        assert ((expected * 255) - images).abs().max() <= 1.0
        assert (images.int() - plain).abs().float().mean() > 0.5
        assert torch.equal(sample(foundation, LABELS, INDICES, config, stream=7), plain)
        after = foundation.denoiser.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_with_a_tuned_adapter_images_are_those_of_both_in_diffusers(
    name: str, folder: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    pipeline, place = folder(name)
    config = settings(pipeline, 2.5)
    foundation = Foundation.load(config, CLASSES)
    adapter, prompts = IpAdapter.of(str(place / FILE)), prompts_of(foundation, place)
    lora = LoraConfig(rank=2, steps=4, batch_size=3, lr=5e-2, layers="all")
    real = ImageSet(pictures(), OWN)
    with foundation.image_prompts.using(adapter, prompts):
        pass  # what was in effect before does not reach the tuning
    state = tune_lora(foundation, real, lora, seed=0).state
    fresh = Foundation.load(config, CLASSES)
    again = tune_lora(fresh, real, lora, seed=0).state
    assert all(torch.equal(state[key], value) for key, value in again.items())
    save_adapter(tmp_path / "adapter", state)
    expected = by_diffusers(pipeline, place, foundation, config, tmp_path / "adapter")
    with foundation.image_prompts.using(adapter, prompts):
        prompted = sample(foundation, LABELS, INDICES, config, stream=7)
        with foundation.adapter(tmp_path / "adapter"):
            both = sample(foundation, LABELS, INDICES, config, stream=7)
        assert torch.equal(sample(foundation, LABELS, INDICES, config, stream=7), prompted)
    assert ((expected * 255) - both).abs().max() <= 1.0
    assert (both.int() - prompted).abs().float().mean() > 0.5


def test_the_frozen_models_guidance_is_shown_the_picture_too(
    folder: Callable[[str], tuple[Path, Path]],
) -> None:
    """With an adapter that changes nothing, whose direction guides makes no difference."""
    pipeline, place = folder("sd")
    config = settings(pipeline, 2.5)
    foundation = Foundation.load(config, CLASSES)
    nothing = {
        "unet.conv_in.lora_A.weight": torch.zeros(1, 4, 3, 3),
        "unet.conv_in.lora_B.weight": torch.zeros(16, 1, 1, 1),
    }
    adapter, prompts = IpAdapter.of(str(place / FILE)), prompts_of(foundation, place)
    with (
        foundation.image_prompts.using(adapter, prompts),
        foundation.adapters.using(nothing, "made by hand"),
    ):
        made = [
            sample(
                foundation, LABELS, INDICES, config.model_copy(update={"guide": guide}), stream=7
            ).int()
            for guide in ("adapted", "frozen")
        ]
    assert (made[0] - made[1]).abs().max() <= 1


def test_at_scale_zero_and_by_another_picture_the_picture_is_what_counts(
    folder: Callable[[str], tuple[Path, Path]],
) -> None:
    pipeline, place = folder("sd")
    config = settings(pipeline, 2.5)
    foundation = Foundation.load(config, CLASSES)
    adapter = IpAdapter.of(str(place / FILE))
    plain = sample(foundation, LABELS, INDICES, config, stream=7)

    def drawn(scale: float, features: torch.Tensor) -> torch.Tensor:
        prompts = ImagePrompts(features, OWN, scale)
        with foundation.image_prompts.using(adapter, prompts):
            return sample(foundation, LABELS, INDICES, config, stream=7)

    features = prompts_of(foundation, place).features
    assert (drawn(0.0, features).int() - plain).abs().max() <= 1
    mine, other = drawn(1.0, features), drawn(1.0, features[[0, 1, 0]])
    changed = (mine.int() - other).abs().flatten(1).float().mean(1) > 0.05
    assert changed.tolist() == [place == 2 for place in SHOWN]


@pytest.mark.parametrize("before", [False, True])
def test_layers_that_come_one_by_one_are_shown_pictures_as_all_at_once_are(
    before: bool, folder: Callable[[str], tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter's own layers stay on the device, whether they came there before or after."""
    pipeline, place = folder("sd")
    config = settings(pipeline, 2.5)
    monkeypatch.setattr(placement, "can_wait", lambda _: True)
    monkeypatch.setattr(placement, "_learnt", {})
    adapter = IpAdapter.of(str(place / FILE))
    found = Foundation.load(config, CLASSES)
    prompts = prompts_of(found, place)

    def drawn() -> torch.Tensor:
        with found.image_prompts.using(adapter, prompts):
            return sample(found, LABELS, INDICES, config, stream=7)

    expected = drawn()
    if not before:
        found = Foundation.load(config, CLASSES)
    assert found.placement.take_turns() and found.placement.stream_layers()
    assert torch.equal(drawn(), expected)


@pytest.mark.parametrize("mode", ["in turns", "layer by layer"])
@pytest.mark.parametrize("before", [False, True])
def test_its_layers_are_brought_to_where_the_denoiser_works(
    mode: str,
    before: bool,
    folder: Callable[[str], tuple[Path, Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline, place = folder("sd")
    monkeypatch.setattr(placement, "can_wait", lambda _: True)
    monkeypatch.setattr(placement, "_learnt", {})
    found = Foundation.load(settings(pipeline, 2.5), CLASSES)
    adapter, prompts = IpAdapter.of(str(place / FILE)), prompts_of(found, place)
    if before:
        with found.image_prompts.using(adapter, prompts):
            pass
    card = torch.device("meta")
    monkeypatch.setattr(torch, "meta", torch.cpu, raising=False)  # group offloading asks for it
    assert found.placement.take_turns()
    found.placement._device = card
    if mode == "layer by layer":
        assert found.placement.stream_layers()
    else:
        found.placement.use("denoiser")
    with found.image_prompts.using(adapter, prompts):
        shows = [
            weight
            for name, weight in found.denoiser.named_parameters()
            if "_ip." in name or "encoder_hid_proj" in name
        ]
        assert len(shows) > 8
        assert {(each.device, each.dtype) for each in shows} == {(card, torch.float32)}


def test_the_official_files_that_are_of_another_kind_are_refused_by_name(
    folder: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    plain = load_file(folder("sd")[1] / FILE)
    keys = {name: value for name, value in plain.items() if name.startswith("ip_adapter.")}
    some = torch.zeros(2, 2)
    for names, said in (
        (["latents", "proj_in.weight"], "a 'plus' one"),
        (["proj.0.weight", "proj.2.weight", "proj.3.weight"], "a 'full face' one"),
        (["proj.0.weight", "proj.2.weight", "norm.weight"], "a 'FaceID' one"),
        (["perceiver_resampler.proj_in.weight", "proj.0.weight"], "a 'FaceID plus' one"),
        (["something"], "of no kind known"),
        ([], "is no IP-Adapter"),
    ):
        file = tmp_path / "other.safetensors"
        save_file({**keys, **{f"image_proj.{name}": some.clone() for name in names}}, file)
        with pytest.raises(GeneratorError, match=rf"generator.ip-adapter '.*{said}"):
            IpAdapter.of(str(file))
    save_file({**keys, "image_proj.proj.weight": torch.zeros(2)}, file)  # of no length
    with pytest.raises(GeneratorError, match=r"generator.ip-adapter '.*of no kind known"):
        IpAdapter.of(str(file))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent.safetensors", r"must be '' or a \.safetensors file"),
        ("folder", r"must be '' or a \.safetensors file"),
        ("ip-adapter_sd15.bin", "is a pickle.*never read"),
        ("damaged.safetensors", r"cannot be read: .*fetch it again"),
    ],
)
def test_what_is_no_file_of_tensors_is_refused(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "ip-adapter_sd15.bin").write_bytes(b"x")
    (tmp_path / "damaged.safetensors").write_bytes(b"x")
    with pytest.raises(GeneratorError, match=said):
        IpAdapter.of(str(tmp_path / name))


def test_an_ip_adapter_that_may_not_be_mapped_is_told_with_its_limit(
    second_pipeline: Path,
    save_ip_adapter: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter = IpAdapter.of(str(save_ip_adapter(second_pipeline, tmp_path)))

    def refused(_: Path) -> None:
        raise MemoryError

    monkeypatch.setattr("regl_app.generator.ip_adapter.load_file", refused)
    with pytest.raises(GeneratorError, match=r"cannot be read: .*ulimit -v unlimited"):
        adapter.read()


def test_an_adapter_must_be_made_for_the_generator_and_the_encoder(
    folder: Callable[[str], tuple[Path, Path]],
    pipelines: Callable[[str], Path],
    save_clip: Callable[..., Path],
    tmp_path: Path,
) -> None:
    pipeline, place = folder("sd")
    path, encoder = str(place / FILE), place / "image_encoder"
    check_ip_adapter(path, pipeline, encoder)
    with pytest.raises(GeneratorError, match=r"it is for 4 layers that listen to 24, the .* to 32"):
        check_ip_adapter(path, folder("sdxl")[0], encoder)
    with pytest.raises(GeneratorError, match=r"is for a UNet.*has a SD3Transformer2DModel"):
        check_ip_adapter(path, pipelines("sd3"), encoder)
    other = save_clip(tmp_path / "clip", features=9)
    with pytest.raises(GeneratorError, match=r"is shown 8 numbers .* makes 9 numbers"):
        check_ip_adapter(path, pipeline, other)
    foundation = Foundation.load(settings(pipeline, 1.0), CLASSES)
    with (
        pytest.raises(GeneratorError, match="is shown 8 numbers a picture, the encoder makes 9"),
        foundation.image_prompts.using(
            IpAdapter.of(path), ImagePrompts(torch.zeros(3, 9), OWN, 1.0)
        ),
    ):
        pass


def test_weights_of_no_use_leave_the_generator_as_it_was(
    folder: Callable[[str], tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, place = folder("sd")
    config = settings(pipeline, 1.0)
    foundation = Foundation.load(config, CLASSES)
    prompts = prompts_of(foundation, place)
    plain = sample(foundation, LABELS, INDICES, config, stream=7)
    weights = load_file(place / FILE)
    first = next(name for name in weights if "to_k_ip" in name)
    for change, said in (
        ({first: torch.full_like(weights[first], torch.nan)}, "is not finite"),
        ({first: torch.zeros(3, 3)}, "does not fit this generator"),
    ):
        file = tmp_path / "changed.safetensors"
        save_file({**weights, **change}, file)
        adapter = IpAdapter.of(str(file))
        with (
            pytest.raises(GeneratorError, match=said),
            foundation.image_prompts.using(adapter, prompts),
        ):
            pass
        assert torch.equal(sample(foundation, LABELS, INDICES, config, stream=7), plain)
    for lacked in ("image_proj.norm.bias", first.replace("to_k_ip", "to_v_ip")):
        save_file({name: each for name, each in weights.items() if name != lacked}, file)
        with (
            pytest.raises(GeneratorError, match="does not fit this generator"),
            foundation.image_prompts.using(IpAdapter.of(str(file)), prompts),
        ):
            pass
        assert torch.equal(sample(foundation, LABELS, INDICES, config, stream=7), plain)
    save_file({**weights, first: torch.zeros(3, 3)}, file)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    whole = IpAdapter.of(str(place / FILE))
    with monkeypatch.context() as patch:
        patch.setattr(type(foundation.denoiser), "to", full)  # as load_ip_adapter calls it
        with (
            pytest.raises(GeneratorError, match="its layers do not fit into cpu beside the gener"),
            foundation.image_prompts.using(whole, prompts),
        ):
            pass
    assert torch.equal(sample(foundation, LABELS, INDICES, config, stream=7), plain)
    save_file({**weights, "more": torch.zeros(1)}, file)
    with (
        pytest.raises(GeneratorError, match="was replaced in the midst of a run"),
        foundation.image_prompts.using(adapter, prompts),
    ):
        pass
