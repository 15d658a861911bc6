"""What ``regl doctor`` finds, and when it says no."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from regl_app.cli.doctor.finding import Finding
from regl_app.cli.doctor.machine import SUPERLINK_PORT_VARIABLE, examine
from regl_app.cli.doctor.pace import expected_time
from regl_app.config import RunConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.types import Scalar
from regl_app.data.sources import registry
from regl_app.generator import pace


@pytest.fixture(autouse=True)
def free_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as held:  # nothing listens there, and nothing else can meanwhile
        held.bind(("127.0.0.1", 0))
        monkeypatch.setenv(SUPERLINK_PORT_VARIABLE, str(held.getsockname()[1]))
        yield


def found(topic: str, flat: dict[str, Scalar] | None = None) -> Finding:
    config = RunConfig.from_flat({"method": "fedavg", "cache-dir": "cache", **(flat or {})})
    (finding,) = [finding for finding in examine(config) if finding.topic == topic]
    return finding


def test_a_sound_machine_has_nothing_that_fails() -> None:
    config = RunConfig.from_flat({"method": "fedavg", "cache-dir": "cache"})
    findings = examine(config)
    assert [finding for finding in findings if finding.status == "fail"] == []
    assert {"Python", "packages", "processor", "data", "flwr run"} <= {f.topic for f in findings}


def test_classes_that_the_bundled_generator_does_not_know_are_told(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (8, 8), number).save(tmp_path / "photos" / name / f"{number}.png")
    own: dict[str, Scalar] = {"data.source": "folder", "data.path": "photos", "method": "regl"}
    finding = found("generator", own)
    assert finding.status == "fail"
    assert "digits only, not 'cat', 'dog'" in finding.detail
    assert found("generator", own | {"method": "fedavg"}).status == "ok"


def test_the_bundled_generator_is_found_whole() -> None:
    finding = found("generator", {"method": "regl"})
    assert finding.status == "ok"
    assert "bundled" in finding.detail


def test_a_negative_prompt_that_nothing_hears_is_noted() -> None:
    keys: dict[str, Scalar] = {"generator.negative-prompt": "ugly", "generator.guidance": 1.0}
    finding = found("negative prompt", {"method": "regl", **keys})
    assert finding.status == "note" and "generator.guidance=1 is off" in finding.detail


def test_a_method_without_generator_needs_none() -> None:
    assert "not needed" in found("generator").detail


def test_absent_data_is_named_with_a_remedy(tmp_path: Path) -> None:
    finding = found("data", {"data.source": "mnist", "data.path": str(tmp_path / "none")})
    assert finding.status == "fail"
    assert str(tmp_path / "none") in finding.detail
    assert finding.remedy


def test_what_of_a_folder_is_not_read_is_noted(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("cat", "dog"):
        (photos / name).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (9, 9), number).save(photos / name / f"{number}.png")
    keys: dict[str, Scalar] = {"data.source": "folder", "data.path": str(photos)}
    assert found("data", keys).status == "ok"
    registry._load.cache_clear()  # the pictures are what they were
    (photos / "cat" / "x.nef").write_bytes(b"x")
    finding = found("data", keys)
    assert finding.status == "note", finding.detail
    assert "not read: 1 .nef" in finding.detail


def test_the_classes_are_listed_and_those_without_a_test_image_are_noted(tmp_path: Path) -> None:
    def photos(top: Path, counts: dict[str, int]) -> dict[str, Scalar]:
        for name, count in counts.items():
            (top / name).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (9, 9), number).save(top / name / f"{number}.png")
        return {"data.source": "folder", "data.path": str(top)}

    finding = found("classes", photos(tmp_path / "whole", {"Hund": 10, "Vögel": 20}))
    assert finding.status == "ok" and finding.detail == "Hund 7 + 3, Vögel 14 + 6 (train + test)"
    keys = photos(tmp_path / "small", {"Hund": 10, "[red]": 1})
    finding = found("classes", keys)
    assert finding.status == "note" and "Hund 6 + 4, [red] 1 + 0" in finding.detail
    assert "no test image of '[red]'" in finding.detail
    keys = photos(tmp_path / "many", {f"c{number:02}": number + 4 for number in range(25)})
    finding = found("classes", keys)
    assert re.fullmatch(
        r"25, of 'c00' \(3 \+ 1\) to 'c24' \(\d+ \+ \d\) \(train \+ test\)", finding.detail
    )
    site: dict[str, Scalar] = {"data.source": "site", "data.classes": "a,b", "method": "fedavg"}
    config = RunConfig.from_flat({**site, "cache-dir": "cache"})
    assert not [each for each in examine(config) if each.topic == "classes"]


def test_a_folder_that_is_no_pipeline_fails(tmp_path: Path) -> None:
    finding = found("generator", {"method": "regl", "generator.path": str(tmp_path)})
    assert finding.status == "fail"
    assert "model_index.json" in finding.detail


def test_the_precision_that_the_generator_runs_in_is_told() -> None:
    keys: dict[str, Scalar] = {"method": "regl", "generator.precision": "bf16", "device": "cpu"}
    assert found("precision", keys).detail == "bf16 on cpu, weights held in fp32"


def test_an_image_encoder_is_told_where_it_is_named(tmp_path: Path) -> None:
    named: dict[str, Scalar] = {"method": "regl", "generator.image-encoder": "nobody/nothing"}
    unread = found("image encoder", named)
    assert unread.status == "note" and "lora.image-tokens=0" in unread.detail
    told = named | {"lora.image-tokens": 4}
    assert "fetched when first used" in found("image encoder", told).detail
    (tmp_path / "model.safetensors").touch()
    told["generator.image-encoder"] = str(tmp_path)
    finding = found("image encoder", told)
    assert finding.status == "fail" and "holds no config.json" in finding.detail
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "BitImageProcessor"}'
    )
    assert found("image encoder", told).status == "ok"


@pytest.mark.usefixtures("uncounted")
def test_an_ip_adapter_is_told_where_it_is_named(
    second_pipeline: Path,
    save_ip_adapter: Callable[..., Path],
    save_clip: Callable[..., Path],
    tmp_path: Path,
) -> None:
    shown: dict[str, Scalar] = {
        "method": "regl",
        "generator.path": str(second_pipeline),
        "generator.image-encoder": str(save_clip(tmp_path / "clip")),
        "generator.ip-adapter": str(save_ip_adapter(second_pipeline, tmp_path)),
    }
    assert found("image encoder", shown).status == "ok"
    assert found("IP-Adapter", shown).status == "ok"
    unfit = found("IP-Adapter", shown | {"generator.path": "bundled"})
    assert unfit.status == "fail" and "does not fit generator.path" in unfit.detail


def test_a_hub_id_is_not_fetched() -> None:
    finding = found("generator", {"method": "regl", "generator.path": "nobody/nothing"})
    assert finding.status == "note"
    assert "nobody/nothing" in finding.detail
    assert "safetensors of denoiser, VAE and text encoders are fetched" in finding.detail


def test_memory_is_counted_before_any_weight_is_loaded(
    quick_generator: dict[str, Scalar], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError("loaded")

    keys: dict[str, Scalar] = {"method": "regl", "generator.batch-size": 2, **quick_generator}
    _, _, exact = expected_time(RunConfig.from_flat(keys))
    for name in ("load_pipeline", "shared_foundation"):
        monkeypatch.setattr(f"regl_app.generator.foundation.{name}", loaded)
    finding = found("memory", keys)
    assert finding.status == "ok"
    assert finding.detail == exact.detail


def test_a_taken_port_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        monkeypatch.setenv(SUPERLINK_PORT_VARIABLE, str(port))
        finding = found("flwr run")
    assert finding.status == "note"
    assert str(port) in finding.detail


def test_a_missing_gpu_that_is_asked_for_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert found("GPU", {"device": "cuda:1"}).status == "fail"
    assert found("GPU").status == "ok"


@pytest.mark.parametrize(("device", "status"), [("auto", "note"), ("cuda", "fail")])
def test_a_gpu_that_cannot_be_used_is_told_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, device: str, status: str
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    finding = found("GPU", {"device": device})
    assert finding.status == status
    assert finding.detail.startswith("2 GPUs are here and cannot be used: ")


def test_an_apple_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    finding = found("GPU")
    assert finding.status == "note"
    assert "the processor is used, not the Apple GPU" in finding.detail


@pytest.mark.usefixtures("uncounted")
def test_large_weights_are_told_as_they_are_held(
    monkeypatch: pytest.MonkeyPatch, second_pipeline: Path
) -> None:
    monkeypatch.setattr("regl_app.generator.weights_size.weights_in_memory", lambda _: 8 * 10**9)
    monkeypatch.setattr("regl_app.generator.held_weights.weights_in_memory", lambda _: 8 * 10**9)
    monkeypatch.setattr("regl_app.generator.compatibility.check_source", lambda *_: None)
    keys: dict[str, Scalar] = {"method": "regl", "generator.path": str(second_pipeline)}
    for precision, expected in (("fp32", "8.0"), ("bf16", "4.0")):
        keys["generator.precision"] = precision
        detail = found("memory", keys).detail
        assert f"{expected} GB of each worker's device, in {precision}" in detail


def test_a_package_out_of_bounds_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "regl_app.cli.doctor.machine.requires",
        lambda _: ["torch>=999", "no-such-package>=1", 'other>=1; extra == "test"'],
    )
    finding = found("packages")
    assert finding.status == "fail"
    assert "torch>=999 (found" in finding.detail
    assert "no-such-package>=1 (not installed)" in finding.detail
    assert "other" not in finding.detail


def test_a_folder_nobody_may_write_to_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert found("run folders").status == "fail"


def test_the_size_of_the_cache_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache" / "images").mkdir(parents=True)
    (tmp_path / "cache" / "images" / "x").write_bytes(bytes(20_000_000))
    assert "holds 0.02 GB that may be deleted while nothing runs" in found("cache").detail


def test_expected_time_is_told_on_request(quick_generator: dict[str, Scalar]) -> None:
    config = RunConfig.from_flat(
        {
            "method": "regl",
            "cache-dir": "cache",
            "lora.batch-size": 1,
            "lora.rank": 1,
            "generator.batch-size": 2,
            "generator.steps": 3,
        }
        | quick_generator
    )
    images, adapter, memory = expected_time(config)
    assert images.status == adapter.status == "ok"
    assert "of 16 px in 3 steps, 2 at once, on cpu" in images.detail
    assert "a tuning step of 1" in adapter.detail and "(lora.steps)" in adapter.detail
    assert memory.topic == "memory" and memory.status == "ok"
    assert re.search(
        r"^[\d.]+ kB to draw 2 images, [\d.]+ kB to tune 1 image at once", memory.detail
    )


def test_expected_time_of_preferences_is_told_where_they_are_tuned(
    quick_generator: dict[str, Scalar], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = pace.Pace(image=0.5, at_once=2, step=1.0, preference=2.0)
    monkeypatch.setattr(pace, "measure_pace", lambda *_: timed)
    keys: dict[str, Scalar] = {"method": "feddpd", "dpo.steps": 30, "dpo.batch-size": 4}
    config = RunConfig.from_flat(keys | quick_generator)
    times = [finding for finding in expected_time(config) if finding.topic == "time"]
    assert len(times) == 2  # dpo.start=frozen: no adapter is tuned on the client's images
    words = "2.0 s a step of preferences of 4 pairs: 60 s for 30 (dpo.steps), a client"
    assert times[1].detail.startswith(words)
    both = config.updated({"dpo.start": "lora", "supplement.site": "client"})
    assert [f.topic for f in expected_time(both)].count("time") == 3
    unknown = pace.Pace(image=0.5, at_once=2, step=1.0, untold_preference="too slow")
    monkeypatch.setattr(pace, "measure_pace", lambda *_: unknown)
    told = [finding for finding in expected_time(config) if finding.topic == "time"]
    assert (told[1].status, told[1].detail) == ("note", "too slow")


@pytest.mark.parametrize(
    ("keys", "told", "untold"),
    [
        ({"method": "regl"}, "20 s for the 40 of a class", "pool.per-class"),
        (
            {"method": "fedavg", "teaching.first-steps": 9},
            "15 s for the 30 of the shared pool",
            "40",
        ),
        ({"method": "regl", "teaching.first-steps": 9}, "(supplement.cap), 15 s for the 30", "?"),
    ],
)
def test_expected_time_is_of_what_is_made(
    keys: dict[str, Scalar],
    told: str,
    untold: str,
    quick_generator: dict[str, Scalar],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed = pace.Pace(image=0.5, at_once=2, step=1.0)
    monkeypatch.setattr(pace, "measure_pace", lambda *_: timed)
    images, *_ = expected_time(RunConfig.from_flat(keys | {"pool.per-class": 3} | quick_generator))
    assert told in images.detail and untold not in images.detail


def test_the_option_that_times_is_named(quick_generator: dict[str, Scalar]) -> None:
    finding = found("time", {"method": "regl"} | quick_generator)
    assert finding.status == "note" and "regl doctor --time" in finding.detail
    config = RunConfig.from_flat({"method": "fedavg"})
    assert "time" not in {each.topic for each in examine(config)}


def test_what_cannot_be_tuned_here_is_said_beside_how_long_drawing_takes(
    quick_generator: dict[str, Scalar], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "cuda:0 does not hold the weights: no adapter can be tuned on it"
    timed = pace.Pace(image=0.5, at_once=2, step=None, untold=told)
    monkeypatch.setattr(pace, "measure_pace", lambda *_: timed)
    images, adapter, _ = expected_time(RunConfig.from_flat({"method": "regl"} | quick_generator))
    assert images.status == "ok" and "2 images a second" in images.detail
    assert (adapter.status, adapter.detail) == ("note", told)


def test_memory_is_counted_where_nothing_can_be_timed(
    quick_generator: dict[str, Scalar], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise GeneratorError("no room for it")

    monkeypatch.setattr(pace, "measure_pace", fails)
    timed, memory = expected_time(RunConfig.from_flat({"method": "regl"} | quick_generator))
    assert timed.status == "note" and "not measured: no room for it" in timed.detail
    assert memory.topic == "memory" and "counted by shapes" in memory.detail


def test_what_is_not_here_is_not_fetched_to_be_timed() -> None:
    config = RunConfig.from_flat({"method": "regl", "generator.path": "owner/name"})
    (finding,) = expected_time(config)
    assert finding.status == "note" and "not measured" in finding.detail
    (finding,) = expected_time(RunConfig.from_flat({"method": "fedavg"}))
    assert "no generator is needed" in finding.detail


def test_who_can_hold_what_is_told_by_column_and_by_file(tmp_path: Path) -> None:
    root = tmp_path / "set"
    lines = ["file_name,ward"]
    for number in range(8):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)
        lines.append(f"{path.relative_to(root)},w{number // 2}")
    (root / "metadata.csv").write_text("\n".join(lines))
    keys: dict[str, Scalar] = {"data.source": "folder", "data.path": str(root), "method": "fedavg"}
    by = {"partition.scheme": "column", "partition.column": "ward", "data.test-fraction": 0.1}
    told = found("partition", {**keys, **by})
    assert told.status == "ok" and "ward: 4 values" in told.detail and "w0, w1" in told.detail
    wrong = found("partition", {**keys, **by, "partition.column": "wart"})
    assert wrong.status == "fail" and "did you mean 'ward'" in wrong.detail
    who = tmp_path / "who.csv"
    given: dict[str, Scalar] = {"partition.scheme": "file", "partition.file": str(who)}
    assert "No such file" in found("partition", {**keys, **given}).detail
    who.write_text("client,file\nanna,a/0.png\nzoe,b/1.png\n")
    assert "for 2 clients" in found("partition", {**keys, **given}).detail
