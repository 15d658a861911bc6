"""The report in a real browser: every figure visible, nothing cut off, no request, no error."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regl_app.runs.report.build import build_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RunMaker = Callable[..., Path]

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SIZES = {"desktop": (1280, 900), "phone": (390, 844)}

# Parts of figures that are hidden or have hardly any size.
_INVISIBLE = """() => [...document.querySelectorAll('figure, figure svg, figure h3, figcaption')]
  .filter((node) => {
    const box = node.getBoundingClientRect();
    return Math.min(box.width, box.height) < 10 || !node.checkVisibility();
  })
  .map((node) => node.tagName + ' in ' + node.closest('figure').id)"""

# What sticks out of the window and does not lie in a box of its own that scrolls.
_CUT_OFF = """() => {
  const inside = (node) => node.closest('.scroll, nav .frame');
  return [...document.querySelectorAll('main *')]
    .filter((node) => !inside(node) && node.getClientRects().length)
    .filter((node) => {
      const box = node.getBoundingClientRect();
      return box.right > innerWidth + 1 || box.left < -1;
    })
    .map((node) => node.tagName + '.' + (node.getAttribute('class') || '') + ' '
      + node.textContent.slice(0, 40));
}"""

# SVG text that leaves its picture's viewBox (pictures show overflow, so a little is harmless).
_ESCAPED_TEXT = """() => [...document.querySelectorAll('figure svg')].flatMap((svg) => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.width && (box.right > frame.right + 6 || box.left < frame.left - 6
      || box.top < frame.top - 6 || box.bottom > frame.bottom + 6);
  }).map((text) => svg.getAttribute('aria-label') + ': ' + text.textContent);
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a headless Chromium, or skip where there is none."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("NOT CHECKED: no chromium on the PATH, the report was not looked at")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def reports(make_run: RunMaker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return reports of a full run and of several runs."""
    folder = tmp_path_factory.mktemp("reports")
    full = make_run(folder, method="regl-dpd")
    plain = make_run(folder, method="fedavg", rounds=3, bare=True)
    other = make_run(folder, method="regl", rounds=3)
    again = make_run(folder, method="regl", seed=1, rounds=3, bare=True)
    chosen = {"full": [full], "several": [plain, other, again]}
    return {name: build_report(runs, folder / f"{name}.html") for name, runs in chosen.items()}


@pytest.fixture(params=_SIZES)
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """Return a page of one size that fails the test on any request or script error."""
    width, height = _SIZES[request.param]
    opened = browser.new_page(viewport={"width": width, "height": height})
    troubles: list[str] = []
    opened.on("console", lambda message: troubles.append(f"console: {message.text}"))
    opened.on("pageerror", lambda error: troubles.append(f"script: {error}"))
    opened.on(
        "request",
        lambda asked: (
            None if asked.url.startswith(("file:", "data:")) else troubles.append(asked.url)
        ),
    )
    yield opened
    opened.close()
    assert troubles == []


@pytest.mark.parametrize("name", ["full", "several"])
def test_every_figure_is_visible_and_nothing_is_cut_off(
    name: str, page: Page, reports: dict[str, Path]
) -> None:
    page.goto(reports[name].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.locator("figure").count() >= 10
    assert page.evaluate(_INVISIBLE) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(_CUT_OFF) == []
    assert page.evaluate(_ESCAPED_TEXT) == []


def test_text_stays_readable(page: Page, reports: dict[str, Path]) -> None:
    page.goto(reports["full"].as_uri())
    smallest = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll('figure svg text')].map((text) =>
          parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))"""
    )
    # Labels turned by an angle have a smaller scale along x, so this is a lower bound.
    upright = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll('figure svg text:not([transform])')].map(
          (text) => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))"""
    )
    assert smallest <= upright
    assert upright >= 8


def test_the_theme_switch_turns_the_page_dark(page: Page, reports: dict[str, Path]) -> None:
    page.goto(reports["full"].as_uri())
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.click("nav button")
    assert page.evaluate(colour) != light
    page.click("nav button")
    assert page.evaluate(colour) == light


def test_hovering_explains_a_cell(page: Page, reports: dict[str, Path]) -> None:
    page.goto(reports["full"].as_uri())
    page.hover("#partition svg rect[data-tip]")
    assert page.inner_text("#tip").startswith("client 0, class 0: ")
    assert "shown" in (page.get_attribute("#tip", "class") or "")


def test_the_page_works_without_scripts(browser: Browser, reports: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(reports["full"].as_uri())
        assert page.locator("figure svg").first.is_visible()
        assert page.locator("nav button").is_hidden()
        assert page.locator("#partition svg title").count() > 50
    finally:
        context.close()


def test_print_is_light_even_from_a_dark_page(page: Page, reports: dict[str, Path]) -> None:
    page.goto(reports["full"].as_uri())
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(25, 28, 36)"
    assert page.locator("nav").is_hidden()
