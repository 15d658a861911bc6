"""How large numbers may be that others tell us: beyond, they are a mistake or a lie."""

from __future__ import annotations

MOST_IMAGES = 2**40
"""Images that a number of images may tell: sums of them stay exact."""
MOST_COUNT = 1e12
"""Images of a class that a count with noise may tell."""
MOST_SECONDS = 1e9
"""Seconds of the longest duration that a record takes: 32 years."""
