"""What a small generator is trained on: rendered glyphs, or a data set's public part, disguised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regl_app.config.sections import DataConfig, PublicDataConfig
from regl_app.core.errors import ConfigError
from regl_app.core.seeding import numpy_generator, torch_generator
from regl_app.data.concepts import phrasings
from regl_app.data.images import ImageSet
from regl_app.data.looks import Look
from regl_app.data.resize import fit
from regl_app.data.sources.registry import load_source
from regl_app.data.stratified import stratified_sample
from regl_app.generator.compatibility import data_place
from regl_app.generator.pretraining.fonts import TYPEFACES, find_fonts
from regl_app.generator.pretraining.glyphs import CONCEPTS, GlyphBank

_SIZE = 32
_LOOK = "--look"
_EXAMPLES, _HELD_OUT = 12_000, 2_000


@dataclass(frozen=True)
class Undisguised:
    """The images ``(N, 3, 32, 32)`` of a corpus before their disguise, in the same order."""

    examples: ImageSet
    held_out: ImageSet


@dataclass(frozen=True)
class Corpus:
    """Images ``(N, 3, 32, 32)`` of ``concepts`` to train on, and what the model card says of them.

    ``examples`` and ``held_out`` train and test the classifier that judges the result;
    ``undisguised`` are the same images as clients have such, for a data set; ``origin`` is what a
    run has to agree with, so that no client holds these images.
    """

    images: ImageSet
    examples: ImageSet
    held_out: ImageSet
    concepts: tuple[str, ...]
    title: str
    knows: str
    data: str
    limits: str
    command: str
    origin: dict[str, str | float] | None = None
    undisguised: Undisguised | None = None


def glyph_corpus(count: int, seed: int, font_folders: Sequence[Path]) -> Corpus:
    """Return ``count`` renders of the ten digits from freely licensed fonts.

    Raises:
        GeneratorError: the fonts are not installed; names the packages.
    """
    fonts = find_fonts(font_folders)
    bank = GlyphBank.render(fonts)

    def draw(images: int, stream: str) -> ImageSet:
        return ImageSet(*bank.sample(images, torch_generator(seed, stream)))

    table = "\n".join(
        f"| {face.family} | {face.package} | {face.licence} | {len(face.files)} |"
        for face in TYPEFACES
    )
    return Corpus(
        draw(count, "glyphs"),
        draw(_EXAMPLES, "classifier"),
        draw(_HELD_OUT, "held-out"),
        CONCEPTS,
        title="Printed digits",
        knows=(
            "the ten digits as concepts and has seen\nthem in print only, never in handwriting."
        ),
        data=(
            f"{count:,} renders of the digits 0-9 from {len(fonts)} font files, varied in slant,\n"
            "rotation, aspect, weight, warp, blur and contrast. No photograph, scan or "
            "handwriting. Rendered\nletterforms are not covered by the fonts' licences; no font "
            "file is shipped.\n\n"
            f"| family | Debian package | licence | files |\n|---|---|---|---|\n{table}"
        ),
        limits="Digits only, white on black, 32x32 pixels.",
        command="regl pretrain",
    )


def public_corpus(config: DataConfig, look: str) -> Corpus:
    """Return the public part of a data set, seen in another ``look`` than the clients' images.

    A tenth is held out to judge by.

    Raises:
        ConfigError: ``data.public-fraction`` is 0, or the look is unknown.
        DataError: the data set cannot be read.
    """
    if config.public_fraction == 0:
        raise ConfigError(
            "data.public-fraction must be > 0: the share of the images that is public, and that no "
            "client of a run with the same key gets (try data.public-fraction=0.2)"
        )
    disguise = Look.parse(look, _LOOK)
    if not disguise.changes:
        raise ConfigError(
            f"{_LOOK}={look!r} is how the clients' images look: a generator of it would have "
            "learnt them (try 'outlined')"
        )
    source = load_source(PublicDataConfig(**dict(config)))
    plain = ImageSet(fit(source.train.images, (3, _SIZE, _SIZE)), source.train.labels)
    images = ImageSet(disguise.of(plain.images), plain.labels)
    rng = numpy_generator(0, "public", "held-out")
    held = stratified_sample(images.labels.numpy(), len(images) // 10, rng)
    kept = np.delete(np.arange(len(images)), held)
    rest = images.subset(kept)
    share = f"{100 * config.public_fraction:g} %"
    return Corpus(
        rest,
        rest,
        images.subset(held),
        tuple(phrasings(each)[0] for each in source.concepts),
        title=f"{source.name}, {look}",
        knows=f"the {source.num_classes} classes of {source.name} and\nhas seen them {look} only.",
        data=(
            f"{len(rest):,} images: {share} of each class of {config.source}, taken out of what "
            f"clients and tests\nget (`data.public-fraction={config.public_fraction:g}`), seen "
            f"{look}. The data set's own licence applies."
        ),
        limits=f"Only the classes of {source.name}, {_SIZE}x{_SIZE} pixels.",
        command=(
            f"regl pretrain --source {config.source} --look {look} "
            f"data.public-fraction={config.public_fraction:g}"
        ),
        origin={
            "source": config.source,
            "public-fraction": config.public_fraction,
            "path": data_place(config),
            "look": look,
        },
        undisguised=Undisguised(plain.subset(kept), plain.subset(held)),
    )
