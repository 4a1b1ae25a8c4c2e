"""One table is one result, whether CSV, JSON lines or parquet keeps it; and every row of any table is accounted for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.builders.own import Understood, understand
from cuma.data.corpus import Corpus
from cuma.data.sparsity import MISSING, read_answers
from cuma.errors import BenchmarkError

GAP = None
OPTIONS = (
    ["Yes", "No"],
    ["No", "Yes"],
    ["1", "2", "3"],
    ["Bad", "So so", "Good"],
    ["1. Low", "2. High"],
    ["0.5", "1.0"],
)
SCALARS = {
    "answer": [[0, 1, 2, GAP], [1, 2, 3, GAP], [0.0, 1.0, 2.5, GAP], [True, False, GAP], ["Yes", "No", "NA", ""],
               ["1", "2", "3.0", "-1"], ["Good", "Bad", "true", "1"]],
    "ordinal": [[GAP], [True, False, GAP], [1, 0, GAP], [1.0, GAP], ["yes", "no", ""]],
    "person_id": [[1, 2, 3, GAP], [1.0, 2.0, GAP], ["a", "b", "NA", "null"], [GAP]],
    "group": [["North", "South", "NA"], [1, 2, GAP], [GAP]],
    "weight": [[0.5, 1.5, GAP], [1, 2, GAP], ["0,5", "1,25", "NA"], [-1.0, 1.0]],
    "country": [["Peru", "NA", "unknown"], ["Kenya", GAP]],
    "age": [[34, 61, 999, GAP], [34.0, 18.5, GAP], ["34.0", "NA", "25-34 years"]],
    "sex": [["Female", "Male", "-2"], [True, False]],
}  # fmt: skip
"""Column → the types that tools give it, each as what its cells may be."""


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A long survey table, each column of one type, as pandas holds it."""
    count = draw(st.integers(1, 12))
    asked = draw(st.lists(st.sampled_from(OPTIONS), min_size=1, max_size=2))
    which = [draw(st.integers(0, len(asked) - 1)) for _ in range(count)]
    table: dict[str, list[Any]] = {
        "question": [f"Question {place}?" for place in which],
        "options": [draw(st.permutations(asked[place])) for place in which],
    }
    for name, kinds in SCALARS.items():
        if name == "answer" or draw(st.booleans()):
            cells = draw(st.sampled_from(kinds))
            table[name] = [draw(st.sampled_from(cells)) for _ in range(count)]
    return pd.DataFrame(table)


def written(folder: Path, table: pd.DataFrame) -> list[Path]:
    """The table as pandas writes it in three forms."""
    flat = table.assign(options=["|".join(options) for options in table["options"]])
    paths = [folder / name for name in ("t.csv", "t.jsonl", "t.parquet", "lists.csv")]
    flat.to_csv(paths[0], index=False)
    table.to_json(paths[1], orient="records", lines=True)
    table.to_parquet(paths[2])
    table.assign(options=list(map(json.dumps, table["options"]))).to_csv(paths[3], index=False, sep=";")
    return paths


def outcome(found: Understood) -> Any:
    """All that a file says, in plain types."""
    rows = [(row.values, row.profile.fields, row.person, row.unit, row.group, row.weight) for row in found.rows]
    items = [(item.id, item.options, item.ordinal, dict(item.left_out)) for item in found.items]
    return rows, items, dict(found.ledger.dropped), dict(found.ledger.noted), found.ledger.rows_read


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables())
@example(table=pd.DataFrame({"question": "Q?", "options": [["Yes", "No"]] * 3, "answer": [True, None, False]}))
@example(table=pd.DataFrame({"question": "Q?", "options": [["1", "2", "3"]] * 3, "answer": [1, None, 3]}))
def test_a_table_is_one_result_in_every_form(tmp_path: Path, table: pd.DataFrame) -> None:
    found = [outcome(understand(path)) for path in written(tmp_path, table)]
    assert all(one == found[0] for one in found)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables(), number=st.integers())
def test_every_row_is_kept_or_counted_and_all_readers_see_the_same(
    tmp_path_factory: pytest.TempPathFactory, table: pd.DataFrame, number: int
) -> None:
    folder = tmp_path_factory.mktemp("table")
    source = written(folder, table)[1]
    found = understand(source)
    assert found.ledger.rows_read == len(table)
    assert found.ledger.rows_read == found.ledger.rows_kept + found.ledger.dropped.total()
    assert found.ledger.rows_kept == len(found.rows)
    try:
        card = build("own", source, folder / "built", Options(seed=abs(number) % 5, sample=3))
    except BenchmarkError:
        assert not found.rows
        return
    assert card["rows_read"] == card["rows_kept"] + sum(card["dropped"].values())
    survey, answers = Corpus.open(folder / "built").survey(), read_answers(folder / "built")
    assert len(survey.people) == len(answers.group) == sum(of["people"] for of in card["splits"].values())
    trained = {q.id: Counter(survey.people[q.id][survey.people[q.id] >= 0]) for q in survey.questions}
    shown = {q.id: Counter(c for c in answers.coded[:, place].tolist() if c != MISSING)
             for place, q in enumerate(answers.questions)}  # fmt: skip
    assert trained == shown
    assert sum(map(Counter.total, trained.values())) == card["rows_kept"]
