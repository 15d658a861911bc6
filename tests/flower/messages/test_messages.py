"""What passes between server and clients is checked on both sides."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from regl_app.config import RunConfig
from regl_app.core.errors import ProtocolError
from regl_app.flower.messages.content import (
    ARRAYS,
    METHOD,
    METRICS,
    OURS,
    check_size,
    count_bytes,
    most_bytes,
    read_request,
    request_record,
    without_ours,
)
from regl_app.flower.messages.evaluate import EvaluateReply
from regl_app.flower.messages.handshake import Handshake, config_digest
from regl_app.flower.messages.hello import ClientInfo
from regl_app.flower.messages.train import TrainReply, TrainRequest
from regl_app.flower.messages.weights import weights_from_record, weights_to_record
from regl_app.rounds.exchange import Validation
from regl_app.supplement.image_quality import MEASURES, ImageQuality
from regl_app.supplement.payload import Payload, PayloadLimits, PoolReference

CLASSES = 3
WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(1)}
HANDSHAKE = Handshake("code", "config")
LIMITS = PayloadLimits(images=6, image_bytes=4, adapter=lambda: 10)


def _reply() -> TrainReply:
    return TrainReply(
        partition_id=2,
        round=4,
        num_examples=7,
        real_images=5,
        loss=0.25,
        weights=WEIGHTS,
        discrepancy=np.array([0.5, -0.25, 0.0]),
        held=np.array([1, 1, 0]),
        real_counts=np.array([5, 0, 0]),
        synthetic_counts=np.array([0, 1, 1]),
        noisy_counts=np.array([4.5, -1.25, 0.0]),
        quality=ImageQuality(
            np.array([0, 4, 2]),
            np.array([math.nan, 0.75, 1.0]),
            np.array([math.nan, 1.25, math.nan]),
            np.full(3, math.nan),
            np.array([math.nan, 0.0, 0.5]),
        ),
        seconds={"train": 1.5},
        facts={"adapted": True, "steps": 3, "note": "x", "loss": 0.5},
    )


def _read(content: RecordDict) -> TrainReply:
    return TrainReply.read(content, server_round=4, template=WEIGHTS, num_classes=CLASSES)


def test_a_train_reply_comes_back_as_it_was() -> None:
    sent, got = _reply(), _read(_reply().to_content())
    assert got.weights is not None
    assert all(torch.equal(got.weights[key], value) for key, value in WEIGHTS.items())
    for name in ("discrepancy", "held", "real_counts", "synthetic_counts", "noisy_counts"):
        np.testing.assert_array_equal(getattr(got, name), getattr(sent, name))
    for name in ("partition_id", "round", "num_examples", "real_images", "loss", "seconds"):
        assert getattr(got, name) == getattr(sent, name)
    assert got.facts == sent.facts
    assert sent.quality is not None
    assert got.quality is not None
    for name in ("images", *MEASURES):
        np.testing.assert_array_equal(getattr(got.quality, name), getattr(sent.quality, name))


def test_what_is_left_without_ours_is_what_flower_strategies_take() -> None:
    content = without_ours(_reply().to_content())
    assert list(content.array_records) == [ARRAYS]
    assert list(content.metric_records) == [METRICS]
    assert set(content.metric_records[METRICS]) == {"num-examples", "loss"}
    assert not content.config_records


def test_private_fields_stay_absent() -> None:
    bare = TrainReply(0, 4, 1, 1, 0.0, WEIGHTS)
    got = _read(bare.to_content())
    assert got.real_counts is None
    assert got.held is None
    assert got.noisy_counts is None
    assert got.discrepancy is None
    assert got.quality is None


Change = Callable[[RecordDict], object]


def _set(key: str, value: object) -> Change:
    return lambda content: content[OURS].__setitem__(key, value)  # type: ignore[arg-type]


def _set_array(key: str, value: np.ndarray) -> Change:
    return lambda content: content[ARRAYS].__setitem__(key, Array(value))  # type: ignore[arg-type]


BAD: list[tuple[Change, str]] = [
    (_set("partition-id", -1), "partition-id must be >= 0, got -1"),
    (_set("partition-id", 1.0), "partition-id must be a int, got 1.0"),
    (_set("round", 3), r"round must be 4, got 3 \(a late reply\)"),
    (_set("discrepancy", [0.0, 0.0]), "discrepancy must be 3 numbers in"),
    (_set("quality-images", [1, 2]), "quality-images must be 3 whole numbers"),
    (_set("quality-reading", [0.0, 0.0]), "quality-reading must be 3 numbers in"),
    (_set("quality-fidelity", [0.0, math.inf, 0.0]), "quality-fidelity must be 3 numbers in"),
    (lambda content: content[OURS].pop("quality-near-copies"), "quality-near-copies must be there"),
    (_set("discrepancy", [0.0, math.nan, 0.0]), "discrepancy must be 3 numbers in"),
    (_set("discrepancy", [0.0, 1.5, 0.0]), "discrepancy must be 3 numbers in"),
    (_set("noisy-counts", [0.5, 1.0]), "noisy-counts must be 3 numbers in"),
    (_set("noisy-counts", [0.5, math.inf, 0.0]), "noisy-counts must be 3 numbers in"),
    (_set("noisy-counts", [1, 0, 0]), "noisy-counts must be 3 numbers in"),
    (_set("held", [1, -1, 0]), r"held must be 3 whole numbers from 0 to 2\^40"),
    (_set("real-counts", [1, 0, 0, 0]), r"real-counts must be 3 whole numbers from 0 to 2\^40"),
    (_set("synthetic-counts", [0.5, 0.5, 0.5]), "synthetic-counts must be 3 whole"),
    (_set("seconds.train", -1.0), r"seconds.train must be a number from 0 to 1e\+09, got -1\.0"),
    (_set("facts.loss", math.inf), r"facts.loss must be a number from -1e\+39 to 1e\+39, got inf"),
    (_set_array("a", np.full((2, 3), np.nan, np.float32)), r"arrays\['a'\] must be finite"),
    (
        _set_array("a", np.zeros((3, 2), np.float32)),
        r"float32 \(2, 3\), got float32 \(3, 2",
    ),
    (_set_array("a", np.zeros((2, 3))), r"must be float32 \(2, 3\), got float64"),
    (_set_array("c", np.zeros(1, np.float32)), r"must hold the model's 2 arrays; differ: \['c'\]"),
    (_set("facts.note", "x" * 201), "facts.note must be at most 200 printable characters"),
    (_set("facts.note", "a\nb"), "facts.note must be at most 200 printable characters"),
    (_set("facts." + "k" * 59, 1), "a field's name must be at most 64 printable characters"),
    (_set("facts.\x1b[2J", 1), "a field's name must be at most 64 printable characters"),
    (_set("texts", ["x", "y" * 10**6]), "texts must hold no list of str"),
    (_set("adapter", "a" * 10**7), "adapter must be 64 hexadecimal digits, got a str of length"),
    (_set("held", [0] * 10**6), r"held must be 3 whole numbers .*, got a list of length 1000000"),
    (
        lambda content: content.config_records[OURS].update({f"facts.{i}": i for i in range(65)}),
        r"facts\.\* must be at most 64 fields, got 69",
    ),
    (
        lambda content: content.config_records[OURS].update({f"x{i}": i for i in range(300)}),
        "regl must have at most 256 fields, got 3",
    ),
    (
        lambda content: content.metric_records[METRICS].update({f"x{i}": i for i in range(300)}),
        "metrics must have at most 256 fields, got 302",
    ),
    (lambda content: content.pop(OURS), "a ConfigRecord 'regl' is missing"),
    (lambda content: content.pop(METRICS), "the only MetricRecord must be 'metrics'"),
    (lambda content: content.pop(ARRAYS), "num-examples=7 contradicts a reply without arrays"),
    (
        lambda content: content.__setitem__(METRICS, MetricRecord({"num-examples": 7})),
        "loss must be a finite number .*, got None",
    ),
    (
        lambda content: content.__setitem__(
            METRICS, MetricRecord({"num-examples": -1, "loss": 0.0})
        ),
        "num-examples must be a whole number from 0 to .*, got -1",
    ),
    (
        lambda content: content.__setitem__("more", ArrayRecord({"x": Array(np.zeros(1))})),
        "the only ArrayRecord must be 'arrays'",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_bad_train_reply_is_refused_by_name(change: Change, message: str) -> None:
    content = _reply().to_content()
    change(content)
    with pytest.raises(ProtocolError, match=message):
        _read(content)


def test_what_is_refused_is_quoted_in_brief() -> None:
    for key in ("partition-id", "adapter", "held", "discrepancy", "seconds.x", "facts.y", "facts"):
        for value in ("x" * 10**6, b"x" * 10**6, [0.5] * 10**6, "\n" * 10**6):
            content = _reply().to_content()
            content.config_records[OURS][key] = value
            try:
                _read(content)
            except ProtocolError as error:
                assert len(str(error)) < 500
                assert "\n" not in str(error)


def test_the_size_of_a_reply_is_known_before_it_is_decoded() -> None:
    content = _reply().to_content()
    most = most_bytes(CLASSES, WEIGHTS)
    assert check_size(content, most) == count_bytes(content) < most
    content.config_records[OURS]["note"] = "x" * most
    with pytest.raises(ProtocolError, match=f"a reply must have at most {most} bytes, got"):
        check_size(content, most)


def test_a_claim_of_countless_partitions_is_refused() -> None:
    with pytest.raises(ProtocolError, match="num-partitions must be <= 100000, got 1000000000"):
        ClientInfo.read(ClientInfo(0, 10**9).to_content(), CLASSES)
    with pytest.raises(ProtocolError, match="pool must have at most 64 characters, got 65"):
        ClientInfo.read(ClientInfo(0, 1, pool="x" * 65).to_content(), CLASSES)


def test_a_diverged_client_does_not_send_its_model() -> None:
    with pytest.raises(ProtocolError, match=r"training diverged: lower train\.lr"):
        TrainReply(0, 1, 1, 1, 0.0, {"a": torch.tensor([math.inf])}).to_content()
    with pytest.raises(ProtocolError, match="loss must be finite"):
        TrainReply(0, 1, 1, 1, math.nan, WEIGHTS).to_content()


@given(st.lists(st.integers(0, 10**9), min_size=CLASSES, max_size=CLASSES), st.integers(1, 10**6))
def test_an_order_comes_back_as_it_was(quotas: list[int], number: int) -> None:
    request = TrainRequest(number, "/somewhere", np.array(quotas, dtype=np.int64))
    content = RecordDict({OURS: request.to_record(HANDSHAKE)})
    got = TrainRequest.read(content, HANDSHAKE, CLASSES)
    assert (got.round, got.run_dir, got.quotas.tolist()) == (number, "/somewhere", quotas)  # type: ignore[union-attr]


def test_an_order_without_quotas_leaves_the_plan_to_the_client() -> None:
    content = RecordDict({OURS: TrainRequest(1).to_record(HANDSHAKE)})
    assert TrainRequest.read(content, HANDSHAKE, CLASSES).quotas is None


def test_hello_comes_back_and_its_range_is_checked() -> None:
    alike = {"rows": "a" * 64, "generator.path": "b" * 64}
    hello = ClientInfo(1, 4, np.array([1, 2, 3]), alike=alike)
    got = ClientInfo.read(hello.to_content(), CLASSES)
    assert (got.partition_id, got.num_partitions, got.alike) == (1, 4, alike)
    np.testing.assert_array_equal(got.real_counts, [1, 2, 3])
    with pytest.raises(ProtocolError, match="partition-id must be < num-partitions=4, got 4"):
        ClientInfo.read(ClientInfo(4, 4).to_content(), CLASSES)
    with pytest.raises(ProtocolError, match=r"alike\.rows must be 64 hexadecimal digits"):
        ClientInfo.read(ClientInfo(0, 4, alike={"rows": "A" * 64}).to_content(), CLASSES)


def test_evaluate_reply_comes_back_and_is_checked() -> None:
    reply = EvaluateReply(3, 2, 10, 0.5, 0.25, 1.5)
    assert EvaluateReply.read(reply.to_content(), server_round=2, num_classes=10) == reply
    with pytest.raises(ProtocolError, match=r"accuracy must be between 0 and 1, got 2\.0"):
        EvaluateReply.read(
            EvaluateReply(3, 2, 10, 2.0).to_content(), server_round=2, num_classes=10
        )


def test_what_was_measured_on_validation_images_survives_the_message() -> None:
    reply = EvaluateReply(3, 2, 0, validation=Validation(7, 0.5, 2.5))
    assert EvaluateReply.read(reply.to_content(), server_round=2, num_classes=3) == reply


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (Validation(0, 0.5, 1.0), "validation-images must be >= 1, got 0"),
        (Validation(2**41, 0.5, 1.0), "validation-images must be <= "),
        (Validation(7, 1.5, 1.0), r"validation-accuracy must be between 0 and 1, got 1\.5"),
        (Validation(7, math.nan, 1.0), "validation-accuracy must be between 0 and 1, got nan"),
    ],
)
def test_validation_that_cannot_be_is_refused(wrong: Validation, told: str) -> None:
    content = EvaluateReply(3, 2, 0, validation=wrong).to_content()
    with pytest.raises(ProtocolError, match=told):
        EvaluateReply.read(content, server_round=2, num_classes=3)


SENT = {"c": torch.tensor([1.0, -2.0])}


def _spoilt(change: str) -> RecordDict:
    content = dataclasses.replace(_reply(), sent=SENT).to_content()
    match change:
        case "missing":
            del content[METHOD]
        case "other name":
            content[METHOD] = weights_to_record({"d": SENT["c"]})
        case "other shape":
            content[METHOD] = weights_to_record({"c": torch.zeros(3)})
        case "other type":
            content[METHOD] = weights_to_record({"c": SENT["c"].double()})
        case "not finite":
            content[METHOD] = weights_to_record({"c": torch.tensor([math.nan, 0.0])})
        case "alone":
            del content[ARRAYS]
    return content


def test_a_methods_tensors_come_back_as_they_were() -> None:
    content = dataclasses.replace(_reply(), sent=SENT).to_content()
    got = TrainReply.read(
        content, server_round=4, template=WEIGHTS, num_classes=CLASSES, method=SENT
    )
    assert torch.equal(got.sent["c"], SENT["c"])
    assert set(without_ours(content)) == {ARRAYS, METRICS}
    record = TrainRequest(3, "/x").to_record(HANDSHAKE)
    request = RecordDict({OURS: record, METHOD: weights_to_record(SENT)})
    asked = TrainRequest.read(request, HANDSHAKE, CLASSES, None, SENT)
    assert torch.equal(asked.received["c"], SENT["c"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", "'method' is missing"),
        ("other name", r"method must hold .* differ: \['c', 'd'\]"),
        ("other shape", r"method\['c'\]"),
        ("other type", r"method\['c'\]"),
        ("not finite", r"method\['c'\] must be finite"),
        ("alone", r"the only ArrayRecord must be .arrays., got \[.method.\]"),
    ],
)
def test_a_methods_tensors_that_do_not_fit_are_refused(change: str, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        TrainReply.read(
            _spoilt(change), server_round=4, template=WEIGHTS, num_classes=CLASSES, method=SENT
        )


def test_tensors_of_a_method_that_sends_none_are_refused_and_bounded() -> None:
    content = dataclasses.replace(_reply(), sent=SENT).to_content()
    with pytest.raises(ProtocolError, match="'method' is not expected"):
        _read(content)
    more = most_bytes(CLASSES, WEIGHTS, SENT) - most_bytes(CLASSES, WEIGHTS)
    assert 8 <= more < 1000
    with pytest.raises(ProtocolError, match=r"method\['c'\] must be finite"):
        dataclasses.replace(_reply(), sent={"c": torch.tensor([math.inf])}).to_content()


def test_weights_of_another_model_name_the_difference() -> None:
    record = weights_to_record({"a": WEIGHTS["a"]})
    with pytest.raises(ProtocolError, match=r"differ: \['b'\]"):
        weights_from_record(record, WEIGHTS)


def test_the_digest_depends_on_every_key() -> None:
    base = RunConfig.from_flat({})
    assert config_digest(base) == config_digest(RunConfig.from_flat({}))
    for change in ({"seed": 1}, {"lora.lr": 0.002}, {"method": "fedavg"}):
        assert config_digest(base.updated(change)) != config_digest(base)  # type: ignore[arg-type]


def test_a_record_of_another_kind_under_our_name_is_refused() -> None:
    content = RecordDict({OURS: MetricRecord({"round": 1})})
    with pytest.raises(ProtocolError, match="a ConfigRecord 'regl' is missing"):
        read_request(content, HANDSHAKE)
    assert isinstance(request_record(1, HANDSHAKE), ConfigRecord)


def test_a_payload_comes_back_as_it_was() -> None:
    pixels = Payload(np.array([0, 2]), pixels=b"xyz", opinion=bytes(range(6)))
    labels, found = np.array([2, 2, 0]), np.array([5, 0, 7])
    pooled = Payload(labels, PoolReference("abc", found))
    adapted = Payload(
        labels, PoolReference("abc", found, "d" * 64, np.array([4, 0, 4])), adapter_file=b"x"
    )
    for payload in (pixels, pooled, adapted):
        request = TrainRequest(3, "/x", payload=payload)
        got = TrainRequest.read(_request(request), HANDSHAKE, CLASSES, LIMITS).payload
        assert got is not None
        np.testing.assert_array_equal(got.labels, payload.labels)
        assert (got.pixels, got.adapter_file) == (payload.pixels, payload.adapter_file)
        assert got.opinion == payload.opinion
        assert (got.reference is None) == (payload.reference is None)
        if payload.reference is not None and got.reference is not None:
            for name in ("pool", "indices", "adapter", "sequence"):
                np.testing.assert_array_equal(
                    getattr(got.reference, name), getattr(payload.reference, name)
                )


def test_the_adapter_that_a_client_keeps_comes_back_as_it_was() -> None:
    for adapter in ("", "a" * 64):
        reply = TrainReply(0, 1, 0, 0, 0.0, None, adapter=adapter)
        content = reply.to_content()
        assert count_bytes(content) > 0
        got = TrainReply.read(content, server_round=1, template={}, num_classes=CLASSES)
        assert got.adapter == adapter


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("payload-labels", [0, 3], "from 0 to 2"),
        ("payload-labels", [0, -1], "from 0 to 2"),
        ("payload-places", [0.5, 1.0], "payload-places must be whole numbers"),
        ("payload-pool", 7, "payload-pool must be a str"),
        ("payload-adapter", "a" * 64, "payload-adapter needs a payload-sequence"),
        ("payload-adapter", "abc", "payload-adapter must be 64 hexadecimal digits"),
        ("payload-adapter-file", b"x", "payload-adapter-file needs a payload-adapter"),
        ("payload-pixels", b"x", "payload-places or payload-pixels, got both"),
        ("payload-opinion", bytes(7), "payload-opinion must have at most 6 bytes, got 7"),
        ("payload-sequence", [1, 2], "payload-sequence must be 3 whole numbers"),
        ("payload-adapter-file", "text", "payload-adapter-file must be a bytes"),
        ("payload-labels", [0] * 7, "payload-labels must be at most 6 whole numbers, got 7"),
        ("payload-places", [0] * 3, "payload-places must be at most 2 whole numbers, got 3"),
        ("payload-pool", "x" * 65, "payload-pool must have at most 64 characters, got 65"),
    ],
)
def test_a_malformed_payload_is_refused(key: str, value: object, why: str) -> None:
    payload = Payload(np.array([0, 1]), PoolReference("abc", np.array([5, 0])))
    content = _request(TrainRequest(3, "/x", payload=payload))
    content.config_records[OURS][key] = value  # type: ignore[assignment]
    with pytest.raises(ProtocolError, match=why):
        TrainRequest.read(content, HANDSHAKE, CLASSES, LIMITS)


def test_a_payloads_bytes_are_bounded_by_what_the_run_can_need() -> None:
    pixels = TrainRequest(3, payload=Payload(np.array([0, 1]), pixels=bytes(2000)))
    with pytest.raises(
        ProtocolError, match="payload-pixels must have at most 1032 bytes, got 2000"
    ):
        TrainRequest.read(_request(pixels), HANDSHAKE, CLASSES, LIMITS)
    reference = PoolReference("abc", np.array([0]), "d" * 64, np.array([1, 0, 0]))
    adapter = TrainRequest(3, payload=Payload(np.array([0]), reference, adapter_file=bytes(11)))
    with pytest.raises(ProtocolError, match="payload-adapter-file must have at most 10 bytes"):
        TrainRequest.read(_request(adapter), HANDSHAKE, CLASSES, LIMITS)


def test_a_client_that_generates_takes_no_images_from_the_server() -> None:
    request = TrainRequest(3, payload=Payload(np.array([0]), pixels=b"x"))
    with pytest.raises(ProtocolError, match="must hold no payload-labels"):
        TrainRequest.read(_request(request), HANDSHAKE, CLASSES)


@pytest.mark.parametrize(("key", "most"), [("run-dir", 4096), ("run", 64)])
def test_an_orders_texts_are_bounded(key: str, most: int) -> None:
    content = _request(TrainRequest(3, "/x", run="a"))
    content.config_records[OURS][key] = "x" * (most + 1)
    with pytest.raises(ProtocolError, match=f"{key} must have at most {most} characters, got"):
        TrainRequest.read(content, HANDSHAKE, CLASSES)


def test_a_client_may_have_a_pool_or_none() -> None:
    for pool in ("", "abc"):
        assert ClientInfo.read(ClientInfo(0, 2, pool=pool).to_content(), CLASSES).pool == pool


def _request(request: TrainRequest) -> RecordDict:
    return RecordDict({OURS: request.to_record(HANDSHAKE)})
