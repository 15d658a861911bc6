"""What a round's synthetic images are worth in one line of the log."""

from __future__ import annotations

from regl_app.runs.records import RoundRecord
from regl_app.supplement.image_distance import DISTANCES
from regl_app.supplement.image_quality import MEASURES
from regl_app.supplement.near_copies import CHANCE

_WORDS = {
    "reading": "{:.0%} read as meant",
    "fidelity": "fidelity {:.2f} (real ones: 1)",
    "diversity": "diversity {:.2f} (real ones: 1)",
    "near_copies": f"{{:.0%}} near-copies (new real ones: {CHANCE:.0%})",
    "fid": "FID {:.3g}",
    "kid": "KID {:.3g}",
}


def quality_line(record: RoundRecord) -> str:
    """Return the clients' means, and what the measuring took; '' where a round did not measure."""
    parts = []
    for name in (*MEASURES, *DISTANCES):
        told = [facts.get(f"images_{name}") for facts in record.clients.values()]
        known = [float(value) for value in told if isinstance(value, int | float)]
        if known:
            parts.append(_WORDS[name].format(sum(known) / len(known)))
    seconds = sum(spent or 0.0 for spent in record.seconds.clients.get("measure", []))
    took = f", measured in {seconds:.1f} s"
    return f"synthetic images, mean of clients: {', '.join(parts)}{took}" if parts else ""
