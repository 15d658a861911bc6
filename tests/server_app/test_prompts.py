"""Prompts of a run: read where it begins, the same everywhere, told in log, folder and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from regl_app.core.errors import GeneratorError, RunError
from regl_app.runs.folder import RunFolder

Federate = Callable[..., RunFolder]
NAMES = [f"a digit {word}" for word in ("zero", "one", "two", "three", "four")]
NAMES += [f"the digit {word}" for word in ("five", "six", "seven", "eight")]
TABLE: dict[str, str | list[str]] = {str(label): text for label, text in enumerate(NAMES)}
TABLE["9"] = ["the digit nine", "a printed nine"]
KEYS = {"method": "regl-free", "rounds": 1, "generator__steps": 2, "supplement__ratio": 0.2}


@pytest.mark.parametrize("by_path", [True, False])
def test_they_stand_in_log_folder_and_report(
    federate: Federate, tmp_path: Path, caplog: pytest.LogCaptureFixture, by_path: bool
) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(TABLE))
    caplog.set_level("INFO", logger="regl")
    folder = federate(
        generator__prompts=str(path) if by_path else json.dumps(TABLE),
        **{"generator__negative-prompt": "letters"},
        **KEYS,
        report=True,
    )
    kept = folder.read_config().generator
    assert json.loads(kept.prompts) == TABLE and kept.negative_prompt == "letters"
    facts = folder.read_facts()
    assert facts is not None and facts.prompts[9] == [
        "a photo of the digit nine",
        "a photo of a printed nine",
    ]
    line = "a photo of a digit zero; a photo of a digit one"
    assert line in folder.report.read_text()
    assert f"prompts: {line}" in caplog.text and "away from 'letters'" in caplog.text


def test_a_client_with_another_file_is_left_out(federate: Federate, tmp_path: Path) -> None:
    from client_app.main import app

    path, other = tmp_path / "prompts.json", tmp_path / "other.json"
    path.write_text(json.dumps(TABLE))
    other.write_text(json.dumps({**TABLE, "3": "three stripes"}))

    def elsewhere(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 1:
            context.run_config["generator.prompts"] = str(other)
        return app(message, context)

    client = ClientApp()
    for register in (client.query, client.train, client.evaluate):
        register()(elsewhere)
    folder = federate(client, generator__prompts=str(path), **KEYS)
    record = folder.read_history()[-1]
    assert record.real_counts is not None and record.real_counts[1] is None
    assert record.real_counts[0] is not None


def test_what_is_not_for_these_classes_is_refused_before_any_work(
    federate: Federate, tmp_path: Path
) -> None:
    with pytest.raises(GeneratorError, match=r"lacks the classes '1'"):
        federate(generator__prompts='{"0": "zero"}', **KEYS)
    same = json.dumps({str(label): "one" for label in range(10)})
    with pytest.raises(GeneratorError, match="the classes '0' and '1' have one prompt, of 'one'"):
        federate(generator__prompts=same, **KEYS)
    with pytest.raises((GeneratorError, RunError), match="cannot be read"):
        federate(generator__prompts=str(tmp_path / "none.csv"), **KEYS)
