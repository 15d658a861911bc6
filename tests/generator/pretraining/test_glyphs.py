from pathlib import Path

import matplotlib
import pytest
import torch

from regl_app.core.errors import GeneratorError
from regl_app.generator.pretraining.fonts import TYPEFACES, Typeface, find_fonts
from regl_app.generator.pretraining.glyphs import GlyphBank


def any_fonts():
    """Return a font of the list that is on every machine: matplotlib brings it."""
    face = Typeface("DejaVu", "fonts-dejavu-core", "Bitstream-Vera", ("DejaVuSans.ttf",))
    return find_fonts([Path(matplotlib.get_data_path())], [face])


def test_every_typeface_is_licensed_and_printed():
    free = {"OFL-1.1", "OFL-1.1-RFN", "OFL-1.0", "Apache-2.0", "BSD-3-Clause", "MIT"}
    free |= {"Bitstream-Vera", "LicenseRef-Liberation"}
    for face in TYPEFACES:
        assert set(face.licence.split(" AND ")) <= free
        assert face.package.startswith("fonts-")
        assert not any(word in face.family.lower() for word in ("hand", "script", "comic"))
    files = [name for face in TYPEFACES for name in face.files]
    assert len(files) == len(set(files)) >= 60


def test_absent_fonts_name_the_packages_to_install(tmp_path):
    with pytest.raises(GeneratorError, match="apt-get install fonts-b612"):
        find_fonts([tmp_path])


def test_renders_are_varied_whole_and_reproducible():
    bank = GlyphBank.render(any_fonts())
    images, digits = bank.sample(300, torch.Generator().manual_seed(1))
    again, _ = bank.sample(300, torch.Generator().manual_seed(1))
    assert images.shape == (300, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert torch.equal(images, again)
    assert set(digits.tolist()) == set(range(10))
    assert torch.equal(images[:, 0], images[:, 1])
    ink = images[:, 0].float().mean((1, 2))
    assert (ink > 3).all()
    assert (images[:, 0].amax((1, 2)) > 100).all()
    fours = images[digits == 4]
    assert not torch.equal(fours[0], fours[1])


def test_digits_look_like_themselves():
    # The mean image of a digit over many variations is nearest to itself in a second draw.
    bank = GlyphBank.render(any_fonts())

    def means(seed):
        images, digits = bank.sample(1500, torch.Generator().manual_seed(seed))
        return torch.stack([images[digits == k, 0].float().mean(0).flatten() for k in range(10)])

    distance = torch.cdist(means(1), means(2))
    assert distance.argmin(1).tolist() == list(range(10))
