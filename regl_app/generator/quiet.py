"""The model libraries' own bars and warnings, kept out of a run's progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' bars and warnings about optional parts out of the run's progress.

    By one thread at a time, as all of the process: enter it holding ``MAKING_MODULES``.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(each.get_verbosity(), each.is_progress_bar_enabled()) for each in libraries]
    for each in libraries:
        each.set_verbosity_error()
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each, (verbosity, had_bars) in zip(libraries, before, strict=True):
            each.set_verbosity(verbosity)
            if had_bars:
                each.enable_progress_bar()
