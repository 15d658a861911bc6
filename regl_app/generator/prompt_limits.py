"""What of a prompt the text encoders do not read, as CLIP stops at 77 tokens; what is left."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from regl_app.core.errors import GeneratorError
from regl_app.core.log import logger
from regl_app.core.types import Tensors

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


def refuse_alike(tensors: Tensors, texts: Sequence[str], labels: Sequence[int]) -> None:
    """Refuse prompts of two classes of which the text encoders make the same.

    Args:
        tensors: what they make, ``(R, ...)`` each.
        texts: the prompts, at least as many as ``labels``.
        labels: the class of each row, of the first ones; others are of none.

    Raises:
        GeneratorError: names both prompts, what may be the cause, and the remedy.
    """
    first: dict[bytes, int] = {}
    for row, label in enumerate(labels):
        made = [tensor[row].cpu() for tensor in tensors.values()]
        if not all(bool(each.isfinite().all()) for each in made):
            continue  # told by what is drawn of it
        digest = hashlib.sha256()
        for each in made:
            digest.update(each.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        other = first.setdefault(digest.digest(), row)
        if labels[other] != label:
            raise GeneratorError(
                f"the text encoder of generator.path reads the same in {texts[other]!r}, of class "
                f"number {labels[other]}, and in {texts[row]!r}, of class number {label}: the "
                "generator would draw the same for both (what tells them apart is cut off, or of "
                "letters that it does not know: give each a text of its own in generator.prompts, "
                "with what tells it apart in front)"
            )


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
