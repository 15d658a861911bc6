"""Which of several GPUs a worker computes on: a thread's own, or one a process has claimed.

A run says ``device='cuda'``, which is the same for all its clients; where their workers share a
machine, each takes a card of its own, so that there is one generator per worker and card.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

_thread = threading.local()
_claims: list[IO[str]] = []
"""Locks that are held until this process ends."""
_process: dict[str, int | Path] = {}


def use_card(card: int) -> None:
    """Have this thread compute on ``card``, counted among the visible ones."""
    _thread.card = card


def share_cards(folder: Path) -> None:
    """Have this process claim a card when it first needs one, beside others with that folder.

    Args:
        folder: is there, and is this user's alone.
    """
    _process["folder"] = folder


def own_card(cards: int) -> int | None:
    """Return which of ``cards`` visible GPUs is this worker's; None: nobody has said so.

    A process that shares them claims the one that the fewest others have, and keeps it.
    """
    mine = getattr(_thread, "card", None)
    if mine is not None:
        return int(mine)
    folder = _process.get("folder")
    if isinstance(folder, Path) and "card" not in _process:
        _process["card"] = _claimed(folder, cards)
    card = _process.get("card")
    return card if isinstance(card, int) else None


def card_lost() -> bool:
    """Return whether CUDA fails in this process whatever it is asked, as after a faulty kernel."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        for card in range(torch.cuda.device_count()):
            if torch.cuda.memory_reserved(card):  # else this would begin to use that card
                torch.cuda.synchronize(card)
    except RuntimeError:
        return True
    return False


def _claimed(folder: Path, cards: int) -> int:
    names = _names(cards)
    for place in range(1000):  # so many processes on one card there are nowhere
        for card, name in enumerate(names):
            with suppress(ImportError, OSError):  # another has it; or there are no such locks
                import fcntl

                handle = (folder / f"gpu-{name}.{place}.lock").open("w")
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    handle.close()
                    raise
                _claims.append(handle)  # ends with the process, also if it is killed
                return card
    return 0


def _names(cards: int) -> list[str]:
    """Return names of the visible cards that other processes, who may see others, use as well."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip().replace("/", "_") for name in visible.split(",") if name.strip()]
    return names if len(names) == cards else [str(card) for card in range(cards)]
