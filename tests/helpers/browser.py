"""A real browser for the tests of pages: Chromium without a window, driven by selenium.

A test asks for the fixture `browser`; it then carries the marker of that name (see `make test`). One browser serves all
tests of a process, each on a fresh page.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1280, 900), (375, 812)
"""Width and height in CSS pixels."""
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a page that asks elsewhere for something fails
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.fixture(scope="session")
def started_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Chromium, started once."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.fail("There is no Chromium with its driver here. Debian: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = binary
    root = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []  # Chromium refuses its sandbox to root
    for flag in (*FLAGS, *root, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    try:
        chrome.set_page_load_timeout(30)
        chrome.set_script_timeout(30)
        yield chrome
    finally:
        chrome.quit()


@pytest.fixture
def browser(started_browser: Chrome) -> Iterator[Chrome]:
    """An empty page at desktop width, with an empty console."""
    started_browser.get("about:blank")
    resize(started_browser, DESKTOP)
    console(started_browser)
    yield started_browser
    started_browser.get("about:blank")  # what the page had open is closed before its server goes


def resize(browser: Chrome, size: tuple[int, int], scale: float = 1) -> None:
    """Give the page this size in CSS pixels; a window cannot be narrower than 500. Touch goes with a phone's width."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def console(browser: Chrome) -> list[str]:
    """Warnings and errors on the console since the last call: refused loads and exceptions of scripts among them."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def overflows(browser: Chrome) -> bool:
    """True if the page is wider than its window, so that one would have to scroll sideways."""
    return bool(browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth"))


def screenshot(browser: Chrome, path: Path, *, whole: bool = True) -> None:
    """Write a PNG of the page, the whole of it or the window's part."""
    import base64

    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
    path.write_bytes(base64.b64decode(shot["data"]))
