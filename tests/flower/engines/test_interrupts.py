"""What is being ended is not cut short, whatever comes meanwhile."""

from __future__ import annotations

import io
import signal
import sys

import pytest

from regl_app.flower.engines.interrupts import not_cut_short, terminable


class Gone(io.StringIO):
    """A terminal that nobody reads any more."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("reader", [io.StringIO, Gone])
def test_an_end_is_not_cut_short(
    number: signal.Signals, reader: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", reader())
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)  # a background job's are ignored
    ended = []
    try:
        with (
            pytest.raises((SystemExit, KeyboardInterrupt)),
            terminable(hangup=True),
            not_cut_short("closing"),
        ):
            signal.raise_signal(number)
            signal.raise_signal(number)
            ended.append(True)
        assert ended == [True]
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable(hangup=True), not_cut_short("closing"):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
