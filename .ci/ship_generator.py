"""Put a pretrained generator into the package: ``.ci/ship_generator.py FOLDER``.

Copies the folder that ``regl pretrain`` made and writes the checksums that the code knows.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from regl_app.core.files import atomic_path, write_text
from regl_app.generator.bundled import checksums

PACKAGE = Path(__file__).resolve().parents[1] / "regl_app" / "generator"


def main() -> int:
    """Ship the folder given as the only argument."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    with atomic_path(PACKAGE / "weights") as temporary:
        shutil.copytree(sys.argv[1], temporary)
    lines = [
        f'        "{name}": (\n            "{digest}"\n        ),'
        for name, digest in checksums(PACKAGE / "weights").items()
    ]
    write_text(
        PACKAGE / "checksums.py",
        '"""SHA-256 of the bundled generator\'s files; written by .ci/ship_generator.py."""\n\n'
        "from collections.abc import Mapping\nfrom types import MappingProxyType\n\n"
        "CHECKSUMS: Mapping[str, str] = MappingProxyType(\n    {\n"
        + "\n".join(lines)
        + "\n    }\n)\n",
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
