"""The names of a round's numbers: what tables and trackers are read by stays what it is."""

from __future__ import annotations

import csv
import io

from regl_app.runs.history_table import history_csv
from regl_app.runs.records import (
    GlobalMetrics,
    LabelFits,
    Personalized,
    PhaseSeconds,
    RoundRecord,
    Traffic,
    ValidationScores,
)
from regl_app.runs.round_numbers import round_numbers

NAMES = ["a cat", "犬"]
METRICS = GlobalMetrics(
    accuracy=0.5,
    macro_f1=0.25,
    loss=1.5,
    per_class=[0.75, None],
    precision=[0.5, None],
    f1=[0.6, None],
)
FULL = RoundRecord(
    round=1,
    metrics=METRICS,
    tail=METRICS.model_copy(update={"accuracy": 0.125}),
    labels=LabelFits(
        js_before=[0.5, None],
        js_after=[0.25, None],
        tv_before=[0.5, 0.25],
        tv_after=[None, None],
        precision=[1.0, 0.5],
    ),
    personalized=Personalized(mean=0.375, per_client={1: 0.5, 0: 0.25}),
    discrepancy=[[0.5, -1.0], None],
    real_counts=[[5, 0], None],
    synthetic_counts=[[0, 3], [2, 2]],
    lr=0.1,
    validation=ValidationScores(images=4, accuracy=0.875, loss=None),
    seconds=PhaseSeconds(clients={"train": [1.0, None]}, server={"aggregate": 0.5}, wall=2.0),
    bytes=Traffic(down=3, up=4),
    clients={0: {"loss": 1.0}},
    failures=["train: client 1: failed"],
)
PLAIN = RoundRecord(round=0, metrics=GlobalMetrics(accuracy=0.1, macro_f1=0.1))

EXPECTED = [
    ("round", "", 1),
    ("accuracy", "global/accuracy", 0.5),
    ("macro_f1", "global/macro_f1", 0.25),
    ("loss", "global/loss", 1.5),
    ("precision(a cat)", "precision/class-00-a_cat", 0.5),
    ("precision(犬)", "precision/class-01-犬", None),
    ("recall(a cat)", "recall/class-00-a_cat", 0.75),
    ("recall(犬)", "recall/class-01-犬", None),
    ("f1(a cat)", "f1/class-00-a_cat", 0.6),
    ("f1(犬)", "f1/class-01-犬", None),
    ("lr", "clients/lr", 0.1),
    ("validation_accuracy", "validation/accuracy", 0.875),
    ("validation_loss", "validation/loss", None),
    ("tail_accuracy", "global/tail_accuracy", 0.125),
    ("personalized_accuracy", "personalized/accuracy", 0.375),
    ("personalized_accuracy(client 0)", "personalized/client-00", 0.25),
    ("personalized_accuracy(client 1)", "personalized/client-01", 0.5),
    ("js_before", "labels/js_before", 0.5),
    ("js_after", "labels/js_after", 0.25),
    ("tv_before", "labels/tv_before", 0.375),
    ("tv_after", "labels/tv_after", None),
    ("precision", "labels/precision", 0.75),
    ("", "discrepancy/client-00", 0.5),
    ("real_images", "", 5),
    ("synthetic_images", "supplement/all_clients", 7),
    ("", "supplement/client-00", 3),
    ("", "supplement/client-01", 4),
    ("clients", "", 1),
    ("failures", "clients/failures", 1),
    ("bytes_down", "bytes/down", 3),
    ("bytes_up", "bytes/up", 4),
    ("seconds", "seconds/round", 2.0),
    ("client_seconds(train)", "seconds/clients_train", 1.0),
    ("server_seconds(aggregate)", "seconds/server_aggregate", 0.5),
]


def test_every_number_has_its_names() -> None:
    assert [(n.column, n.tag, n.value) for n in round_numbers(FULL, NAMES)] == EXPECTED
    columns = [column for column, _, _ in EXPECTED if column]
    tags = [tag for _, tag, _ in EXPECTED if tag]
    assert len(set(columns)) == len(columns) and len(set(tags)) == len(tags)


def test_what_a_run_has_not_is_no_number() -> None:
    names = {each.column for each in round_numbers(PLAIN)}
    assert names == {
        *("round", "accuracy", "macro_f1", "loss"),
        *("clients", "failures", "bytes_down", "bytes_up", "seconds"),
    }


def test_a_class_without_a_name_has_a_tag_alone() -> None:
    found = {each.tag: each.column for each in round_numbers(FULL, NAMES[:1])}
    assert found["recall/class-00-a_cat"] == "recall(a cat)"
    assert found["recall/class-01"] == ""


def test_the_table_has_a_column_for_what_any_round_has() -> None:
    first, second = csv.DictReader(io.StringIO(history_csv([PLAIN, FULL], NAMES)))
    assert set(first) == {column for column, _, _ in EXPECTED if column}
    assert (first["round"], first["loss"], first["lr"], first["recall(a cat)"]) == ("0", "", "", "")
    assert (second["round"], second["seconds"], second["f1(犬)"]) == ("1", "2.0", "")
