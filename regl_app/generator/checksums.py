"""SHA-256 of the bundled generator's files; written by .ci/ship_generator.py."""

from collections.abc import Mapping
from types import MappingProxyType

CHECKSUMS: Mapping[str, str] = MappingProxyType({})
