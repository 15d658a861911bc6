"""Who holds a class for real speaks for it: say, opinion, head, and the message's bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.errors import ProtocolError
from regl_app.core.types import Floats
from regl_app.data.images import ImageSet
from regl_app.learning.evaluation.predict import predict_log_probs
from regl_app.learning.models.build import build_model
from regl_app.learning.models.classifier import Classifier
from regl_app.rounds.exchange import RoundResult
from regl_app.rounds.experts import expert_head, opinion, say
from regl_app.rounds.holdings.registry import holdings
from regl_app.supplement.payload import Payload

CPU = torch.device("cpu")


def model(seed: int) -> Classifier:
    return build_model(RunConfig.from_flat({"model.width": 4}).model, 3, 1, 16, seed)


def result(key: int, counts: list[int] | None, examples: int = 10) -> RoundResult:
    held = None if counts is None else np.array(counts)
    weights = model(key + 1).state_dict()
    return RoundResult(key, 1, examples, examples, 0.0, weights, real_counts=held)


def told_by(results: dict[int, RoundResult]) -> Floats:
    return holdings(RunConfig.from_flat({}), model(0).state_dict(), results, 3)


def images() -> ImageSet:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (5, 1, 16, 16), dtype=torch.uint8, generator=random)
    return ImageSet(pixels, torch.arange(5) % 3)


def test_a_say_is_a_share_of_the_real_images_of_a_class() -> None:
    results = {0: result(0, [6, 0, 0], 30), 1: result(1, [2, 4, 0], 10)}
    expected = [[0.75, 0.0, 0.75], [0.25, 1.0, 0.25]]  # nobody holds the third: as in FedAvg
    np.testing.assert_allclose(say(results, told_by(results)), expected)


def test_who_tells_no_counts_has_no_say_where_others_do() -> None:
    results = {0: result(0, None), 1: result(1, [2, 4, 1])}
    np.testing.assert_allclose(say(results, told_by(results)), [[0, 0, 0], [1, 1, 1]])
    alone = {0: result(0, None, 30), 1: result(1, None, 10)}
    np.testing.assert_allclose(say(alone, told_by(alone)), [[0.75] * 3, [0.25] * 3])
    without_images = dataclasses.replace(result(2, [0, 0, 0]), weights=None)
    everybody = alone | {2: without_images}
    assert say(everybody, told_by(everybody)).shape == (2, 3)


def test_an_opinion_is_the_holders_probabilities_made_to_add_up() -> None:
    models, shares = [model(1), model(2)], np.array([[0.75, 0.0, 1.0], [0.25, 1.0, 0.0]])
    found = opinion([m.state_dict() for m in models], shares, model(0), images(), CPU)
    each = [predict_log_probs(m, images().images, "cpu").exp() for m in models]
    first = 0.75 * each[0][:, 0] + 0.25 * each[1][:, 0]
    spoken = torch.stack([first, each[1][:, 1], each[0][:, 2]], dim=1)
    torch.testing.assert_close(found, spoken / spoken.sum(dim=1, keepdim=True))


def test_a_model_whose_answers_are_no_numbers_has_no_say() -> None:
    broken = {name: torch.full_like(v, torch.nan) for name, v in model(1).state_dict().items()}
    sound, shares = model(2).state_dict(), np.array([[0.9] * 3, [0.1] * 3])
    found = opinion([broken, sound], shares, model(0), images(), CPU)
    torch.testing.assert_close(found, predict_log_probs(model(2), images().images, "cpu").exp())


def test_a_row_of_the_head_is_the_mean_of_those_who_hold_its_class() -> None:
    states, shares = (
        [model(1).state_dict(), model(2).state_dict()],
        np.array([[1, 0.5, 0], [0, 0.5, 1]]),
    )
    average = model(3).state_dict()
    found = expert_head(average, states, shares)
    for name in ("head.weight", "head.bias"):
        one, other = states[0][name], states[1][name]
        torch.testing.assert_close(
            found[name], torch.stack([one[0], (one[1] + other[1]) / 2, other[2]])
        )
    others = found.keys() - {"head.weight", "head.bias"}
    assert all(torch.equal(found[name], average[name]) for name in others)


ALL = np.ones((2, 3))


def test_a_bounded_head_goes_as_far_as_its_median_row_and_no_further() -> None:
    average, states = model(9).state_dict(), [model(1).state_dict(), model(2).state_dict()]
    states[0]["head.weight"][0] += 50.0  # one client's class outweighs all others
    shares = np.array([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])

    def moved(bounded_by: Floats | None) -> torch.Tensor:
        found = expert_head(average, states, shares, bounded_by=bounded_by)
        names = ("head.weight", "head.bias")
        parts = [(found[n] - average[n]).reshape(3, -1) for n in names]
        return torch.cat(parts, dim=1).double()

    plain, bounded = moved(None), moved(ALL)
    far = plain.norm(dim=1)
    torch.testing.assert_close(
        bounded.norm(dim=1), far.clamp_max(far.median()), rtol=1e-4, atol=1e-6
    )
    assert far[0] > 10 * bounded.norm(dim=1)[0]
    torch.testing.assert_close(  # each in its direction
        torch.nn.functional.cosine_similarity(plain, bounded), torch.ones(3).double()
    )


def test_a_bounded_head_of_who_agrees_stays_where_it_is() -> None:
    average = model(9).state_dict()
    found = expert_head(average, [average, average], np.full((2, 3), 0.5), bounded_by=ALL)
    assert all(torch.equal(found[name], average[name]) for name in average)


def test_classes_that_nobody_holds_bound_no_row() -> None:
    states = [model(1).state_dict(), model(2).state_dict()]
    average = {n: (states[0][n] + states[1][n]) / 2 for n in states[0]}
    # Two of three: their rows are the average's, and do not go anywhere.
    shares, held = np.array([[1.0, 0.5, 0.5], [0.0, 0.5, 0.5]]), np.array([[5.0, 0, 0], [0, 0, 0]])
    free = expert_head(average, states, shares)
    found = expert_head(average, states, shares, bounded_by=held)
    assert all(torch.equal(found[name], free[name]) for name in average)
    assert not torch.allclose(found["head.weight"][0], average["head.weight"][0])
    nobody = expert_head(average, states, np.full((2, 3), 0.5), bounded_by=0 * ALL)
    torch.testing.assert_close(nobody["head.weight"], average["head.weight"])


@pytest.mark.parametrize("bounded", [False, True])
def test_a_kept_row_is_the_averages_to_the_bit(bounded: bool) -> None:
    average = model(9).state_dict()  # as a server optimizer makes it: no mean of the states
    states, shares = [model(1).state_dict(), model(2).state_dict()], np.full((2, 3), 0.5)
    held = np.array([[5.0, 0, 0], [0, 5.0, 0]])
    found = expert_head(
        average,
        states,
        shares,
        bounded_by=held if bounded else None,
        kept=[False, False, True],
    )
    for name in ("head.weight", "head.bias"):
        assert torch.equal(found[name][2], average[name][2])
    moved = (found["head.weight"] != average["head.weight"]).any(dim=1)
    assert moved.tolist() == [True, True, False]


@pytest.mark.parametrize("classes", [3, 1000])
def test_an_opinion_travels_within_half_a_percent(classes: int) -> None:
    random = torch.Generator().manual_seed(0)
    sent = torch.rand((4, classes), generator=random).softmax(dim=1)
    payload = Payload(np.zeros(4, dtype=np.int64), pixels=b"x").with_opinion(sent)
    assert len(payload.opinion) == 4 * classes  # a byte each
    found = payload.probabilities(classes)
    assert found is not None
    torch.testing.assert_close(found, sent, rtol=0.006, atol=0)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4))


def test_an_opinion_of_other_images_or_of_nothing_is_refused() -> None:
    payload = Payload(np.zeros(2, dtype=np.int64), pixels=b"x")
    assert payload.probabilities(3) is None and payload.with_opinion(None) is payload
    with pytest.raises(ProtocolError, match=r"must have 6 bytes for 2 images of 3 classes, got 5"):
        dataclasses.replace(payload, opinion=bytes(5)).probabilities(3)
    with pytest.raises(ProtocolError, match="says nothing"):
        dataclasses.replace(payload, opinion=bytes([1, 0, 0, 0, 0, 0])).probabilities(3)
