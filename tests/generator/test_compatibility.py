"""Classes that a generator would draw as what they are not."""

from __future__ import annotations

import pytest

from regl_app.config import RunConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.types import Scalar
from regl_app.data.concepts import Concept, concepts_of
from regl_app.data.images import ImageSet
from regl_app.data.source import Source
from regl_app.generator.compatibility import check_concepts, check_source

DIGITS = tuple("0123456789")
FEMNIST = (*DIGITS, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *"abcdefghijklmnopqrstuvwxyz")


def check(
    names: tuple[str, ...],
    source: str,
    name: str = "photos",
    prompts: str = "",
    concepts: tuple[Concept, ...] | None = None,
) -> None:
    keys: dict[str, Scalar] = {"data.source": source, "data.path": name}
    if source in ("site", "digits"):
        keys["data.path"] = ""
    if source == "site":
        keys["data.classes"] = ",".join(names)
    config = RunConfig.from_flat({**keys, "generator.path": "a/b", "generator.prompts": prompts})
    nothing = ImageSet.empty((3, 8, 8))
    check_source(config, Source(name, nothing, nothing, names, concepts or concepts_of(names)))


@pytest.mark.parametrize(
    ("names", "source"),
    [
        (("0", "1"), "folder"),
        (("0", "1"), "site"),
        (("0", "1", "2"), "hub"),
        (DIGITS, "folder"),
        (DIGITS, "hub"),
        (tuple(map(str, range(100))), "hub"),
        (("-1", "1"), "folder"),
    ],
)
def test_numbers_are_asked_about(names: tuple[str, ...], source: str) -> None:
    with pytest.raises(GeneratorError, match=rf"{source}'.*by numbers alone, '.*generator.prompts"):
        check(names, source)
    check(names, source, prompts="names")


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (DIGITS, "fashion-mnist"),
        (DIGITS, "fashion_mnist"),
        (DIGITS, "kuzushiji-mnist"),
        (DIGITS[:8], "blood_mnist_png"),
        (DIGITS, "sign_language_mnist"),
        (DIGITS, "not-digits"),
        (tuple(map(str, range(26))), "mnist"),  # letters, in a file of labels alone
        (tuple(map(str, range(1, 11))), "usps"),  # its ten is a zero
    ],
)
@pytest.mark.parametrize("source", ["folder", "hub"])
def test_a_set_that_is_called_after_one_of_digits_need_not_be_one(
    names: tuple[str, ...], name: str, source: str
) -> None:
    with pytest.raises(GeneratorError, match=rf"{source}'.*by numbers alone, '.*generator.prompts"):
        check(names, source, name)


@pytest.mark.parametrize(
    ("names", "source", "name"),
    [
        (DIGITS, "digits", "digits"),
        (DIGITS, "mnist", "mnist"),
        (DIGITS, "hub", "mnist"),
        (DIGITS, "hub", "svhn_cropped"),
        (DIGITS, "hub", "MNIST"),
        (DIGITS[:3], "folder", "mnist"),
        (DIGITS, "folder", "mnist_png"),
        (DIGITS, "folder", "SVHN (cropped)"),
        (DIGITS, "folder", "opt.digits"),
        (DIGITS, "folder", "emnist-digits"),
        (DIGITS, "site", "site"),  # who lists all ten means them
        (("0", "1", "other"), "folder", "photos"),
    ],
)
def test_digits_are_digits(names: tuple[str, ...], source: str, name: str) -> None:
    check(names, source, name)


def test_two_classes_with_one_prompt_are_refused_by_name() -> None:
    with pytest.raises(GeneratorError, match=r"'cat_1' and 'cat-1' have one prompt, of 'cat 1'"):
        check(("cat_1", "dog", "cat-1"), "folder")
    check(("letter A", "letter a"), "folder")  # encoders that read no case refuse them
    with pytest.raises(GeneratorError, match=r"'a  cat' and 'a cat' have one prompt, of 'a cat'"):
        check(("a  cat", "a cat"), "folder")
    one: tuple[Concept, ...] = (("a cat", "a kitten"), "a kitten")
    with pytest.raises(GeneratorError, match=r"'cat' and 'kit' have one prompt, of 'a kitten'"):
        check(("cat", "kit"), "folder", concepts=one)
    with pytest.raises(GeneratorError, match=r"'number 0' and 'number 1' have one prompt"):
        check_concepts("a/b", ("a crane", "a crane"))
    check(("a", "b"), "folder", concepts=("a cat", ("a dog", "a puppy")))


def test_femnist_has_62_different_prompts() -> None:
    assert len(set(concepts_of(FEMNIST))) == 62
    check(FEMNIST, "hub", "femnist")


def test_the_bundled_generator_looks_at_every_phrasing() -> None:
    check_concepts("bundled", (("the digit one", "a printed one"), "two"))
    with pytest.raises(GeneratorError, match="not 'a cat'"):
        check_concepts("bundled", (("the digit one", "a cat"), "two"))
