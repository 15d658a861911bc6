"""Write constraints.txt: the exact versions this environment holds, hence those tested."""

from __future__ import annotations

import platform
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Not ours to pin: the package itself and the installer.
OMITTED = {"regl-app", "pip", "setuptools", "wheel"}


def pins() -> dict[str, str]:
    """Return ``{normalized name: public version}`` of everything installed here."""
    found = {
        dist.metadata["Name"].lower().replace("_", "-"): dist.version.partition("+")[0]
        for dist in distributions()
    }
    return {name: found[name] for name in sorted(found) if name not in OMITTED}


def main() -> None:
    """Write the file and say how many versions it pins."""
    versions = pins()
    header = (
        f"# The versions this was tested with (Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}); `make constraints` writes them.\n"
    )
    body = "".join(f"{name}=={version}\n" for name, version in versions.items())
    (ROOT / "constraints.txt").write_text(header + body, encoding="utf-8")
    print(f"constraints.txt: {len(versions)} versions")


if __name__ == "__main__":
    main()
