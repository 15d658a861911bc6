"""A file of keys with settings over it: what its writer chose stays, what 'auto' made follows."""

import json
from pathlib import Path

import pytest

from regl_app.cli.options import resolve
from regl_app.config import RunConfig
from regl_app.core.types import Scalar


def written(folder: Path, text: str) -> Path:
    path = folder / "keys.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "settings", "key", "kept"),
    [
        # Under this strategy 'auto' is hard too: only the file tells that it was chosen.
        (
            'labels.by = "hard"\nserver.strategy = "fedmedian"',
            ["server.strategy=fedavg"],
            "teaching.head",
            "average",
        ),
        ('labels.by = "hard"', ["method=regl"], "labels.by", "hard"),
        ('[supplement]\nadapter = "frozen"', ["method=regl"], "supplement.adapter", "frozen"),
        ("lora.rank = 16", ["generator.path=elsewhere"], "lora.rank", 16),
        (
            'server.strategy = "fedadam"\nserver.beta-2 = 0.99',
            ["server.strategy=fedyogi"],
            "server.beta-2",
            0.99,
        ),
    ],
)
def test_what_a_file_says_is_kept_whatever_the_command_line_changes(
    tmp_path: Path, text: str, settings: list[str], key: str, kept: Scalar
) -> None:
    assert resolve(settings, written(tmp_path, text)).to_flat()[key] == kept


def test_what_a_file_leaves_to_auto_follows_the_command_line(tmp_path: Path) -> None:
    path = written(tmp_path, 'method = "regl"\nsupplement.adapter = "auto"\nrounds = 3')
    assert resolve(["method=regl-free"], path) == RunConfig.from_flat(
        {"method": "regl-free", "rounds": 3}
    )


def test_a_runs_own_keys_are_not_taken_for_chosen(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"config": RunConfig.from_flat({"method": "regl"}).to_flat()}))
    assert resolve(["method=regl-free"], path) == RunConfig.from_flat({"method": "regl-free"})


def test_settings_win(tmp_path: Path) -> None:
    assert resolve(["labels.by=global"], written(tmp_path, 'labels.by = "hard"')).labels.by == (
        "global"
    )
