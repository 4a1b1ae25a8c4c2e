"""SubPOP's rows: lists as lists or as text, the refused option, NaN; what cannot be used is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cuma.data.builders.base import Built, Options
from cuma.data.builders.subpop import build
from cuma.errors import BenchmarkError
from helpers.make_pew import SCALE, SUBPOP_GROUPS, subpop_rows, write_subpop


def rows_of(built: Built) -> dict[tuple[str, str], dict[str, Any]]:
    rows = [row for part in built.tasks["distribution"].values() for row in part]
    return {(row["question_id"], row["group"]): row for row in rows}


@pytest.mark.parametrize("name", ["subpop.jsonl", "subpop.csv"])
def test_every_row_becomes_a_cell_whether_lists_are_lists_or_text(tmp_path: Path, name: str) -> None:
    source = subpop_rows()
    built = build(write_subpop(tmp_path / name, source), Options(holdout_share=0.2))
    rows = rows_of(built)
    assert len(rows) == len(source) == built.ledger.rows_kept
    one = source[7]
    found = rows[one["qkey"], f"{one['attribute']}: {one['group']}"]
    assert found["options"] == one["options"][:-1]
    assert found["distribution"] == pytest.approx(one["responses"])
    assert found["ordinal"]  # all places 1.0 say nothing: "very worried" to "not at all worried" is a known scale
    assert found["source"] == "W81"
    assert not built.ledger.dropped
    assert set(built.tasks) == {"distribution"}
    assert len({group for _, group in rows}) == len(SUBPOP_GROUPS)


def test_pitfalls_are_counted_under_their_names(tmp_path: Path) -> None:
    good = subpop_rows(8)
    first = good[0]
    odd: list[dict[str, Any]] = [
        {**first, "group": "Both", "responses": [float("nan"), 1.0]},
        {**first, "group": "None", "responses": "[nope]"},
        {**first, "group": "Short", "responses": [1.0]},
        {**first, "group": "Half", "responses": [0.3, 0.2]},
        {**first, "group": "Nobody", "options": ["A good thing", "Refused"], "responses": [1.0]},
        {**first, "group": "Words", "question": "Something else?"},
        {**first, "attribute": "['SEX', 'RACE']", "group": "['Male']"},
        {**first, "group": "Refused"},
        {**first, "question": ""},
        first,
    ]
    kept = [
        {**first, "attribute": "['SEX', 'RACE']", "group": "['Male', 'Black']", "responses": [0.5, 0.5]},
        {**first, "attribute": "EYES", "group": "Green", "responses": [0.2, 0.3, 0.5]},
        {**good[6], "attribute": "AGE", "group": "65+", "ordinal": [1.0, 2.0, 3.0, 2.5]},
    ]
    built = build(write_subpop(tmp_path / "odd.jsonl", [*good, *odd, *kept]), Options())
    dropped = dict(built.ledger.dropped)
    assert dropped == {
        "group: share that is negative or not a number": 1,
        "responses that are no list of numbers": 1,
        "responses and options differ in length": 1,
        "group: distribution that does not sum to 1": 1,
        "fewer than two options beside those that are no answer": 1,
        "question in other words or with other options than in its first row": 2,
        "attribute and group that do not belong together": 1,
        "group whose value is a word for missing": 1,
        "row without qkey, question or distinct options": 1,
        "second distribution of a group for a question: the first counts": 1,
    }
    rows = rows_of(built)
    assert rows[first["qkey"], "EYES: Green"]["distribution"] == pytest.approx([0.4, 0.6])
    assert rows[first["qkey"], "EYES: Green"]["profile"]["description"] == "EYES: Green"
    assert built.ledger.noted["attribute that no field of a profile fits, told in its own words: EYES"] == 1
    both = rows[first["qkey"], "SEX: Male, RACE: Black"]["profile"]
    assert (both["sex"], both["ethnicity"]) == ("Male", "Black")
    assert built.ledger.rows_kept == len(good) + 2
    assert good[6]["options"][:-1] == SCALE


def test_another_file_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "Hi?", "answer": 1}\n')
    with pytest.raises(BenchmarkError, match=r"lacks qkey, attribute, group.*SubPOP's \.jsonl or \.csv"):
        build(tmp_path / "a.jsonl", Options())
    (tmp_path / "b.csv").write_text("qkey\n")
    with pytest.raises(BenchmarkError, match=r"has 2 files"):
        build(tmp_path, Options())
