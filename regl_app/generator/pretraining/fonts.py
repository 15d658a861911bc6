"""The printed typefaces the bundled generator learned from, and where they are found.

All are freely licensed and packaged by Debian. Handwriting, script and casual faces are left out
on purpose: the generator must know what a "3" is without ever having seen handwriting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regl_app.core.errors import GeneratorError

DEFAULT_FOLDERS = (Path("/usr/share/fonts"),)


@dataclass(frozen=True)
class Typeface:
    """A family, its Debian package, its SPDX licence and the font files that are used.

    Names and licences are those of Debian 12. ``LicenseRef-Liberation`` is the GPL-2.0 with Red
    Hat's font exceptions (Liberation 1.x); the OFL came with version 2.
    """

    family: str
    package: str
    licence: str
    files: tuple[str, ...]


def _faces(family: str, package: str, licence: str, files: str) -> Typeface:
    return Typeface(family, f"fonts-{package}", licence, tuple(files.split("|")))


TYPEFACES: tuple[Typeface, ...] = (
    _faces("B612", "b612", "OFL-1.1", "B612-Regular.otf|B612-Bold.otf|B612-Italic.otf"),
    _faces("Bebas Neue", "bebas-neue", "OFL-1.1", "BebasNeue-Book.otf|BebasNeue-Light.otf"),
    _faces("Cabin", "cabin", "OFL-1.1", "Cabin-Regular.otf|Cabin-Bold.otf|Cabin-Italic.otf"),
    _faces("Cantarell", "cantarell", "OFL-1.1", "Cantarell-Regular.otf|Cantarell-Light.otf"),
    _faces("Comfortaa", "comfortaa", "OFL-1.1", "Comfortaa-Regular.ttf|Comfortaa-Bold.ttf"),
    _faces("Courier Prime", "courier-prime", "OFL-1.1", "Courier Prime.otf|Courier Prime Bold.otf"),
    _faces("Caladea", "crosextra-caladea", "OFL-1.1", "Caladea-Regular.ttf|Caladea-Italic.ttf"),
    _faces("Carlito", "crosextra-carlito", "OFL-1.1", "Carlito-Regular.ttf|Carlito-Italic.ttf"),
    _faces(
        "DejaVu",
        "dejavu-core",
        "Bitstream-Vera",
        "DejaVuSans.ttf|DejaVuSans-Bold.ttf|DejaVuSerif.ttf|DejaVuSansMono.ttf",
    ),
    _faces("Dosis", "dosis", "OFL-1.1", "Dosis-Book.otf|Dosis-Light.otf|Dosis-SemiBold.otf"),
    _faces("Fira Code", "firacode", "OFL-1.1", "FiraCode-Regular.ttf|FiraCode-Light.ttf"),
    _faces("Go", "go", "BSD-3-Clause", "Go-Regular.ttf|Go-Italic.ttf|Go-Bold.ttf|Go-Mono.ttf"),
    _faces("Hack", "hack", "MIT AND Bitstream-Vera", "Hack-Regular.ttf|Hack-Italic.ttf"),
    _faces("Inconsolata", "inconsolata", "OFL-1.0", "Inconsolata.otf"),
    _faces("Inter", "inter", "OFL-1.1", "Inter-Regular.otf|Inter-Light.otf|Inter-Italic.otf"),
    _faces("Jura", "jura", "OFL-1.1", "Jura-Regular.otf|Jura-SemiBold.otf"),
    _faces("Karla", "karla", "OFL-1.1", "Karla-Regular.otf|Karla-Italic.otf|Karla-Light.otf"),
    _faces("Lato", "lato", "OFL-1.1", "Lato-Regular.ttf|Lato-Light.ttf|Lato-Italic.ttf"),
    _faces("League Spartan", "league-spartan", "OFL-1.1", "LeagueSpartan-Regular.otf"),
    _faces(
        "Liberation",
        "liberation",
        "LicenseRef-Liberation",
        "LiberationSans-Regular.ttf|LiberationSans-Italic.ttf|LiberationSerif-Regular.ttf|"
        "LiberationSerif-Italic.ttf|LiberationMono-Regular.ttf|LiberationSansNarrow-Regular.ttf",
    ),
    _faces(
        "Linux Libertine",
        "linuxlibertine",
        "OFL-1.1",
        "LinLibertine_R.otf|LinBiolinum_R.otf|LinBiolinum_RI.otf",
    ),
    _faces("Manrope", "manrope", "OFL-1.1", "Manrope-Regular.ttf|Manrope-Light.ttf"),
    _faces("Old Standard", "oldstandard", "OFL-1.0", "OldStandard-Regular.ttf"),
    _faces(
        "Open Sans",
        "open-sans",
        "Apache-2.0",
        "OpenSans-Regular.ttf|OpenSans-Light.ttf|OpenSans-Italic.ttf|OpenSans-CondLight.ttf",
    ),
    _faces("Play", "play", "OFL-1.1", "Play-Regular.ttf|Play-Bold.ttf"),
    _faces("Quattrocento", "quattrocento", "OFL-1.1", "Quattrocento-Regular.otf"),
    _faces("Quicksand", "quicksand", "OFL-1.1", "Quicksand-Regular.ttf|Quicksand-Bold.ttf"),
    _faces(
        "Roboto Slab", "roboto-slab", "Apache-2.0", "RobotoSlab-Regular.otf|RobotoSlab-Thin.otf"
    ),
    _faces(
        "Roboto",
        "roboto-unhinted",
        "Apache-2.0",
        "Roboto-Regular.ttf|Roboto-Light.ttf|Roboto-Italic.ttf|RobotoCondensed-Regular.ttf",
    ),
    _faces(
        "Routed Gothic", "routed-gothic", "OFL-1.1", "routed-gothic.ttf|routed-gothic-italic.ttf"
    ),
    _faces("Andika", "sil-andika", "OFL-1.1-RFN", "Andika-Regular.ttf|Andika-Italic.ttf"),
    _faces("Gentium", "sil-gentium", "OFL-1.1", "Gentium-R.ttf|Gentium-I.ttf"),
    _faces("Sora", "sora", "OFL-1.1", "Sora-Regular.otf|Sora-Light.otf"),
)


def find_fonts(
    folders: Sequence[Path] = DEFAULT_FOLDERS, typefaces: Sequence[Typeface] = TYPEFACES
) -> list[Path]:
    """Return the font files of ``typefaces`` below ``folders``, in the order of the list.

    Raises:
        GeneratorError: a file is absent; names the Debian packages to install.
    """
    present = {
        path.name: path
        for folder in reversed(folders)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in {".ttf", ".otf"}
    }
    absent = sorted({face.package for face in typefaces if not present.keys() >= set(face.files)})
    if absent:
        raise GeneratorError(
            f"fonts of {len(absent)} packages are not below {', '.join(map(str, folders))} "
            f"(install them: apt-get install {' '.join(absent)})"
        )
    return [present[name] for face in typefaces for name in face.files]
