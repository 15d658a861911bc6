"""What a checkpoint's own configuration does not allow is refused before it is loaded."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from regl_app.cli.doctor.machine import examine
from regl_app.config import RunConfig
from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.types import Scalar
from regl_app.data.images import ImageSet
from regl_app.generator import foundation as loading
from regl_app.generator.foundation import Foundation
from regl_app.generator.limits import blind_start_of, check_limits
from regl_app.generator.sampling import sample
from regl_app.supplement.cache_keys import CacheKeys
from regl_app.supplement.run_generator import RunGenerator

Pipelines = Callable[[str], Path]
CLASSES = ("a cat", "a dog")


def with_scheduler(folder: Path, place: Path, scheduler: Mapping[str, Any]) -> Path:
    """Return a copy of a pipeline with another scheduler."""
    copy = Path(shutil.copytree(folder, place))
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    index = json.loads((copy / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    (copy / "model_index.json").write_text(json.dumps(index))
    return copy


@pytest.mark.parametrize(
    ("name", "keys", "told"),
    [
        ("lcm", {"steps": 60}, r"generator\.steps=60: .*LCMScheduler.*is 50 \(set generator\.ste"),
        ("sdxl-lcm", {"steps": 60}, r"generator\.steps=60: .* is 50 "),
        (
            "lcm",
            {"steps": 40, "image_strength": 0.6},
            r"image-strength=0\.6, the nearest that it makes is 30 .*image-conditioning=false",
        ),
        ("sd3", {"image_size": 136}, r"generator\.image-size=136 .*at most 128 \(lower"),
        ("sd3", {"image_size": 36}, r"generator\.image-size must be a multiple of 8 "),
        ("pixart", {"image_size": 36}, r"generator\.image-size must be a multiple of 8 "),
        ("flux-dev", {"image_size": 36}, r"generator\.image-size must be a multiple of 8 "),
    ],
)
def test_it_is_refused_by_key_before_a_weight_is_read(
    name: str,
    keys: dict[str, Any],
    told: str,
    pipelines: Pipelines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(loading, "_load_pipeline", read)
    config = GeneratorConfig.model_validate(
        {"path": str(pipelines(name)), "image_size": 32, "steps": 4, "guidance": 1.0} | keys
    )
    with pytest.raises(GeneratorError, match=told):
        Foundation.load(config, CLASSES)


@pytest.mark.parametrize(
    ("scheduler", "steps", "nearest"),
    [
        ({"_class_name": "PNDMScheduler"}, 2, 4),
        ({"_class_name": "TCDScheduler"}, 51, 50),
        ({"_class_name": "DDIMScheduler", "steps_offset": 1}, 1000, 999),
        ({"_class_name": "DDPMScheduler", "num_train_timesteps": 100}, 101, 100),
    ],
)
def test_what_a_solver_cannot_make_is_told_with_the_nearest_that_it_can(
    scheduler: Mapping[str, Any], steps: int, nearest: int, pipelines: Pipelines, tmp_path: Path
) -> None:
    folder = with_scheduler(pipelines("sdxl"), tmp_path / "copy", scheduler)
    config = GeneratorConfig(path=str(folder), image_size=32, steps=steps)
    with pytest.raises(GeneratorError, match=rf"steps={steps}: .* is {nearest} \(set"):
        check_limits(folder, config)
    check_limits(folder, config.model_copy(update={"steps": nearest}))


@pytest.mark.parametrize(
    ("name", "keys", "least"),
    [
        ("sdxl-turbo", {"steps": 1}, 2),
        ("flux-schnell", {"steps": 1}, 3),
        # Flow matching leaves out whole steps alone, and has none to leave out here.
        ("flux-schnell", {"steps": 2}, 3),
        ("sd3", {"steps": 8, "image_strength": 0.9}, 10),
        ("sdxl-lcm", {"steps": 1}, 2),
    ],
)
def test_steps_that_begin_at_noise_whatever_the_strength_are_told(
    name: str, keys: dict[str, Any], least: int, pipelines: Pipelines
) -> None:
    folder = pipelines(name)
    config = GeneratorConfig.model_validate({"path": str(folder), "image_size": 32} | keys)
    told = rf"steps={config.steps} .*image-strength={config.image_strength:g}: .*steps={least} or"
    assert re.search(told, blind_start_of(folder, config))
    for other in ({"steps": least}, {"image_strength": 1.0}):
        assert not blind_start_of(folder, config.model_copy(update=other))


def test_all_steps_of_a_latent_consistency_pipeline_begin_at_the_picture(
    pipelines: Pipelines,
) -> None:
    config = GeneratorConfig(path=str(pipelines("lcm")), image_size=32, steps=1)
    assert not blind_start_of(pipelines("lcm"), config)


def test_a_run_is_told_so_before_anything_is_tuned(
    pipelines: Pipelines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys: dict[str, Scalar] = {
        "generator.path": str(pipelines("sdxl-turbo")),
        "generator.image-size": 32,
        "generator.steps": 1,
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("regl_app.supplement.run_generator.shared_foundation", lambda *_: None)

    def generator(**more: Scalar) -> RunGenerator:
        config = RunConfig.from_flat(keys | more)
        return RunGenerator(config, CLASSES, (1, 16, 16), 0, torch.device("cpu"))

    drawn = generator(method="regl")
    _ = drawn.foundation
    told = r"generator\.steps=1 .*image-conditioning=false"
    assert re.search(told, caplog.text)
    topics = [each for each in examine(drawn.config, counted=False) if "image" in each.topic]
    assert [each.status for each in topics] == ["note"]
    caplog.clear()
    # Frozen, made at the server, or by text alone: nothing starts from a picture.
    for more in (
        {"method": "regl-free"},
        {"method": "feddpd", "supplement.site": "download"},
        {"method": "regl", "generator.image-conditioning": False},
        {"method": "regl", "generator.image-share": 0.0},
    ):
        _ = generator(**more).foundation
    assert not re.search(told, caplog.text)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("lcm", {"steps": 50, "image_conditioning": False}),
        ("lcm", {"steps": 30}),
        ("sdxl-lcm", {"steps": 50}),
        ("sd3", {"image_size": 128}),
        ("sd3-shifted-by-size", {}),
        ("pixart", {"image_size": 256}),
        ("sana", {"image_size": 256}),
        ("sana-dpm", {"steps": 1}),
        ("flux-dev", {"image_size": 256, "steps": 1}),
        ("sdxl", {"image_size": 20, "steps": 1000}),
    ],
)
def test_what_is_allowed_passes(name: str, keys: dict[str, Any], pipelines: Pipelines) -> None:
    config = GeneratorConfig.model_validate({"path": str(pipelines(name)), "image_size": 32} | keys)
    check_limits(pipelines(name), config)


@pytest.mark.parametrize(
    ("solver", "kept"),
    [
        ("DPMSolverMultistepScheduler", 2),
        ("DDIMScheduler", 2),
        ("EulerDiscreteScheduler", 2),
        ("LCMScheduler", 4),
        ("TCDScheduler", 4),
    ],
)
def test_a_latent_consistency_pipeline_may_have_a_solver_that_is_told_no_strength(
    solver: str,
    kept: int,
    pipelines: Pipelines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = with_scheduler(pipelines("lcm"), tmp_path / "copy", {"_class_name": solver})
    keys = {"path": str(folder), "image_size": 32, "steps": 4, "image_strength": 0.5}
    config = GeneratorConfig.model_validate(keys)
    check_limits(folder, config)
    run: dict[str, Scalar] = {"generator.path": str(folder), "generator.image-size": 32}
    made = RunConfig.from_flat({"method": "regl", "generator.steps": 4, **run})
    monkeypatch.chdir(tmp_path)
    assert not [each for each in examine(made, counted=False) if "limits" in each.topic]
    foundation = Foundation.load(config, CLASSES)
    start = torch.zeros((1, *foundation.latent_shape))
    steps: list[object] = []
    predict = Foundation.predict

    def spy(self: Foundation, *told: Any) -> torch.Tensor:
        steps.append(told[1])
        return predict(self, *told)

    monkeypatch.setattr(Foundation, "predict", spy)
    sample(foundation, [0], [0], config, stream=1, starts=start)
    assert len(steps) == kept
    keyed = CacheKeys(made, CLASSES, (1, 16, 16), torch.device("cpu"))
    real = ImageSet(torch.zeros((2, 1, 16, 16), dtype=torch.uint8), torch.tensor([0, 1]))
    assert ("starts" in keyed.images(0, "frozen", real, 0, None)) == (kept == 4)


def test_a_loaded_one_s_steps_are_looked_at_again(pipelines: Pipelines) -> None:
    config = GeneratorConfig(path=str(pipelines("lcm")), image_size=32, steps=4)
    with pytest.raises(GeneratorError, match=r"generator\.steps=60"):
        Foundation.load(config, CLASSES).new_scheduler(60)


def test_the_doctor_tells_it_by_configurations(
    pipelines: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys: dict[str, Scalar] = {"generator.path": str(pipelines("lcm")), "generator.steps": 60}
    config = RunConfig.from_flat({"method": "regl", "cache-dir": "cache", **keys})
    (finding,) = [each for each in examine(config, counted=False) if "limits" in each.topic]
    assert finding.status == "fail" and "generator.steps=60" in finding.detail
