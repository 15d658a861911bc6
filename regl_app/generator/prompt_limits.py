"""What of a prompt the text encoders do not read: CLIP stops at 77 tokens."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from regl_app.core.log import logger

_MOST_NAMED = 3


def warn_of_cuts(pipeline: Any, texts: Sequence[str], tokens: int | None = None) -> None:
    """Say in the log which of ``texts`` (N,) lose their end, and what is lost.

    Of several encoders the one that reads most counts: what CLIP loses beside a T5 is read.
    ``tokens``: how many the denoiser is given; None: as many as the pipeline gives unasked.
    """
    limits = list(_limits(pipeline, tokens))
    if not limits:
        return
    cuts = {
        text: lost
        for text in dict.fromkeys(texts)
        if (lost := min((_lost(tokenizer, limit, text) for tokenizer, limit in limits), key=len))
    }
    most = max(limit for _, limit in limits)
    for text, lost in list(cuts.items())[:_MOST_NAMED]:
        logger.warning(
            "the prompt %r is longer than the %d tokens that the generator's text encoder reads: "
            "its end, %r, is left out (shorten generator.prompt, generator.negative-prompt or the "
            "class's entry in generator.prompts, with what tells classes apart in front)",
            text,
            most,
            lost,
        )
    if len(cuts) > _MOST_NAMED:
        logger.warning("so are the ends of %d more prompts", len(cuts) - _MOST_NAMED)


def _limits(pipeline: Any, tokens: int | None) -> Iterator[tuple[Any, int]]:
    """Yield each tokenizer whose encoder is there, and how many tokens are read by it."""
    asked = inspect.signature(pipeline.encode_prompt).parameters.get("max_sequence_length")
    for number in ("", "_2", "_3"):
        tokenizer = getattr(pipeline, f"tokenizer{number}", None)
        if tokenizer is None or getattr(pipeline, f"text_encoder{number}", None) is None:
            continue
        most = int(tokenizer.model_max_length)
        yield tokenizer, most if asked is None else min(most, tokens or int(asked.default))


def _lost(tokenizer: Any, limit: int, text: str) -> str:
    """Return the end of ``text`` that has no place beside the tokenizer's own tokens."""
    # verbose=False: the tokenizer would warn of the length itself, without saying what is lost.
    tokens = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    room = limit - tokenizer.num_special_tokens_to_add()
    return str(tokenizer.decode(tokens[room:])).strip()
