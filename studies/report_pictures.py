"""Make the pictures of pages in docs/, as Chromium shows them.

    python studies/report_pictures.py runs/quickstart/wvs/{cuma,persona,anchor-average,anchor-ridge}
    python studies/report_pictures.py --first runs/quickstart/gss/*

The first makes report-*.png, parts of the report of some runs (before: cuma evaluate runs/quickstart/wvs/cuma
--topology). The second makes first-report*.png and serving*.png, the first screens of the report of some runs and of
the server of the first run, at 1,280 and 390 pixels. Needs Chromium with its driver, and selenium (extra dev).
"""

from __future__ import annotations

import argparse
import base64
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.ui import WebDriverWait

from cuma.reports import write_report

DOCS = Path(__file__).parents[1] / "docs"
PARTS = {
    "world": "section[aria-labelledby=h-world]",
    "map": "figure:has(#map)",
    "changes": "section[aria-labelledby=h-changes]",
}
"""Picture → what of the page is on it."""


SCREENS = {"": (1280, 800), "-phone": (390, 844)}
"""End of a picture's name → the window in CSS pixels."""
ADDRESS, PORT = "http://127.0.0.1:8765", "8765"


def parts(runs: list[Path]) -> None:
    """Pictures of parts of the report."""
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        browser.get(write_report(runs, Path(folder) / "report.html").as_uri())
        Select(browser.find_element("id", "world-view")).select_by_index(0)
        for name, selector in PARTS.items():
            (DOCS / f"report-{name}.png").write_bytes(_picture(browser, selector))


def first_screens(runs: list[Path]) -> None:
    """What a reader of the report, and a visitor of the server, see without scrolling."""
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        _screens(browser, write_report(runs, Path(folder) / "report.html").as_uri(), "first-report", ".chart .main-svg")
        server = subprocess.Popen(
            [sys.executable, "-m", "cuma", "serve", str(runs[0]), "--port", PORT], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            server.stdout.readline()  # it says when it serves
            _screens(browser, ADDRESS, "serving", ".person + .person .share")
        finally:
            server.terminate()
            server.wait()


def _screens(browser: Chrome, address: str, name: str, there: str) -> None:
    """One picture for each width, once something that matches `there` is on the page."""
    for end, (width, height) in SCREENS.items():
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(address)
        WebDriverWait(browser, 120).until(lambda page: page.find_elements("css selector", there))
        shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        (DOCS / f"{name}{end}.png").write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium() -> Iterator[Chrome]:
    """A headless browser."""
    options = ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1180,900"):
        options.add_argument(flag)
    browser = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()


def _picture(browser: Chrome, selector: str) -> bytes:
    place = browser.execute_script(
        "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return {x: box.left - 20, y: box.top + scrollY, width: box.width + 40, height: box.height, scale: 1}",
        selector,
    )
    wanted = {"format": "png", "captureBeyondViewport": True, "clip": place}
    return base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", wanted)["data"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--first", action="store_true", help="The first screens of the report and of the server.")
    arguments = parser.parse_args()
    (first_screens if arguments.first else parts)(arguments.runs)
