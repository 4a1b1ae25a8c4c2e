"""The small tables: who is served worst, and preferred replies; nobody small is named or given away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cuma.errors import RunError
from cuma.metrics.figures import MISSING
from cuma.reports import write_report
from cuma.reports.side_tables import (
    NOT_SHOWN,
    choice_listings,
    choice_sentences,
    inequality_listing,
    partial_listing,
    reply_listings,
)
from cuma.runs.evidence import read_evidence
from helpers.synthetic import DRAWS, METHODS, Population, population, write_run

RECIPES = {recipe.name: recipe for recipe in METHODS}


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": value + 0.02}


def inequality(group: str, best: str) -> dict[str, Any]:
    gap = {**estimate(0.25), "worst": group, "best": best}
    worst = {"worst_group": {**estimate(0.31), "group": group}, "group_gap": gap}
    return {**worst, "group_inequity": estimate(0.06)}


def choices(sizes: dict[str, int], groups: int, people: int) -> dict[str, Any]:
    """discrimination.json: `sizes` of the groups with an entry, of `groups` groups with `people` people."""
    figures = {name: estimate(0.31) for name in ("accuracy", "macro_f1", "brier", "ece", "option_mass")}
    by_group = {group: {"n": n, "accuracy": estimate(0.4)} for group, n in sizes.items()}
    side = {"n": {"people": people, "choices": 3 * people, "groups": groups}, "chance": 0.25, **figures}
    return {"seen": {**side, "by_group": by_group}, "asked": {"prompting": "persona", "answers": "logits"}}


@pytest.fixture(scope="module")
def world() -> Population:
    """Group 0 has 6 people; group 1, the next smallest, is left out with it."""
    return population(lambda i: (6, 12)[i] if i < 2 else 20)


@pytest.fixture
def run(tmp_path: Path, world: Population) -> Callable[..., Path]:
    def make(name: str = "lora", worst: str | None = None, found: dict[str, Any] | None = None, best: int = 6) -> Path:
        path = write_run(tmp_path, RECIPES[name], world)
        if worst is not None:
            file = next(path.glob("evaluations/*/scores.json"))
            file.write_text(json.dumps({**json.loads(file.read_text()), "seen": inequality(worst, world.groups[best])}))
        if found is not None:
            folder = path / "evaluations" / "community-4567"
            folder.mkdir()
            (folder / "discrimination.json").write_text(json.dumps(found))
            (folder / "discrimination.parquet").touch()
        return path

    return make


def test_the_worst_group_is_named_if_it_may_be(run: Callable[..., Path], world: Population) -> None:
    named, unnamed = run("lora", world.groups[5]), run("cuma", world.groups[1])
    listing = inequality_listing(read_evidence([named, unnamed]))
    assert listing is not None
    assert listing.rows == (
        ("CuMA", "seen", NOT_SHOWN, MISSING, MISSING, "0.060 [0.040, 0.080]"),
        ("LoRA", "seen", world.groups[5], "0.310 [0.290, 0.330]", "0.250 [0.230, 0.270]", "0.060 [0.040, 0.080]"),
    )
    assert inequality_listing(read_evidence([run("semantic")])) is None


def test_the_gap_gives_no_hidden_group_away(run: Callable[..., Path], world: Population) -> None:
    listing = inequality_listing(read_evidence([run("lora", world.groups[5], best=1)]))
    assert listing is not None
    assert listing.rows[0][2:5] == (world.groups[5], "0.310 [0.290, 0.330]", MISSING)


@pytest.mark.parametrize(
    ("sizes", "groups", "people", "shown"),
    [
        ({"France": 40, "India": 12, "Italy": 30}, 3, 82, ["France", "India", "Italy"]),
        ({"France": 40, "India": 12, "Italy": 30}, 4, 90, ["France", "Italy"]),  # one group of 8: India goes with it
        ({"France": 40, "India": 12, "Italy": 30}, 5, 90, ["France", "Italy"]),  # two of 8 together: too few to be told
        ({"France": 40, "India": 12, "Italy": 30}, 6, 100, ["France", "India", "Italy"]),
    ],
)
def test_no_small_group_is_found_by_subtraction(
    run: Callable[..., Path], sizes: dict[str, int], groups: int, people: int, shown: list[str]
) -> None:
    evidence = read_evidence([run(found=choices(sizes, groups, people))])
    overall, by_group = choice_listings(evidence)
    assert [row[0] for row in by_group.rows] == shown
    assert overall.rows[0][:5] == ("LoRA", "seen", "who asks", "0.31 [0.29, 0.33]", "0.25")
    (sentence,) = choice_sentences(evidence)
    assert sentence.endswith("31.0 % of cases (95 % interval 29.0 % to 33.0 %): more than the 25.0 % of guessing.")


def test_preferred_replies_of_two_benchmarks_are_not_mixed(run: Callable[..., Path]) -> None:
    found = choices({"France": 40}, 1, 40)
    one, other = run("lora", found=found), run("cuma", found=found)
    assert read_evidence([one, other]).methods[0].choices
    folder = other / "evaluations" / "community-4567"
    folder.rename(folder.with_name("theirs-4567"))
    with pytest.raises(RunError, match="community and theirs"):
        read_evidence([one, other])


def test_a_side_of_few_people_is_not_shown(run: Callable[..., Path]) -> None:
    evidence = read_evidence([run(found=choices({}, 1, 10))])
    assert choice_listings(evidence) == []
    assert choice_sentences(evidence) == []


def test_both_stand_on_the_page_and_in_the_tables_for_a_paper(
    run: Callable[..., Path], world: Population, tmp_path: Path
) -> None:
    path = run("lora", world.groups[5], choices({"France": 40}, 1, 40))
    page = write_report([path, run("cuma")], tmp_path / "report.html", draws=DRAWS).read_text(encoding="utf-8")
    markdown, latex = ((tmp_path / f"report{end}").read_text(encoding="utf-8") for end in (".md", ".tex"))
    for text in (page, markdown, latex):
        assert "Who is served worst" in text
        assert "Preferred replies (community)" in text
    assert "Small samples inflate all three" in page
    assert f"| LoRA | seen | {world.groups[5]} | 0.310 [0.290, 0.330] |" in markdown
    assert r"\label{tab:gss-worst}" in latex
    assert "σ" not in latex
    assert '<a href="#h-choices">Replies</a>' in page


def replied(run: Path, people: int | None = None) -> Path:
    """The run with replies to prompts of prism, judged if it is said of how many people they are."""
    folder = run / "evaluations" / "prism-89ab"
    folder.mkdir()
    figures = {name: estimate(value) for name, value in (("distinct_1", 0.4), ("distinct_2", 0.8), ("self_bleu", 0.2))}
    (folder / "replies.json").write_text(json.dumps({**figures, "budget": 500, "blocks": 12, "texts": 200}))
    if people is not None:
        n = {"pairs": 190, "judged": 188, "people": people}
        rates = {"win_rate": estimate(0.6), "length_controlled_win_rate": estimate(0.55), "p": 0.01, "n": n}
        judged = {**rates, "position_consistency": 0.9, "judge": "a-judge", "against": "what people preferred"}
        (folder / "win_rate.json").write_text(json.dumps(judged))
    return run


def test_what_a_run_writes_and_how_it_is_judged_is_reported(run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [replied(run("lora"), people=40), replied(run("cuma"), people=10), run("semantic")]
    varied, wins = reply_listings(read_evidence(runs))
    figures = ("0.400 [0.380, 0.420]", "0.800 [0.780, 0.820]", "0.200 [0.180, 0.220]")
    assert varied.rows == tuple((label, "prism", "200", "12 × 500", *figures) for label in ("CuMA", "LoRA"))
    assert wins.rows == (
        (
            "LoRA", "prism", "what people preferred", "a-judge", "0.600 [0.580, 0.620]", "0.550 [0.530, 0.570]",
            "0.010", "90.0 %", "188", "40",
        ),
    )  # fmt: skip
    page = write_report(runs, tmp_path / "report.html", draws=0).read_text(encoding="utf-8")
    for text in (page, *((tmp_path / f"report{end}").read_text(encoding="utf-8") for end in (".md", ".tex"))):
        assert "How varied replies are" in text
        assert "Whose reply a judge prefers" in text
    assert '<a href="#h-replies">Written replies</a>' in page
    assert reply_listings(read_evidence(runs[2:])) == []


def test_runs_with_nothing_but_replies_have_a_page(run: Callable[..., Path], tmp_path: Path) -> None:
    path = replied(run(), people=40)
    for file in path.glob("evaluations/gss-*/*"):
        file.unlink()
    page = write_report([path], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>How varied each method’s replies are</h1>" in page
    assert "benchmark <b>prism</b>" in page
    with pytest.raises(RunError, match="but on prism"):
        read_evidence([path], benchmark="gss")


def test_parts_of_profiles_are_reported(run: Callable[..., Path], tmp_path: Path) -> None:
    path = run("cuma")
    measured = {"shares": [0.0, 0.25], "seen": [estimate(0.2), estimate(0.15)], "unseen": [estimate(0.3)] * 2}
    file = next(path.glob("evaluations/*/scores.json")).with_name("partial.json")
    file.write_text(json.dumps(measured))
    listing = partial_listing(read_evidence([path, run("lora")]))
    assert listing is not None
    assert listing.headings == ("Method", "Groups", "0 %", "25 %")
    assert listing.rows[0] == ("CuMA", "seen", "0.200 [0.180, 0.220]", "0.150 [0.130, 0.170]")
    assert len(listing.rows) == 2
    page = write_report([path], tmp_path / "report.html", draws=0).read_text(encoding="utf-8")
    for text in (page, *((tmp_path / f"report{end}").read_text(encoding="utf-8") for end in (".md", ".tex"))):
        assert "by the share of each profile that is known" in text
    few = write_run(tmp_path / "few", RECIPES["cuma"], population(lambda i: 5 if i == 50 else 0 if i > 50 else 20))
    next(few.glob("evaluations/*/scores.json")).with_name("partial.json").write_text(json.dumps(measured))
    listing = partial_listing(read_evidence([few]))
    assert listing is not None
    assert [row[1] for row in listing.rows] == ["seen"]
