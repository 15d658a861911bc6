"""The ``regl`` command, each sub-command as a user calls it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.main import get_command
from typer.testing import CliRunner

from regl_app.cli import app
from regl_app.config import RunConfig
from regl_app.config.looks import LOOK_STEPS
from regl_app.core.errors import RunError
from regl_app.core.version import __version__
from regl_app.generator.pretraining.options import PretrainOptions
from regl_app.runs.comparison.compare import Engine
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import (
    FederationFacts,
    GlobalMetrics,
    Personalized,
    RoundRecord,
    RunResult,
)


def regl(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fake_engine(config: RunConfig, clients: int) -> Path:
    if config.rounds == 99:
        raise RunError("round 1: 0 of 10 replies were usable, server.min-replies is 1")
    folder = RunFolder.create(config)
    folder.write_facts(FederationFacts(class_names=["0", "1"], num_clients=clients))
    for number in range(1, config.rounds + 1):
        folder.append_round(
            RoundRecord(
                round=number,
                metrics=GlobalMetrics(accuracy=0.85 + number / 40, macro_f1=0.5),
                personalized=Personalized(mean=0.75, per_client={0: 0.75}),
            )
        )
    folder.write_result(RunResult(status="finished", seconds=3.0))
    return folder.path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*_: object, **__: object) -> Engine:
        return fake_engine

    monkeypatch.setattr("regl_app.cli.run.make_engine", make)
    monkeypatch.setattr("regl_app.cli.compare.make_engine", make)


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "compare",
        "partition",
        "generate",
        "report",
        "pretrain",
        "keys",
        "bundle",
        "doctor",
        "watch",
    ],
)
def test_every_command_explains_itself(command: str) -> None:
    assert command in regl("--help").output
    result = regl(command, "--help")
    assert result.exit_code == 0
    assert "Usage: regl" in result.output


@pytest.mark.usefixtures("engine")
def test_run_prints_accuracies_and_paths() -> None:
    result = regl("run", "rounds=3", "method=fedavg", "--clients", "4")
    assert result.exit_code == 0, result.output
    for words in ("0.925", "0.750", "rounds to 90%", "without the report", "fedavg-digits-s0"):
        assert words in result.output


@pytest.mark.usefixtures("engine")
def test_a_failed_run_is_one_clear_line_and_exit_1() -> None:
    result = regl("run", "rounds=99")
    assert result.exit_code == 1
    assert "Error: round 1: 0 of 10 replies were usable" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["run", "compare", "partition", "generate", "doctor"])
def test_a_wrong_key_is_one_clear_line_and_exit_2(command: str) -> None:
    result = regl(command, "partition.bta=1")
    assert result.exit_code == 2
    assert "did you mean 'partition.beta'?" in result.output
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("engine")
def test_compare_prints_the_table_and_goes_on_where_it_was(tmp_path: Path) -> None:
    arguments = ["compare", "rounds=2", "--methods", "fedavg,regl", "--seeds", "0,1", "--out", "c"]
    result = regl(*arguments)
    assert result.exit_code == 0, result.output
    assert "90.0 ± 0.0" in result.output
    assert "- fedavg" in result.output
    assert (tmp_path / "c" / "comparison.md").is_file()
    assert (tmp_path / "c" / "report.html").is_file()
    folders = sorted((tmp_path / "c").glob("*/"))
    assert regl(*arguments).exit_code == 0
    assert sorted((tmp_path / "c").glob("*/")) == folders


@pytest.mark.usefixtures("engine")
def test_one_run_each_says_so() -> None:
    arguments = ["compare", "rounds=2", "--methods", "fedavg,regl", "--seeds", "0"]
    assert "One run each: differences of a point or two may be chance" in regl(*arguments).output


@pytest.mark.usefixtures("engine")
def test_compare_with_a_failed_run_exits_1() -> None:
    result = regl("compare", "rounds=99", "--methods", "fedavg", "--seeds", "0")
    assert result.exit_code == 1
    assert "0/1" in result.output


@pytest.mark.usefixtures("engine")  # what is not refused is quickly over
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["seed=3"], "seed=3 is set by the comparison (every row runs with each of --seeds"),
        (["resume=x"], "resume=x is set by the comparison"),
        (["method=regl"], "method=regl is set by the comparison (name methods by --methods"),
        (["--methods", "fedavg+seed=5"], "row 'fedavg+seed=5': seed=5 is set by the comparison"),
        (["--method", "a:fedavg+out-dir=x"], "row 'a': out-dir=x is set by the comparison"),
        (["--vary-data", "data.seed=9"], "data.seed=9 is set by the comparison (with --vary-data"),
        (["--methods", "fedavg+method=regl"], "names two methods, 'fedavg' and method='regl'"),
        (
            ["--methods", "fedavg,aug:fedavg+train.augment=shift,flip"],
            "got 'flip' (commas separate the rows of --methods; a row whose values have commas",
        ),
        (["--seeds", "a"], "--seeds must be whole numbers"),
        (["--methods", "fedsgd"], "method must be one of"),
    ],
)
def test_compare_refuses_what_it_cannot_do(arguments: list[str], words: str) -> None:
    result = regl("compare", *arguments)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.usefixtures("engine")
def test_a_row_of_its_own_may_have_commas(tmp_path: Path) -> None:
    row = "aug:fedavg+train.augment=shift,flip"
    told = ("compare", "rounds=1", "--seeds", "0")
    both = regl(*told, "--methods", "fedavg", "--method", row, "--out", "c")
    assert both.exit_code == 0, both.output
    assert RunFolder.open(tmp_path / "c" / "aug-s0").read_config().train.augment == "shift,flip"
    assert sorted(path.name for path in (tmp_path / "c").glob("*-s0")) == ["aug-s0", "fedavg-s0"]
    alone = regl(*told, "--method", row, "--method", "regl", "--out", "d")
    assert alone.exit_code == 0, alone.output
    assert sorted(path.name for path in (tmp_path / "d").glob("*-s0")) == ["aug-s0", "regl-s0"]


@pytest.mark.usefixtures("engine")
def test_compare_takes_a_file_of_keys_and_what_is_said_beside_it_wins(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text("rounds = 3\n[partition]\nbeta = 0.3\n")
    arguments = ("compare", "--config", "keys.toml", "rounds=2", "--methods", "regl")
    assert regl(*arguments, "--seeds", "0", "--out", "c").exit_code == 0
    config = RunFolder.open(tmp_path / "c" / "regl-s0").read_config()
    assert (config.rounds, config.partition.beta) == (2, 0.3)


@pytest.mark.usefixtures("engine")
def test_compare_repeats_a_run_with_other_methods(tmp_path: Path) -> None:
    keys = ("method=feddpd", "seed=7", "data.seed=4", "rounds=2", "lora.rank=4", "name=mine")
    assert regl("run", *keys, "out-dir=.").exit_code == 0
    arguments = ("compare", "--config", "mine/config.json", "--methods", "fedavg,regl,feddpd")
    result = regl(*arguments, "--seeds", "7", "--out", "c")
    assert result.exit_code == 0, result.output
    found = {
        method: RunFolder.open(tmp_path / "c" / f"{method}-s7").read_config()
        for method in ("fedavg", "regl", "feddpd")
    }
    for method, config in found.items():
        told = {"method": method, "lora.rank": 4, "rounds": 2, "data.seed": 4, "seed": 7}
        own = {"name": f"{method}-s7", "out-dir": config.out_dir}
        assert config == RunConfig.from_flat(told | own)
    varied = regl(*arguments, "--seeds", "1", "--vary-data", "--out", "d")
    assert varied.exit_code == 0, varied.output
    assert RunFolder.open(tmp_path / "d" / "regl-s1").read_config().data.seed == 1


@pytest.mark.usefixtures("engine")
def test_compares_report_has_the_rows_of_its_table(tmp_path: Path) -> None:
    rows = (
        "rounds=1",
        "--methods",
        "fedavg,dyn:fedprox+train.proximal=0.1,same:fedavg",
        "--out",
        "c",
    )
    assert regl("compare", "supplement.cap=20", *rows, "--seeds", "0,1").exit_code == 0
    # Neither method supplements: what is there is reused.
    result = regl("compare", "supplement.cap=40", *rows, "--seeds", "0,1,2")
    assert result.exit_code == 0, result.output
    report = (tmp_path / "c" / "report.html").read_text()
    table = report[report.index('id="comparison"') : report.index('id="curves"')]
    found = re.findall(r"(fedavg = same|dyn|fedavg|same)\s*<[^>]*>\s*(\d+ seeds)", table)
    assert found == [("fedavg = same", "3 seeds"), ("dyn", "3 seeds")]
    assert "cap" not in table


def test_partition_shows_the_split_and_draws_it(tmp_path: Path) -> None:
    result = regl("partition", "partition.beta=0.01", "--clients", "5", "--out", "p.png")
    assert result.exit_code == 0, result.output
    assert "of 10 classes" in result.output
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_generate_draws_named_classes_of_any_pipeline(
    tmp_path: Path, second_pipeline: Path
) -> None:
    options = [f"generator.path={second_pipeline}", "generator.steps=2"]
    result = regl("generate", *options, "--classes", "3,0", "-n", "2", "--out", "g.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "g.png").is_file()
    wrong = regl("generate", *options, "--classes", "ten")
    assert wrong.exit_code == 2
    assert "'ten' is not one of 0, 1" in wrong.output


def test_report_rebuilds_and_lays_side_by_side(tmp_path: Path) -> None:
    runs = [
        str(fake_engine(RunConfig.from_flat({"method": method, "rounds": 2}), 3))
        for method in ("fedavg", "regl")
    ]
    assert regl("report", runs[0]).exit_code == 0
    assert (Path(runs[0]) / "report.html").is_file()
    assert regl("report", *runs, "--out", "both.html").exit_code == 0
    assert (tmp_path / "both.html").is_file()


def test_report_of_no_run_folder_says_so(tmp_path: Path) -> None:
    result = regl("report", str(tmp_path))
    assert result.exit_code == 1
    assert "is not a run folder" in result.output


def test_doctor_exits_1_when_something_is_missing() -> None:
    result = regl("doctor", "data.source=mnist", "data.path=absent", "method=fedavg")
    assert result.exit_code == 1
    assert "fail" in result.output


def test_doctor_is_content_with_the_defaults() -> None:
    result = regl("doctor")
    assert result.exit_code == 0, result.output


def test_pretrain_hands_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: dict[str, Any] = {}

    def glyphs(count: int, seed: int, font_folders: list[Path]) -> str:
        called.update(glyphs=(count, seed), font_folders=font_folders)
        return "glyphs"

    def fake(out: Path, corpus: object, options: PretrainOptions) -> Path:
        called.update(out=out, corpus=corpus, options=options, threads=torch.get_num_threads())
        return out

    monkeypatch.setattr("regl_app.generator.pretraining.pretrain.pretrain", fake)
    monkeypatch.setattr("regl_app.generator.pretraining.corpus.glyph_corpus", glyphs)
    result = regl("pretrain", "--out", "new", "--denoiser-steps", "7", "--fonts", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert (called["out"], called["corpus"]) == (Path("new"), "glyphs")
    assert called["options"] == PretrainOptions(denoiser_steps=7)
    assert (called["glyphs"], called["font_folders"]) == ((30_000, 0), [tmp_path])
    assert called["threads"] == 2


def test_pretrain_learns_from_the_public_part_of_a_data_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called: list[Any] = []

    def fake(out: Path, corpus: Any, options: PretrainOptions) -> Path:
        called.append(corpus)
        return out

    monkeypatch.setattr("regl_app.generator.pretraining.pretrain.pretrain", fake)
    result = regl("pretrain", "--source", "digits", "--out", "new", "data.public-fraction=0.2")
    assert result.exit_code == 0, result.output
    assert called[0].origin["look"] == "outlined"
    for arguments, words in (
        (["--source", "digits"], "data.public-fraction must be > 0"),
        (["--source", "birds"], "data.source must be one of"),
        (["data.public-fraction=0.2"], "--source glyphs takes none"),
        (["--source", "digits", "data.public-fraction=0.2", "--look", "odd"], "--look must be of"),
        (
            ["--source", "digits", "data.public-fraction=0.2", "--look", "plain"],
            "would have learnt",
        ),
    ):
        result = regl("pretrain", "--out", "other", *arguments)
        assert result.exit_code == 2, arguments
        assert words in " ".join(result.output.split())


def test_pretrain_tells_every_look() -> None:
    (option,) = (
        each for each in get_command(app).commands["pretrain"].params if each.name == "look"
    )
    told = set(re.findall(r"[a-z]+ed\b|shrunk|noisy", option.help)) - {"disguised"}
    assert told == set(LOOK_STEPS) - {"plain"}


def test_pretrain_overwrites_nothing(tmp_path: Path) -> None:
    result = regl("pretrain", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "exists already" in result.output


def test_watch_ends_as_the_run_did() -> None:
    finished = fake_engine(RunConfig.from_flat({"method": "fedavg", "rounds": 2}), 2)
    done = regl("watch", str(finished))
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "round 1/2: global accuracy 87.5%, on clients' own tests 75.0%, 0.0 s",
        "round 2/2: global accuracy 90.0%, on clients' own tests 75.0%, 0.0 s",
        "finished after 3 s",
    ]
    failed = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}))
    failed.write_result(RunResult(status="failed", seconds=1.0, error="no replies"))
    done = regl("watch", str(failed.path))
    assert done.exit_code == 1 and "failed after 1 s: no replies" in done.output


def test_bundle_tells_the_digest_and_the_folder_that_a_node_looks_for() -> None:
    done = regl("bundle", "made")
    (file,) = Path("made").glob("regl.regl-app.*.fab")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert done.exit_code == 0 and f"sha256: {digest}" in done.output
    assert f"regl.regl-app.{__version__}.{digest[:8]}\n" in done.output


def test_keys_tells_what_it_made(tmp_path: Path) -> None:
    done = regl("keys", "keys", "--host", "localhost", "--node", "a")
    assert done.exit_code == 0 and "made: keys/nodes/a.key.pub" in done.output
    assert "everything is there already" in regl("keys", "keys", "--node", "a").output
    done = regl("keys", "other", "--node", "a")
    assert done.exit_code == 2 and "--host is needed" in done.output


def test_doctor_looks_at_a_deployment_if_asked(tmp_path: Path) -> None:
    keys = ("keys", str(tmp_path / "keys"), "--host", "localhost", "--node", "clinic-a")
    assert regl(*keys).exit_code == 0
    sound = regl("doctor", "--keys", str(tmp_path / "keys"))
    assert sound.exit_code == 0, sound.output
    assert "nodes/clinic-a.key" in sound.output and "run folders" not in sound.output
    (tmp_path / "keys" / "nodes" / "clinic-a.key").chmod(0o644)
    open_to_all = regl("doctor", "--keys", str(tmp_path / "keys"))
    said = " ".join(open_to_all.output.split())  # a long path moves where lines break
    assert open_to_all.exit_code == 1 and "can be read by others" in said
    alone = regl("doctor", "--insecure")
    assert alone.exit_code == 2 and "belong to --superlink" in alone.output
    alone = regl("doctor", "--data-root", "/srv/regl")
    assert alone.exit_code == 2 and "belongs to --data-dir" in alone.output


def test_a_run_folder_that_is_the_superlinks_alone_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, is_file = tmp_path / "srv" / "a run", Path.is_file

    def kept_from_us(path: Path) -> bool:
        if path.is_relative_to(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    engine = "regl_app.flower.engines.flower_run.run_deployed"
    monkeypatch.setattr(engine, lambda *_: folder)
    monkeypatch.setattr(Path, "is_file", kept_from_us)
    done = regl("run", "--superlink", "site", "method=fedavg")
    assert done.exit_code == 0, done.output
    assert "run folder, on the SuperLink's machine" in done.output


def test_a_file_of_prompts_goes_with_the_run(engine: None) -> None:
    Path("prompts.csv").write_text("class,prompt\n0,a zero\n1,a one\n1,an ace\n")
    regl("run", "generator.prompts=prompts.csv", "rounds=1", "method=regl", "out-dir=here")
    (folder,) = Path("here").iterdir()
    kept = RunFolder.open(folder).read_config().generator.prompts
    assert kept == '{"0": "a zero", "1": ["a one", "an ace"]}'
    refused = regl("run", "generator.prompts=none.csv")
    assert refused.exit_code != 0 and "none.csv" in refused.output


def test_a_comparison_repeats_what_has_other_prompts_now(engine: None) -> None:
    def outcome(text: str) -> str:
        Path("prompts.json").write_text(text)
        return regl(
            *("compare", "--methods", "regl", "--seeds", "0", "--out", "here", "rounds=1"),
            "generator.prompts=prompts.json",
        ).output

    outcome('{"0": "a zero"}')
    outcome('{"0": "a zero"}')
    assert len(list(Path("here").glob("regl-s0*"))) == 1
    outcome('{"0": "an oval"}')
    assert len(list(Path("here").glob("regl-s0*"))) == 2
