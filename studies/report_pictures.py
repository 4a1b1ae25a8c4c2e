"""Make docs/report-*.png: parts of the report of some runs, as Chromium shows them.

    python studies/report_pictures.py runs/quickstart/wvs/{cuma,persona,anchor-average,anchor-ridge}

Needs Chromium with its driver, and selenium (extra dev). First: cuma evaluate runs/quickstart/wvs/cuma --topology
"""

from __future__ import annotations

import argparse
import base64
import shutil
import tempfile
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.select import Select

from cuma.reports import write_report

DOCS = Path(__file__).parents[1] / "docs"
PARTS = {
    "world": "section[aria-labelledby=h-world]",
    "map": "figure:has(#map)",
    "changes": "section[aria-labelledby=h-changes]",
}
"""Picture → what of the page is on it."""


def main(runs: list[Path]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(runs, Path(folder) / "report.html")
        options = ChromeOptions()
        for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1180,900"):
            options.add_argument(flag)
        browser = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            browser.get(page.as_uri())
            Select(browser.find_element("id", "world-view")).select_by_index(0)
            for name, selector in PARTS.items():
                (DOCS / f"report-{name}.png").write_bytes(_picture(browser, selector))
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
    arguments = parser.parse_args()
    main(arguments.runs)
