"""What a user does with a finished run: predict, evaluate, export."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from regl_app.cli import app
from regl_app.config import RunConfig
from regl_app.core.errors import RunError
from regl_app.core.types import Scalar
from regl_app.data.images import ImageSet, to_float
from regl_app.flower.engines.in_process import run_in_process
from regl_app.flower.own_parts import own_part
from regl_app.learning.models.build import build_model
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import FederationFacts
from regl_app.runs.trained.deployable import Deployable
from regl_app.runs.trained.model import TrainedModel
from regl_app.runs.trained.pictures import named_pictures

CLASSES = {"b": "red", "grün, rund": "green", "c-d": "blue"}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "200"})


def picture(path: Path, colour: str, place: int) -> None:
    """Draw a coloured upper half: turned, transparent or plain."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (24, 24 + place), "white")
    image.paste(colour, (0, 0, 24, 12))
    if place % 3 == 1:
        turned = image.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6  # shown turned by 90 degrees clockwise
        turned.save(path, exif=exif)
        return
    if place % 3 == 2:
        image = image.convert("RGBA")
        image.putalpha(Image.new("L", image.size, 255))
        image.paste((0, 0, 0, 0), (0, 12, *image.size))
    image.save(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three classes, its pictures as people have them."""
    root = tmp_path_factory.mktemp("photos")
    for name, colour in CLASSES.items():
        for place in range(12):
            picture(root / name / f"{place}.png", colour, place)
    (root / "b" / "notes.txt").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def settings(
    small_settings: dict[str, Scalar], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Scalar]:
    out = tmp_path_factory.mktemp("trained")
    return small_settings | {
        "rounds": 1,
        "report": False,
        "out-dir": str(out / "runs"),
        "cache-dir": str(out / "cache"),
    }


@pytest.fixture(scope="module")
def run(settings: dict[str, Scalar], photos: Path) -> RunFolder:
    """Return a run on these pictures."""
    own: dict[str, Scalar] = {
        "method": "fedavg",
        "data.source": "folder",
        "data.path": str(photos),
        "train.steps": 30,
        "partition.beta": 100.0,
    }
    config = RunConfig.from_flat(settings | own)
    return RunFolder.open(run_in_process(config, clients=2, workers=1))


@pytest.fixture(scope="module")
def digits(settings: dict[str, Scalar], second_pipeline: Path) -> RunFolder:
    """Return a run whose clients generated images."""
    own: dict[str, Scalar] = {"method": "regl", "generator.path": str(second_pipeline)}
    config = RunConfig.from_flat(settings | own)
    return RunFolder.open(run_in_process(config, clients=2, workers=1))


def test_pictures_are_taken_as_they_were_in_training(
    run: RunFolder, photos: Path, tmp_path: Path
) -> None:
    """What a run measured on its test set, predicting each picture gives again."""
    done = invoke("predict", run.path, photos, "--out", tmp_path / "found.csv")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "found.csv").open(encoding="utf-8")))
    assert [Path(row["file"]) for row in rows] == sorted(photos.rglob("*.png"))
    assert {key for key in rows[0] if key.startswith("p(")} == {"p(b)", "p(c-d)", "p(grün, rund)"}
    for row in rows:
        shares = {key[2:-1]: float(value) for key, value in row.items() if key.startswith("p(")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert shares[row["label"]] == max(shares.values()) == float(row["probability"])
    right = sum(row["label"] == Path(row["file"]).parent.name for row in rows)
    done = invoke("evaluate", run.path, "--part", "all", "--out", tmp_path / "found.json")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["accuracy"] == pytest.approx(right / len(rows))
    assert right > len(rows) / 2, "it has learned, so that this says something"


def test_a_run_is_evaluated_on_its_own_test_images_as_its_history_says(run: RunFolder) -> None:
    done = invoke("evaluate", run.path)
    accuracy = run.read_history()[-1].metrics.accuracy
    assert done.exit_code == 0, done.output
    assert f"accuracy {100 * accuracy:.1f} %" in done.output


def test_a_run_s_own_images_that_are_others_by_now_are_warned_of(
    run: RunFolder, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert invoke("evaluate", run.path).exit_code == 0
    assert "have changed since it ran" not in caplog.text
    more = photos / "b" / "more.png"
    picture(more, "red", 0)
    done = invoke("evaluate", run.path)
    more.unlink()
    assert done.exit_code == 0, done.output
    assert "have changed since it ran (it had 36 files" in caplog.text
    caplog.clear()
    assert invoke("evaluate", run.path, "data.source=folder", f"data.path={photos}").exit_code == 0
    assert "have changed" not in caplog.text


def test_its_own_test_images_are_in_the_looks_that_it_measured(
    settings: dict[str, Scalar],
) -> None:
    keys: dict[str, Scalar] = {"method": "fedavg", "partition.looks": "plain,inverted"}
    config = RunConfig.from_flat(settings | keys | {"name": "looks", "train.steps": 20})
    run = RunFolder.open(run_in_process(config, clients=2, workers=1))
    done = invoke("evaluate", run.path)
    accuracy = run.read_history()[-1].metrics.accuracy
    assert f"accuracy {100 * accuracy:.1f} %" in done.output, done.output


def test_other_keys_alone_are_no_other_data(digits: RunFolder) -> None:
    assert "60 images" in invoke("evaluate", digits.path).output
    assert "20 images" in invoke("evaluate", digits.path, "data.max-test=20").output
    done = invoke("evaluate", digits.path, "data.path=photos")
    assert done.exit_code == 2 and "name the source as well" in " ".join(done.output.split())


def test_gray_models_take_colour(settings: dict[str, Scalar], photos: Path, tmp_path: Path) -> None:
    for path in photos.rglob("*.png"):
        gray = tmp_path / "gray" / path.relative_to(photos)
        gray.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("L").save(gray)
    data: dict[str, Scalar] = {"data.source": "folder", "data.path": str(tmp_path / "gray")}
    config = RunConfig.from_flat(settings | data | {"method": "fedavg", "name": "gray"})
    run = RunFolder.open(run_in_process(config, clients=2, workers=1))
    assert TrainedModel.of(run).channels == 1
    done = invoke("evaluate", run.path, f"data.path={photos}")
    assert done.exit_code == 0 and "36 images" in done.output, done.output


def test_other_pictures_may_have_some_of_the_classes(run: RunFolder, tmp_path: Path) -> None:
    for place in range(4):
        picture(tmp_path / "new" / "c-d" / f"{place}.png", "blue", place)
        picture(tmp_path / "new" / "b" / f"{place}.png", "red", place)
    data = f"data.path={tmp_path / 'new'}"
    done = invoke("evaluate", run.path, data, "--out", tmp_path / "found.json")
    assert done.exit_code == 0 and "8 images" in done.output, done.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert [each["images"] for each in found["classes"]] == [4, 4, 0]
    assert found["classes"][2]["recall"] is None
    assert np.array(found["confusion"]).sum() == 8
    for left in ("c-d/1.png", "c-d/2.png", "c-d/3.png", "b/1.png", "b/2.png", "b/3.png"):
        (tmp_path / "new" / left).unlink()
    assert "2 images" in invoke("evaluate", run.path, data).output  # one of each class
    (tmp_path / "one" / "b").mkdir(parents=True)
    shutil.copy(tmp_path / "new" / "b" / "0.png", tmp_path / "one" / "b")
    done = invoke("evaluate", run.path, f"data.path={tmp_path / 'one'}")
    assert done.exit_code == 0 and "1 image: accuracy" in done.output, done.output
    (tmp_path / "new" / "b").rename(tmp_path / "new" / "boat")
    (tmp_path / "new").rename(tmp_path / "newer")
    done = invoke("evaluate", run.path, f"data.path={tmp_path / 'newer'}")
    assert done.exit_code == 1
    assert "classes that the run does not know: 'boat'" in done.output


def test_what_cannot_be_read_is_named_or_left_out(run: RunFolder, tmp_path: Path) -> None:
    picture(tmp_path / "good.png", "red", 0)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    done = invoke("predict", run.path, tmp_path)
    assert done.exit_code == 1 and "bad.jpg" in done.output
    done = invoke("predict", run.path, tmp_path, "--skip-unreadable", "--out", "-")
    assert done.exit_code == 0, done.output
    assert "good.png," in done.output and "bad.jpg," not in done.output


def test_wrong_names_are_said(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    for arguments, why in (
        (("predict", run.path, tmp_path / "absent.png"), "there is no such file or folder"),
        (("predict", run.path, tmp_path), "no picture in"),
        (("predict", tmp_path, tmp_path), "is not a run folder"),
        (("predict", run.path, tmp_path, "--out", "x.txt"), "must end in .csv or .json"),
        (("predict", run.path, tmp_path, "--out", tmp_path / "d.csv"), "is a folder"),
        (("evaluate", run.path, "train.lr=1"), "takes keys of data"),
        (("evaluate", run.path, "data.image-size=8"), "images of 16 pixels"),
        (("export", run.path, "--history", "--client", 0), "--client is for --to"),
        (("export", run.path), "name what to export"),
        (("export", run.path, "--images"), "method='fedavg' makes none"),
        (("predict", run.path, tmp_path, "--client", "0"), "shares whole models"),
    ):
        done = invoke(*arguments)
        assert done.exit_code != 0 and why in " ".join(done.output.split()), done.output


@pytest.mark.parametrize("place", [1, 2], ids=["turned", "transparent"])
@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_an_exported_model_s_card_says_how_it_is_used(
    run: RunFolder,
    photos: Path,
    tmp_path: Path,
    kind: str,
    place: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    done = invoke("export", run.path, "--to", kind, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "classes.json").read_text()) == ["b", "c-d", "grün, rund"]
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0]
    # As in the run: what is turned is put upright, what is transparent is on white.
    picture = photos / "c-d" / f"{place}.png"
    (tmp_path / "photo.jpg").write_bytes(picture.read_bytes())
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    names: dict[str, Any] = {"print": said.append}
    exec(compile(code, "card", "exec"), names)
    invoke("predict", run.path, picture, "--out", tmp_path / "p.csv")
    (row,) = csv.DictReader((tmp_path / "p.csv").open(encoding="utf-8"))
    assert said == [row["label"]]
    with torch.no_grad():
        found = Deployable(TrainedModel.of(run).model)(torch.from_numpy(names["pixels"])[None])
    # Pillow's resizing and ours round differently.
    assert float(found.max()) == pytest.approx(float(row["probability"]), abs=0.02)


def test_a_written_model_that_answers_otherwise_is_not_kept(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regl_app.runs.trained import deployable

    kind = deployable.FORMATS["torchscript"]
    wrong = deployable.Format(
        kind.file, kind.write, lambda path: lambda images: kind.open(path)(images) * 0.9
    )
    monkeypatch.setattr(deployable, "FORMATS", {"torchscript": wrong})
    done = invoke("export", run.path, "--to", "torchscript", "--out", tmp_path)
    assert done.exit_code == 1 and "differ from the run's model" in done.output
    assert list(tmp_path.iterdir()) == []


def test_the_history_is_a_table(run: RunFolder, tmp_path: Path) -> None:
    assert invoke("export", run.path, "--history", "--out", tmp_path).exit_code == 0
    rows = list(csv.DictReader((tmp_path / "history.csv").open(encoding="utf-8")))
    history = run.read_history()
    assert [int(row["round"]) for row in rows] == [record.round for record in history]
    assert float(rows[-1]["accuracy"]) == history[-1].metrics.accuracy
    assert float(rows[-1]["recall(grün, rund)"]) == history[-1].metrics.per_class[2]
    assert int(rows[-1]["bytes_up"]) == history[-1].bytes.up


def test_the_synthetic_images_of_the_last_round_are_read_by_others(
    digits: RunFolder, tmp_path: Path
) -> None:
    from datasets import load_dataset
    from torchvision.datasets import ImageFolder

    done = invoke("export", digits.path, "--images", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    counts = digits.read_history()[-1].synthetic_counts
    assert counts is not None
    names = {path.name for path in (tmp_path / "images").iterdir()}
    for client, row in enumerate(counts):
        for label, count in enumerate(row or ()):
            found = list((tmp_path / "images").glob(f"{label}/client-{client:02d}-*.png"))
            assert len(found) == count
    total = sum(sum(row or ()) for row in counts)
    assert 0 < total == len(ImageFolder(str(tmp_path / "images")))
    read = load_dataset(
        "imagefolder", data_dir=str(tmp_path / "images"), cache_dir=str(tmp_path / "cache")
    )
    assert set(read["train"].features["label"].names) == names and len(read["train"]) == total
    done = invoke("export", digits.path, "--images", "--out", tmp_path)
    assert done.exit_code == 1 and "is there already" in done.output


def test_they_are_those_that_were_trained_on(
    digits: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is drawn: all of them are still in the store."""
    monkeypatch.setattr(
        "regl_app.supplement.image_sequences.sample",
        lambda *_, **__: pytest.fail("an image was drawn"),
    )
    done = invoke("export", digits.path, "--images", "--out", tmp_path)
    assert done.exit_code == 0, done.output


def test_a_client_s_own_model(settings: dict[str, Scalar], tmp_path: Path) -> None:
    config = RunConfig.from_flat(settings | {"method": "fedrep", "train.steps": 20})
    run = RunFolder.open(run_in_process(config, clients=2, workers=1))
    done = invoke("evaluate", run.path)
    assert done.exit_code == 1 and "name a client (--client)" in " ".join(done.output.split())
    heads = [own_part(run, client) for client in range(2)]
    assert heads[0].keys() == {"head.weight", "head.bias"}
    assert not torch.equal(heads[0]["head.weight"], heads[1]["head.weight"])
    done = invoke("export", run.path, "--to", "torchscript", "--client", 1, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "model of client 1" in (tmp_path / "README.md").read_text(encoding="utf-8")
    with pytest.raises(RunError, match="this machine has nothing that client 7 kept"):
        own_part(run, 7)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_classifier_of_others_takes_the_channels_of_its_run(
    settings: dict[str, Scalar], tmp_path: Path, channels: int
) -> None:
    """Its weights are the same for gray pictures and for colour."""
    name: dict[str, Scalar] = {"model.name": "torchvision:mobilenet_v3_small", "name": "others"}
    config = RunConfig.from_flat(settings | name | {"out-dir": str(tmp_path)})
    run = RunFolder.create(config)
    run.write_facts(FederationFacts(class_names=["a", "b"], num_clients=1, channels=channels))
    run.save_model(build_model(config.model, 2, channels, 16, 0).state_dict())
    assert TrainedModel.of(run).channels == channels


def test_the_loader_of_three_lines(run: RunFolder) -> None:
    """As docs/use.md has it."""
    trained = TrainedModel.of(RunFolder.open(run.path))
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    logits = trained.model(to_float(images))
    found = trained.log_probs(ImageSet(images, torch.zeros(3, dtype=torch.int64)))
    assert torch.allclose(found, logits.log_softmax(dim=1), atol=1e-6)


def scan(path: Path, most: float, place: int) -> None:
    """Draw a 16-bit picture of a bright half, up to ``most``: where it is, is its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.linspace(0, most / 8, 24 * 24).reshape(24, 24)
    half = slice(0, 12) if path.parent.name == "high" else slice(12, 24)
    values[half] += most * (0.6 + 0.01 * place)
    Image.fromarray(np.minimum(values, most).round().astype(np.uint16)).save(path)


@pytest.fixture(scope="module")
def scans(settings: dict[str, Scalar], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run on 12-bit scans, with ``data.depth=auto``."""
    root = tmp_path_factory.mktemp("scans")
    for name in ("high", "low"):
        for place in range(10):
            scan(root / name / f"{place}.png", 4000 if place % 2 else 900, place)
    own: dict[str, Scalar] = {
        "method": "fedavg",
        "data.source": "folder",
        "data.path": str(root),
        "train.steps": 20,
        "report": True,
        "partition.beta": 100.0,
        "name": "scans",
    }
    return RunFolder.open(run_in_process(RunConfig.from_flat(settings | own), clients=2, workers=1))


def test_the_rule_of_deep_greyscale_is_kept_with_the_run(scans: RunFolder, tmp_path: Path) -> None:
    facts = scans.read_facts()
    assert facts is not None and facts.depth is not None
    assert (facts.depth.whole, facts.depth.real) == ((0, 4095), None)
    words = "whole numbers as 12-bit, 0 to 4095"
    assert words in " ".join(scans.report.read_text().split())
    done = invoke("export", scans.path, "--to", "torchscript", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert f"(in training: {words})" in (tmp_path / "README.md").read_text()


def test_pictures_are_read_by_the_runs_rule(scans: RunFolder, tmp_path: Path) -> None:
    """Dark ones alone would be taken for 8 bits: 16 times as bright as in training."""
    for name in ("high", "low"):
        scan(tmp_path / "dark" / name / "0.png", 200, 0)
        scan(tmp_path / "dark" / name / "1.png", 250, 1)
    found = {}
    for depth in (None, "12-bit", "8-bit"):
        more = ("--depth", depth) if depth else ()
        out = tmp_path / f"{depth}.csv"
        done = invoke("predict", scans.path, tmp_path / "dark", "--out", out, *more)
        assert done.exit_code == 0, done.output
        found[depth] = out.read_text()
    assert found[None] == found["12-bit"] != found["8-bit"]
    data = f"data.path={tmp_path / 'dark'}"
    measured = {}
    for depth in (None, "12-bit", "8-bit"):
        more = (f"data.depth={depth}",) if depth else ()
        done = invoke("evaluate", scans.path, data, *more, "--out", tmp_path / "found.json")
        assert done.exit_code == 0, done.output
        measured[depth] = json.loads((tmp_path / "found.json").read_text())["loss"]
    assert measured[None] == measured["12-bit"] != measured["8-bit"]
    own = invoke("evaluate", scans.path)
    accuracy = scans.read_history()[-1].metrics.accuracy
    assert f"accuracy {100 * accuracy:.1f} %" in own.output, own.output


def test_a_run_of_an_earlier_version_reads_by_the_pictures(
    scans: RunFolder, tmp_path: Path
) -> None:
    shutil.copytree(scans.path, tmp_path / "old")
    path = tmp_path / "old" / "federation.json"
    facts = json.loads(path.read_text())
    del facts["depth"]
    path.write_text(json.dumps(facts))
    scan(tmp_path / "dark.png", 200, 0)
    found = {}
    for depth in ((), ("--depth", "8-bit")):
        out = tmp_path / f"{len(depth)}.csv"
        done = invoke("predict", tmp_path / "old", tmp_path / "dark.png", "--out", out, *depth)
        assert done.exit_code == 0, done.output
        found[len(depth)] = out.read_text()
    assert found[0] == found[2]


def test_sites_that_read_by_different_rules_are_named(
    scans: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(scans.path, tmp_path / "sites")
    path = tmp_path / "sites" / "federation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"depth": None}))
    history = tmp_path / "sites" / "history.jsonl"
    records = [json.loads(line) for line in history.read_text().splitlines()]
    told = {"0": "[[0.0, 4095.0], null]", "1": "[[0.0, 65535.0], null]"}
    for record in records:
        for client, facts in record["clients"].items():
            facts["depth"] = told[client]
    history.write_text("".join(json.dumps(record) + "\n" for record in records))
    scan(tmp_path / "dark.png", 200, 0)
    trained = TrainedModel.of(RunFolder.open(tmp_path / "sites"))
    assert trained.depth is None and len(trained.depths) == 2
    with caplog.at_level("WARNING", "regl"):
        named_pictures((tmp_path / "dark.png",), trained)
    assert "client 0: whole numbers as 12-bit, 0 to 4095, client 1: " in caplog.text
    assert "name a rule by --depth" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING", "regl"):
        named_pictures((tmp_path / "dark.png",), trained, depth="12-bit")
    assert "by different rules" not in caplog.text
    picture(tmp_path / "photo.png", "red", 0)
    with caplog.at_level("WARNING", "regl"):
        named_pictures((tmp_path / "photo.png",), trained)
    assert "by different rules" not in caplog.text
    one = TrainedModel.of(RunFolder.open(tmp_path / "sites"), client=0)
    assert one.depth is not None and one.depth.text == told["0"]
