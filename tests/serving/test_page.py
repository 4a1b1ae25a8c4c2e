"""The server's page in a real browser: with the mouse, by keyboard alone, and as wide as a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from cuma.serving.engine import Engine
from cuma.serving.service import Limits
from helpers.browser import PHONE, console, overflows, resize
from helpers.served import idle, serving, tiny_answerer

KEY = "a-key-that-is-long-enough"
QUESTION = {"id": "q", "text": "Should it be allowed?", "options": ["Yes", "Perhaps", "No"], "ordinal": True}
POPULATION = {
    "questions": [QUESTION],
    "profile_fields": {"country": ["Peru", "Thailand"], "religion": ["Buddhist", "Catholic"]},
    "profiles": [
        {"group": "Thai Buddhists", "profile": {"country": "Thailand", "religion": "Buddhist"}},
        {"group": "Peruvian Catholics", "profile": {"country": "Peru", "religion": "Catholic"}},
    ],
}


# Boxes whose text is wider than they are, or that end beyond the window.
CUT = """
return [...document.querySelectorAll("body *")].filter((each) => {
  const box = each.getBoundingClientRect();
  if (!each.checkVisibility() || !box.width || each.closest(".hidden, .skip, option")) return false;
  const wide = each.clientWidth > 0 && each.scrollWidth > each.clientWidth + 1;
  return box.left < -1 || box.right > innerWidth + 1 || (wide && each.tagName !== "SELECT");
}).map((each) => each.outerHTML.slice(0, 200));
"""
LONG, SHORT = 300, 12
"""Tokens of a reply."""


def with_card(**options: Any) -> Any:
    answerer = tiny_answerer(**options)
    answerer.source = replace(answerer.source, card=POPULATION, info={"label": "Tiny"})
    return answerer


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Engine]]:
    with serving([with_card()], limits=Limits(max_tokens=LONG, requests_per_minute=0)) as running:
        yield running


@pytest.fixture
def page(browser: Chrome, served: tuple[str, Engine]) -> Chrome:
    browser.get(served[0])
    wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".person"))
    answered(browser)
    assert one(browser, "#preset-question").is_displayed(), "a model of surveys is first asked a survey question"
    let_replies_be(browser, SHORT)
    one(browser, "input[value=chat]").click()
    return browser


def let_replies_be(browser: Chrome, tokens: int) -> None:
    browser.execute_script(f"for (const model of models) model.cuma.max_tokens = {tokens}")


def wait(browser: Chrome, condition: Callable[[], Any]) -> Any:
    return WebDriverWait(browser, 30, poll_frequency=0.05).until(lambda _: condition())


def one(browser: Chrome, selector: str) -> Any:
    return browser.find_element(By.CSS_SELECTOR, selector)


def texts(browser: Chrome, selector: str) -> list[str]:
    return [element.text for element in browser.find_elements(By.CSS_SELECTOR, selector)]


def answered(browser: Chrome) -> None:
    wait(browser, lambda: one(browser, "#status").text == "Done." or one(browser, "#problem").text)
    assert one(browser, "#problem").text == ""


def test_on_opening_two_people_have_answered_a_question(browser: Chrome, served: tuple[str, Engine]) -> None:
    for size in ((1280, 800), (390, 844)):
        resize(browser, size)
        browser.get(served[0])
        wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".person"))
        answered(browser)
        assert len(browser.find_elements(By.CSS_SELECTOR, ".person .answer .bars")) == 2
        assert len(set(texts(browser, ".answer h3"))) == 2
        bars = "return document.querySelector('.answer .share').getBoundingClientRect().bottom"
        assert browser.execute_script(bars) < size[1], "the first answer is on the first screen"
        question, ask = one(browser, "#preset-question").rect, one(browser, "#ask").rect
        assert 0 <= ask["x"] - (question["x"] + question["width"]) < 40
        assert abs(ask["y"] + ask["height"] - question["y"] - question["height"]) < 10
        assert texts(browser, "#words-summary") == [QUESTION["text"]]
        assert browser.execute_script(CUT) == []
        assert not overflows(browser)
    assert console(browser) == []


def test_two_people_from_the_training_data_get_two_answers(page: Chrome) -> None:
    assert texts(page, ".person legend") == ["Person 1", "Person 2"]
    assert one(page, "#country-0").get_attribute("value") == "Thailand"
    assert one(page, "#country-1").get_attribute("value") == "Peru"
    one(page, "#ask").click()
    answered(page)
    headings, said = texts(page, ".answer h3"), texts(page, ".said")
    assert headings == ["Person 1: Buddhist, Thailand", "Person 2: Catholic, Peru"] or headings == [
        "Person 1: Thailand, Buddhist", "Person 2: Peru, Catholic",
    ]  # fmt: skip
    assert len(set(said)) == 2
    assert all(said)
    assert len(page.find_elements(By.CSS_SELECTOR, ".map")) == 2
    assert console(page) == []


def test_a_survey_question_gets_bars_that_are_the_servers_figures(page: Chrome) -> None:
    one(page, "input[value=survey]").click()
    assert one(page, "#question").get_attribute("value") == QUESTION["text"]
    one(page, "#ask").click()
    answered(page)
    shares = [int(text.removesuffix(" %")) for text in texts(page, ".share")]
    assert len(shares) == 6
    assert all(99 <= sum(shares[start : start + 3]) <= 101 for start in (0, 3))
    assert shares[:3] != shares[3:]
    widths = page.execute_script("return [...document.querySelectorAll('.track i')].map((bar) => bar.style.width)")
    assert [round(float(width.removesuffix("%"))) for width in widths] == shares
    cells = page.execute_script("return [...document.querySelectorAll('.map tbody tr')].map((row) => row.cells.length)")
    assert cells == [5, 5, 5, 5]  # two layers for each of two people, four experts
    assert console(page) == []


def test_everything_can_be_done_by_keyboard(page: Chrome) -> None:
    """From the top of the page with Tab, Space and Enter: a third person, their country, the question, the answer."""

    def tab_to(test: Callable[[Any], bool]) -> Any:
        for _ in range(60):
            page.switch_to.active_element.send_keys(Keys.TAB)
            focused = page.switch_to.active_element
            if test(focused):
                outline = focused.value_of_css_property("outline-style")
                assert outline != "none", "one must see where one is"
                return focused
        raise AssertionError("Tab never gets there")

    page.refresh()
    wait(page, lambda: page.find_elements(By.CSS_SELECTOR, ".person"))
    answered(page)
    let_replies_be(page, SHORT)
    one(page, "body").send_keys(Keys.TAB)
    assert page.switch_to.active_element.text == "Skip to the answers"
    tab_to(lambda e: e.get_attribute("name") == "mode").send_keys(Keys.ARROW_RIGHT)
    box = tab_to(lambda e: e.get_attribute("id") == "text")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys("Who should care for the old?")
    tab_to(lambda e: e.get_attribute("id") == "add").send_keys(Keys.SPACE)
    wait(page, lambda: len(page.find_elements(By.CSS_SELECTOR, ".person")) == 3)
    assert not one(page, "#add").is_enabled()
    assert page.switch_to.active_element.tag_name == "select"
    tab_to(lambda e: e.tag_name == "summary").send_keys(Keys.ENTER)
    tab_to(lambda e: e.get_attribute("id") == "country-2").send_keys("Japan", Keys.ENTER)
    answered(page)
    assert texts(page, ".answer h3")[2] == "Person 3: Japan"
    assert one(page, "#status").get_attribute("role") == "status"


def test_every_field_has_a_name_and_no_id_is_used_twice(page: Chrome) -> None:
    one(page, "#add").click()
    page.find_elements(By.CSS_SELECTOR, ".person .remove")[0].click()
    for fold in page.find_elements(By.CSS_SELECTOR, "details:not([hidden]) summary"):
        if fold.is_displayed():
            fold.click()
    one(page, "input[value=survey]").click()
    ids = page.execute_script("return [...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))
    fields = page.find_elements(By.CSS_SELECTOR, "input, select, textarea, button")
    unnamed = [
        field.get_attribute("outerHTML") for field in fields if field.is_displayed() and not field.accessible_name
    ]
    assert unnamed == []
    assert page.execute_script("return document.documentElement.lang") == "en"


def test_it_fits_a_phone(page: Chrome) -> None:
    resize(page, PHONE)
    assert not overflows(page)
    one(page, "input[value=survey]").click()
    one(page, "#ask").click()
    answered(page)
    assert not overflows(page)
    small = page.execute_script(
        "return [...document.querySelectorAll('button, select, input:not([type=radio])')]"
        ".filter((e) => e.offsetParent && e.getBoundingClientRect().height < 40).map((e) => e.outerHTML)"
    )
    assert small == [], "a finger needs some room"


def test_stop_frees_the_slots_and_a_wrong_field_is_told(page: Chrome, served: tuple[str, Engine]) -> None:
    let_replies_be(page, LONG)
    one(page, "#ask").click()
    stop = wait(page, lambda: one(page, "#stop").is_displayed() and one(page, "#stop"))
    stop.click()
    wait(page, lambda: one(page, "#status").text in ("Stopped.", "Done."))
    assert idle(served[1], seconds=10)
    one(page, "input[value=survey]").click()
    one(page, "#words-summary").click()
    one(page, "#options").clear()
    one(page, "#options").send_keys("Only one")
    one(page, "#ask").click()
    assert "options" in wait(page, lambda: one(page, "#problem").text)


def test_what_somebody_writes_stays_text(page: Chrome) -> None:
    Select(one(page, ".person select")).select_by_visible_text("Nobody in particular")
    one(page, ".more summary").click()
    one(page, "#country-0").send_keys("<img src=x onerror=alert(1)>")
    one(page, "#ask").click()
    answered(page)
    assert page.find_elements(By.CSS_SELECTOR, ".answer img") == []
    assert "<img" in texts(page, ".answer h3")[0]


def test_with_keys_the_page_asks_for_one(browser: Chrome) -> None:
    with serving([with_card()], keys=[KEY], limits=Limits(max_tokens=SHORT)) as (url, _):
        browser.get(url)
        box = wait(browser, lambda: one(browser, "#key").is_displayed() and one(browser, "#key"))
        assert "API key" in one(browser, "#problem").text
        box.send_keys(KEY, Keys.TAB)
        wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".person"))
        answered(browser)
        assert KEY not in browser.current_url
        browser.get("about:blank")
