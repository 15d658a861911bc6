"""By which scales a run read deep greyscale: its source, or each of its sites."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from regl_app.data.depth import Scale, UsedDepth, agreed
from regl_app.runs.records import DepthScales, FederationFacts, RoundRecord

SERVER = "the server's test folder"


def depth_record(used: UsedDepth | None) -> DepthScales | None:
    """Return what federation.json has of it."""
    if used is None:
        return None
    whole, real = (each and (each.low, each.high) for each in (used.whole, used.real))
    return DepthScales(whole=whole, real=real)


def depths_of(
    facts: FederationFacts | None, history: Iterable[RoundRecord]
) -> Mapping[str, UsedDepth]:
    """Return by which scales each data set of a run was read, by whose it is; none without any.

    Where one source was spread over all clients, it is that one. A site's is what it told last.
    """
    found = {}
    if facts is not None and facts.depth is not None:
        scales = (facts.depth.whole, facts.depth.real)
        found[SERVER] = UsedDepth(*(None if each is None else Scale(*each) for each in scales))
    for record in history:
        for client, told in record.clients.items():
            if isinstance(text := told.get("depth"), str):
                try:
                    found[site_name(client)] = UsedDepth.of_text(text)
                except ValueError:  # of a client that tells what it likes
                    continue
    return found


def site_name(client: int) -> str:
    """Return what `depths_of` calls a site."""
    return f"client {client}"


def depth_words(depths: Mapping[str, UsedDepth]) -> str:
    """Return in words how a run read deep greyscale, each site's where they differ; '' if none."""
    together = agreed(depths.values())
    if together is not None:
        return together.words
    return ", ".join(f"{who}: {used.words}" for who, used in depths.items())
