"""The four corners on the page: sizes, floors, figures and differences, each under its own heading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cuma.evaluation.evaluation_files import all_scores, write_answers
from cuma.metrics.items import Item
from cuma.reports import write_report
from cuma.reports.corner_table import corner_listing, corner_rows_of
from cuma.runs.evidence import read_evidence
from cuma.runs.folder import read_json
from helpers.folders import run_folder

QUESTIONS = tuple(Item(f"q{n}", f"Question {n}?", ("Yes", "No"), False) for n in range(12))


def table(error: float, n: bool = True) -> pd.DataFrame:
    """Twelve items, of which eight are seen, and ten groups, of which six are; predictions are off by about `error`."""
    rng = np.random.default_rng(0)
    rows = []
    for item in range(12):
        for group in range(10):
            yes, off = rng.uniform(0.3, 0.7), error + 0.02 * rng.uniform()
            cell = {"group": f"group {group}", "seen": group < 6, "item_seen": item < 8, "question_id": f"q{item}"}
            cell |= {"shares": [yes, 1 - yes], "probabilities": [yes - off, 1 - yes + off], "option_mass": 0.9}
            rows.append({**cell, **({"n": 200} if n else {})})
    return pd.DataFrame(rows)


def run(home: Path, name: str, predictions: pd.DataFrame) -> Path:
    folder = run_folder(home / name, status="evaluated", name=name, label=name.title(), description="", digest="0" * 12)
    scores = all_scores(predictions, "made", QUESTIONS, False, {"prompting": "none", "answers": "logits"})
    seen = dict(zip(predictions["group"], predictions["seen"], strict=True))
    write_answers(folder / "evaluations" / "made-000000000000", predictions, scores, None, seen)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("runs")
    return [run(home, "cuma", table(0.05)), run(home, "lora", table(0.15))]


def test_the_table_says_sizes_floors_figures_and_differences(runs: list[Path]) -> None:
    listing = corner_listing(read_evidence(runs))
    assert listing is not None
    assert listing.headings == ("", "Seen items · seen groups", "Unseen items · seen groups",
                                "Seen items · unseen groups", "Unseen items · unseen groups")  # fmt: skip
    rows = {row[0]: row[1:] for row in listing.rows}
    assert rows["Cells"] == (
        "48: 8 items, 6 groups, 1,200 people", "24: 4 items, 6 groups, 1,200 people",
        "32: 8 items, 4 groups, 800 people", "16: 4 items, 4 groups, 800 people",
    )  # fmt: skip
    assert all(0.01 < float(text) < 0.04 for text in rows["Noise floor: a perfect model"])
    assert all(abs(float(text.split()[0]) - 0.06) < 0.005 and "[" in text for text in rows["Cuma"])
    assert all(text.startswith("+0.100 [+0.1") for text in rows["Lora − Cuma"])
    assert all("p <0.001" in text or "p 0." in text for text in rows["Lora − Cuma"])
    assert "Seen items · unseen groups: A question that was trained on, put to new groups" in listing.note
    assert "other items and other groups might have been drawn" in listing.note


def test_the_page_begins_with_it_and_keeps_its_own_tables(runs: list[Path], tmp_path: Path) -> None:
    page = write_report(runs, tmp_path / "report.html", draws=30).read_text(encoding="utf-8")
    assert page.index("by what was new") < page.index("Seen groups: 6 groups, 4 new questions")
    for suffix in (".md", ".tex"):
        assert "Unseen items" in (tmp_path / f"report{suffix}").read_text(encoding="utf-8")


def test_a_card_and_a_terminal_have_the_same_figures(runs: list[Path]) -> None:
    scores = read_json(runs[0] / "evaluations" / "made-000000000000" / "scores.json")
    headings, rows = corner_rows_of(scores)
    assert len(headings) == 5
    assert [row[0] for row in rows] == ["Cells", "Noise floor: a perfect model", "Soft EMD ↓"]
    evidence = corner_listing(read_evidence(runs[:1]))
    assert evidence is not None
    assert rows[2][1:] == next(row for row in evidence.rows if row[0] == "Cuma")[1:]
    assert corner_rows_of({"seen": {}}) == ((), ())


def test_without_the_number_of_people_there_is_no_floor_and_without_items_no_table(tmp_path: Path) -> None:
    plain = run(tmp_path, "cuma", table(0.05, n=False))
    listing = corner_listing(read_evidence([plain]))
    assert listing is not None
    assert not [row for row in listing.rows if row[0].startswith("Noise")]
    old = run(tmp_path, "old", table(0.05).drop(columns="item_seen"))
    assert corner_listing(read_evidence([old])) is None
