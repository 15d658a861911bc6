"""Which clients take part in a round."""

from __future__ import annotations

from regl_app.config import RunConfig
from regl_app.rounds.federate import federate
from regl_app.rounds.server_round import sampled_clients


def test_a_share_of_them_drawn_anew_in_each_round() -> None:
    config = RunConfig.from_flat({"method": "fedavg", "server.fraction": 0.1})
    rounds = [tuple(sampled_clients(config, number, 100)) for number in range(1, 6)]
    assert all(len(set(each)) == 10 and list(each) == sorted(each) for each in rounds)
    assert len(set(rounds)) == 5 and max(max(each) for each in rounds) < 100


def test_central_trains_whatever_share_is_asked_for() -> None:
    config = RunConfig.from_flat(
        {
            "method": "central",
            "server.fraction": 0.1,
            "rounds": 2,
            "train.steps": 1,
            "data.max-train": 200,
            "data.max-test": 40,
            "report": False,
            "tensorboard": False,
        }
    )
    assert list(sampled_clients(config, 1, 20)) == list(range(20))
    assert federate(config, 20).rounds[-1].number == 2
