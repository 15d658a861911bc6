"""Exit 0 if every URL answers, 1 otherwise: the health check of the containers.

Called as ``python healthy.py [--ca FILE] URL...``; the CA is what https servers are checked by.
"""

from __future__ import annotations

import argparse
import ssl
import sys
import urllib.request

_SECONDS = 5.0


def main() -> int:
    """Ask every URL; say on standard error which one did not answer, and why."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ca")
    parser.add_argument("url", nargs="+")
    arguments = parser.parse_args()
    trust = ssl.create_default_context(cafile=arguments.ca)
    for url in arguments.url:
        try:
            with urllib.request.urlopen(url, timeout=_SECONDS, context=trust):
                pass
        except (OSError, ValueError) as error:
            sys.stderr.write(f"{url}: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
