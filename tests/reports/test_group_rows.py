"""All groups that may be shown are in the table, with the intervals of scores.json, and no other figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cuma.metrics.breakdown import break_down
from cuma.metrics.figures import estimate_text
from cuma.reports.group_rows import group_listing
from cuma.reports.render import write_report
from cuma.runs.evidence import read_evidence
from helpers.synthetic import METHODS, QUESTIONS, population, write_run

SMALL = 3
"""A group of 7 people."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    world = population(lambda i: 7 if i == SMALL else 20 + i if i < 8 or 50 <= i < 53 else 0)
    folder = tmp_path_factory.mktemp("groups")
    made = [write_run(folder, recipe, world) for recipe in METHODS if recipe.name in ("cuma", "anchor-average")]
    for run in made:
        file = next(run.glob("evaluations/*/scores.json"))
        evidence = read_evidence([run])
        parts = break_down(evidence.methods[0].predictions, QUESTIONS, draws=60)
        file.write_text(json.dumps(json.loads(file.read_text()) | {"by_group": parts["by_group"]}))
    return made


def test_every_group_that_may_be_shown_has_its_figure_and_interval(runs: list[Path]) -> None:
    evidence = read_evidence(runs)
    listing = group_listing(evidence)
    assert listing is not None
    labels = [method.label for method in evidence.methods]
    assert listing.headings == ("Group", "Groups", "People", "Noise floor", *labels)
    tested = evidence.people.groupby("group")["person"].nunique()
    shown = {row[0] for row in listing.rows}
    assert min(tested[sorted(shown)]) >= 11
    assert len(set(tested.index) - shown) == 2  # the small one, and one more so that it cannot be found by subtraction
    assert [row[1] for row in listing.rows] == sorted(row[1] for row in listing.rows)
    for group, side, people, floor, cuma, average in listing.rows:
        entry = evidence.methods[0].by_group[side][group]
        assert people == str(tested[group])
        assert floor == f"{entry['noise_floor']['value']:.3f}"
        assert cuma == estimate_text(entry["soft_emd"])
        assert "[" in cuma
        assert "[" in average
    page = write_report(runs, runs[0].parent / "report.html", draws=0).read_text(encoding="utf-8")
    assert f"{len(listing.rows)} groups, and how far" in page
    assert "2 more are left out: fewer than 11 people" in page


def test_of_a_group_with_a_hidden_cell_only_the_shown_cells_are_told(runs: list[Path]) -> None:
    evidence = read_evidence(runs)
    listing = group_listing(evidence)
    assert listing is not None
    group = listing.rows[0][0]
    rows = evidence.people[(evidence.people["group"] == group) & (evidence.people["question_id"] == QUESTIONS[0]["id"])]
    object.__setattr__(evidence, "people", evidence.people.drop(rows.index[5:]))  # five people answered it
    fewer = group_listing(evidence)
    assert fewer is not None
    row = next(row for row in fewer.rows if row[0] == group)
    assert "[" not in "".join(row[3:])
    assert "Without brackets" in fewer.note


def test_without_scores_by_group_there_are_figures_without_intervals(tmp_path: Path) -> None:
    run = write_run(tmp_path, METHODS[1], population(lambda i: 20 if i < 3 or i == 50 else 0))
    listing = group_listing(read_evidence([run]))
    assert listing is not None
    assert len(listing.rows) == 4
    assert all("[" not in row[-1] and row[-1] != "–" for row in listing.rows)
