"""A CLIP tokenizer small enough to ship: byte-level, with one merged token per known word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_BOS, _EOS = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 16


def build_tokenizer(sentences: Iterable[str]) -> Any:
    """Return a ``transformers.CLIPTokenizer`` that reads any text, known words as one token.

    Args:
        sentences: prompts whose words get a token of their own; other words fall to bytes.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    vocabulary: dict[str, int] = {}
    for token in [_BOS, _EOS, *alphabet, *(letter + "</w>" for letter in alphabet)]:
        vocabulary[token] = len(vocabulary)
    merges: dict[tuple[str, str], None] = {}
    for word in sorted({word for sentence in sentences for word in sentence.lower().split()}):
        head, *tail = [*word[:-1], word[-1] + "</w>"]
        for part in tail:
            merges.setdefault((head, part))
            head += part
            vocabulary.setdefault(head, len(vocabulary))
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=MAX_TOKENS)
