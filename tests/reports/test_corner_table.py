"""The four corners on the page: sizes, floors, figures and differences, each under its own heading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cuma.reports import write_report
from cuma.reports.corner_table import corner_listing, corner_payload, corner_rows_of
from cuma.reports.item_table import item_listings
from cuma.runs.evidence import read_evidence
from cuma.runs.folder import read_json, write_json
from helpers.browser import DESKTOP, PHONE, console, overflows, resize
from helpers.corners import EVALUATION, evaluated, shares_of_corners

if TYPE_CHECKING:
    from selenium.webdriver import Chrome


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("runs")
    return [evaluated(home, "cuma", shares_of_corners(0.05)), evaluated(home, "lora", shares_of_corners(0.15))]


def test_the_table_says_sizes_floors_figures_and_differences(runs: list[Path]) -> None:
    listing = corner_listing(read_evidence(runs))
    assert listing is not None
    assert listing.headings == ("", "Seen items · seen groups", "Unseen items · seen groups",
                                "Seen items · unseen groups", "Unseen items · unseen groups")  # fmt: skip
    rows = {row[0]: row[1:] for row in listing.rows}
    assert rows["Items × groups"] == ("8 × 6", "4 × 6", "8 × 4", "4 × 4")
    assert rows["Cells"] == ("48", "24", "32", "16")
    assert rows["People"] == ("1,200", "1,200", "800", "800")
    assert all(0.01 < float(text) < 0.04 for text in rows["Noise floor"])
    assert all(abs(float(text.split()[0]) - 0.06) < 0.005 and "[" in text for text in rows["Cuma"])
    assert all(text.startswith("+0.100 [+0.1") for text in rows["Lora − Cuma"])
    assert all("p <0.001" in text or "p 0." in text for text in rows["Lora − Cuma"])
    assert "other items and other groups might have been drawn" in listing.note


def test_the_picture_has_the_figures_of_the_table(runs: list[Path]) -> None:
    evidence = read_evidence(runs)
    panels, listing = corner_payload(evidence), corner_listing(evidence)
    assert listing is not None
    rows = {row[0]: row[1:] for row in listing.rows}
    for place, panel in enumerate(panels):
        assert [row["text"] for row in panel["rows"]] == [rows[name][place] for name in ("Cuma", "Lora")]
        assert f"{panel['floor']:.3f}" == rows["Noise floor"][place]
    assert panels[2]["title"] == "Seen items · unseen groups"
    assert panels[2]["words"].startswith("A question that was trained on, put to new groups")
    assert panels[2]["size"] == "8 items × 4 groups: 32 cells, 800 people"


def test_the_page_begins_with_it_and_says_nothing_twice(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.index("in the four corners") < text.index("Seen groups: 6 groups, 4 new questions")
    for sentence in ("nothing was trained on of either", "An item is a question", "other groups might have been drawn"):
        assert text.count(sentence) == 1 + (sentence in text.partition('id="data"')[2])  # the picture's own data beside
    for suffix in (".md", ".tex"):
        assert "Unseen items" in page.with_suffix(suffix).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(runs, tmp_path_factory.mktemp("page") / "report.html", draws=30)


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_nothing_of_the_corners_is_cut_off(browser: Chrome, page: Path, size: tuple[int, int]) -> None:
    resize(browser, size)
    browser.get(page.as_uri())
    assert console(browser) == []
    assert not overflows(browser)
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('#corners .chart')].map((chart) => {"
        " const own = chart.getBoundingClientRect();"
        " return [own.left, own.right, own.top, ...[...chart.querySelectorAll('text')].flatMap((text) => {"
        " const box = text.getBoundingClientRect(); return [[box.left, box.right, box.top]]; })]; })"
    )
    assert len(boxes) == 4
    for left, right, top, *texts in boxes:
        assert len(texts) > 4  # names, ticks, the floor
        assert all(left - 1 <= box[0] and box[1] <= right + 1 and top - 1 <= box[2] for box in texts)
    if size == DESKTOP:
        inside = (
            "return [...document.querySelectorAll('#h-corners ~ .scroll')].every((e) => e.scrollWidth <= e.clientWidth)"
        )
        assert browser.execute_script(inside)


def test_a_card_and_a_terminal_have_the_same_figures(runs: list[Path]) -> None:
    scores = read_json(runs[0] / EVALUATION / "scores.json")
    headings, rows = corner_rows_of(scores)
    assert len(headings) == 5
    assert [row[0] for row in rows] == ["Items × groups", "Cells", "People", "Noise floor", "Soft EMD ↓"]
    evidence = corner_listing(read_evidence(runs[:1]))
    assert evidence is not None
    assert rows[-1][1:] == next(row for row in evidence.rows if row[0] == "Cuma")[1:]
    assert corner_rows_of({"seen": {}}) == ((), ())


def test_without_the_number_of_people_there_is_no_floor_and_without_items_no_table(tmp_path: Path) -> None:
    plain = evaluated(tmp_path, "cuma", shares_of_corners(0.05, n=False))
    listing = corner_listing(read_evidence([plain]))
    assert listing is not None
    assert not [row for row in listing.rows if row[0].startswith("Noise")]
    old = evaluated(tmp_path, "old", shares_of_corners(0.05).drop(columns="item_seen"))
    evidence = read_evidence([old])
    assert corner_listing(evidence) is None
    assert item_listings(evidence) == []
    text = write_report([old], tmp_path / "old.html", draws=30).read_text(encoding="utf-8")
    assert "h-corners" not in text
    assert "new questions" not in text


def test_a_corner_of_one_item_or_group_has_no_interval_and_the_page_says_why(tmp_path: Path) -> None:
    rows = shares_of_corners(0.05)
    one = evaluated(tmp_path, "one", rows[rows["item_seen"] | (rows["question_id"] == "q9")])
    listing = corner_listing(read_evidence([one]))
    assert listing is not None
    figures = {row[0]: row[1:] for row in listing.rows}["One"]
    assert ["[" in text for text in figures] == [True, False, True, False]
    assert "with one item or one group there is none" in listing.note


def test_unseen_items_have_their_nearest_and_their_error(tmp_path: Path) -> None:
    rows = shares_of_corners(0.05)
    folder = evaluated(tmp_path, "cuma", rows)
    file = folder / EVALUATION / "scores.json"
    near = {"q8": 0.9, "q9": 0.8, "q10": 0.7, "q11": 0.2}
    items = [{"id": name, "words": {"similarity": s, "nearest": "Question 1?"}} for name, s in near.items()]
    write_json(file, read_json(file) | {"held_out_items": items})
    every, sides = item_listings(read_evidence([folder]))
    assert [row[0] for row in every.rows] == ["Question 8?", "Question 9?", "Question 10?", "Question 11?"]
    assert every.note.startswith("Of 4 unseen items 3 are near to an item of training: a similarity of 0.7 or more")
    own = rows[rows["question_id"] == "q11"]
    gaps = [abs(said[0] - true[0]) for said, true in zip(own["probabilities"], own["shares"], strict=True)]
    assert every.rows[-1][1:] == ("Question 1?", "0.20", f"{np.mean(gaps):.3f}")
    assert sides.headings[1:] == (
        "Near · seen groups",
        "Far · seen groups",
        "Near · unseen groups",
        "Far · unseen groups",
    )
    assert sides.rows[0] == ("Similarity", "0.70 to 0.90", "0.20 to 0.20", "0.70 to 0.90", "0.20 to 0.20")
    assert sides.rows[1] == ("Items × groups", "3 × 6", "1 × 6", "3 × 4", "1 × 4")
