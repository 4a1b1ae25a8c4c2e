"""The page in a real browser: no error, every picker works, a phone and paper are wide enough."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from selenium.webdriver.support.ui import WebDriverWait

from helpers.browser import DESKTOP, PHONE, console, overflows, resize

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

SHOWN = "[...document.querySelectorAll('.chart')].filter((chart) => chart.clientWidth)"
SETTLED = f"return {SHOWN}.every((chart) => chart.querySelector('.main-svg'))"
OPEN_ALL = "for (const fold of document.querySelectorAll('details')) fold.open = true"
# What ends beyond the window, but what a box scrolls; and boxes that, scrolled to the end, do not show their last cell.
CUT = """
const cut = [...document.body.querySelectorAll("*")].filter((each) => {
  const box = each.getBoundingClientRect();
  if (!box.width || each.closest(".scroll table, svg, script, option")) return false;
  return box.left < -1 || box.right > innerWidth + 1;
});
for (const box of document.querySelectorAll(".scroll")) {
  box.scrollLeft = box.scrollWidth;
  const last = box.querySelector("tr").lastElementChild;
  if (last.getBoundingClientRect().right > box.getBoundingClientRect().right + 1) cut.push(last);
}
for (const table of document.querySelectorAll("table"))
  if (!table.closest(".scroll") && table.scrollWidth > table.parentElement.clientWidth) cut.push(table);
return cut.map((each) => each.outerHTML.slice(0, 200));
"""
# What a reader sees of a section: texts, bars' widths and colours, and the charts' own data.
LOOK = """
const seen = [];
for (const element of arguments[0].querySelectorAll("*")) {
  if (element.closest(".main-svg") || element.tagName === "OPTION") continue;
  if (element.classList.contains("chart"))
    seen.push(JSON.stringify(element.data, (key, value) => key === "geojson" ? 0 : value));
  else if (element.tagName !== "SELECT" && !element.children.length)
    seen.push(element.textContent + element.style.cssText);
}
return seen.join("|");
"""


@pytest.fixture
def opened(browser: Chrome, world_page: Path) -> Chrome:
    browser.get(world_page.as_uri())
    assert browser.execute_script(SETTLED)
    return browser


def test_the_page_of_four_runs_opens_without_an_error(opened: Chrome) -> None:
    assert console(opened) == []
    names = opened.execute_script("return [...document.querySelectorAll('nav a')].map((a) => a.hash.slice(1))")
    assert names == [f"h-{name}" for name in (
        "collapse", "table", "world", "groups", "answers", "topology", "changes", "health", "gradients", "curves", "how"
    )]  # fmt: skip
    assert opened.execute_script("return arguments[0].every((id) => document.getElementById(id))", names)
    asked = opened.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in asked if not name.startswith(("data:", "blob:"))] == []


def pickers(page: Chrome) -> list[str]:
    return page.execute_script("return [...document.querySelectorAll('select')].map((select) => select.id)")


def choose(page: Chrome, picker: str, number: int) -> None:
    from selenium.webdriver.support.select import Select

    Select(page.find_element("id", picker)).select_by_index(number)


def test_every_picker_changes_what_its_part_shows(opened: Chrome) -> None:
    expected = {
        "collapse-question", "world-view", "world-choice", "answers-group", "answers-question", "topology-method",
        "topology-space", "topology-question", "topology-layer", "topology-mark", "neighbours-group", "changes-group",
        "changes-field", "changes-question", "gradients-part",
    }  # fmt: skip
    assert set(pickers(opened)) == expected
    choose(opened, "world-view", 4)  # a routing view, which has a second picker
    unchanged = []
    assert not opened.find_element("id", "topology-mark-label").is_displayed()  # countries' labels have no parts
    for picker in sorted(expected - {"topology-mark"}, reverse=True):
        section = opened.find_element("xpath", f"//select[@id='{picker}']/ancestor::*[self::section or self::header]")
        count = opened.execute_script("return document.getElementById(arguments[0]).options.length", picker)
        assert count > 1, picker
        looks = []
        for number in range(min(count, 4)):
            choose(opened, picker, number)
            looks.append(opened.execute_script(LOOK, section))
        if len(set(looks)) < len(looks):
            unchanged.append(picker)
        choose(opened, picker, 4 if picker == "world-view" else 0)
    assert unchanged == []
    assert console(opened) == []


def test_groups_with_a_part_of_their_label_in_common_can_be_marked(browser: Chrome, page: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    browser.get(file.as_uri())
    section = browser.find_element("xpath", "//select[@id='topology-mark']/ancestor::section")
    assert browser.find_element("id", "topology-mark-label").is_displayed()
    looks = []
    for number in range(4):
        choose(browser, "topology-mark", number)
        looks.append(browser.execute_script(LOOK, section))
    assert len(set(looks)) == 4
    assert console(browser) == []


def test_the_other_mixture_has_no_measurements_and_says_nothing_of_them(opened: Chrome) -> None:
    learned = opened.find_element("id", "learned")
    assert learned.is_displayed()
    choose(opened, "topology-method", 1)
    assert not learned.is_displayed()
    choose(opened, "topology-method", 0)
    assert learned.is_displayed()
    assert console(opened) == []


def test_the_map_shows_each_country_once_and_outlines_come_from_the_page(opened: Chrome) -> None:
    places = opened.execute_script(
        "const [, on, small] = document.getElementById('world').data; return [on.locations.length, small.lon.length]"
    )
    assert places == [18, 2]
    drawn = opened.execute_script("return document.querySelectorAll('#world .choroplethlayer path').length")
    assert drawn > 150
    caption = opened.find_element("id", "world-caption").text
    assert "Closest to their people" in caption


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 640)])
def test_nothing_is_cut_at_any_width(opened: Chrome, size: tuple[int, int]) -> None:
    resize(opened, size)
    opened.execute_script(OPEN_ALL)
    opened.execute_script("window.dispatchEvent(new Event('resize'))")
    assert opened.execute_script(CUT) == []
    assert not overflows(opened)
    told = ".every((box) => (box.scrollWidth > box.clientWidth) === ('wide' in box.dataset))"
    all_told = f"return [...document.querySelectorAll('.scroll')]{told}"
    WebDriverWait(opened, 10).until(lambda page: page.execute_script(all_told))


@pytest.mark.parametrize(("size", "clouds"), [((1280, 800), 3), ((390, 844), 2)])
def test_the_first_screen_is_headline_and_clouds(opened: Chrome, size: tuple[int, int], clouds: int) -> None:
    """On a phone the third cloud is half a thumb below."""
    resize(opened, size)
    opened.refresh()
    ends = opened.execute_script(f"return {SHOWN}.slice(0, 3).map((chart) => chart.getBoundingClientRect().bottom)")
    assert sum(end <= size[1] for end in ends) >= clouds
    assert opened.execute_script("return document.querySelector('h1').getBoundingClientRect().bottom") < 0.45 * size[1]
    assert not opened.find_element("css selector", ".verdict").is_displayed()
    assert opened.find_element("css selector", ".verdict").find_elements("tag name", "p")


def test_clouds_in_a_fold_are_there_when_it_is_opened(browser: Chrome, page: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    browser.get(file.as_uri())
    folded = browser.find_elements("css selector", ".first details .chart")
    assert folded
    assert not any(chart.is_displayed() for chart in folded)
    browser.find_element("css selector", ".first > details > summary").click()
    WebDriverWait(browser, 10).until(lambda _: all(chart.is_displayed() for chart in folded))
    assert browser.execute_script(SETTLED)


def test_every_figure_is_saved_as_svg_and_png(opened: Chrome, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    opened.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(saved)})
    opened.execute_script(OPEN_ALL)
    WebDriverWait(opened, 10).until(lambda page: page.execute_script(SETTLED))
    charts = opened.execute_script(f"return {SHOWN}.length")
    buttons = opened.find_elements("css selector", ".save button")
    assert len(buttons) == 2 * (charts + 1)  # and the bars of answers, which are no chart
    assert all(button.is_displayed() for button in buttons)
    pictures = lambda: [file for file in saved.glob("*") if file.suffix in (".svg", ".png")]  # noqa: E731
    for done, button in enumerate(buttons, 1):
        opened.execute_script("arguments[0].click()", button)
        WebDriverWait(opened, 60, ignored_exceptions=[OSError]).until(lambda _, done=done: len(pictures()) == done)
    for file in saved.glob("*.svg"):
        text = file.read_text(encoding="utf-8")
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "gtitle" in text, "a picture alone says what it shows"
        assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert any("CuMA" in file.name for file in saved.glob("*"))
    groups = opened.execute_script("return [...document.querySelector('#answers-group').options].map((o) => o.text)")
    slugs = [re.sub(r"[^A-Za-z0-9]+", "-", group).strip("-") for group in groups]
    assert not [file.name for file in saved.glob("*") if any(slug in file.name for slug in slugs)], "who it is of"
    assert console(opened) == []


def test_names_on_the_map_do_not_overlap(opened: Chrome) -> None:
    boxes = opened.execute_script(
        "return [...document.querySelectorAll('#map .textpoint text')].filter((text) => text.textContent)"
        ".map((text) => text.getBoundingClientRect()).map((box) => [box.left, box.top, box.right, box.bottom])"
    )
    assert len(boxes) > 5
    meet = [(a, b) for a, b in combinations(boxes, 2) if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]
    assert meet == []


def test_paper_has_all_charts_and_no_error(opened: Chrome) -> None:
    paper = opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(paper["data"]) > 100_000
    assert console(opened) == []


def test_without_scripts_the_sentences_and_tables_are_there(browser: Chrome, world_page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(world_page.as_uri())
        text = browser.find_element("tag name", "body").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    for words in (
        "Seen groups: 16 groups",
        "Unseen groups: 4 groups",
        "Soft EMD ↓ of every group",
        "Method card",
        "Data card",
        "The charts need JavaScript",
    ):
        assert words in text
