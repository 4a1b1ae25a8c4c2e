"""One id, one person: who is told apart, what is counted, and that nobody is in two splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk

from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.builders.own import Understood, understand
from cuma.data.corpus import Corpus
from cuma.errors import BenchmarkError

ASKED = {"question": "Is trust high?", "options": ["Yes", "No"], "answer": "Yes"}
SEVERAL = "person_id whose rows differ in group or profile, taken for several people"


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "mine.jsonl").write_text("\n".join(json.dumps({**ASKED, **row}) for row in rows))
    return folder / "mine.jsonl"


def read(folder: Path, rows: list[dict[str, Any]]) -> Understood:
    return understand(written(folder, rows))


@pytest.mark.parametrize(
    "word", ["NA", "nan", "None", "NULL", "<NA>", "#N/A", "(null)", "\\N", "n/a", ".", ".a", "-1", "missing", " "]
)
def test_an_id_or_group_that_means_missing_is_none(tmp_path: Path, word: str) -> None:
    found = read(tmp_path, [{"person_id": word, "group": word, "weight": 2, "country": "Peru"}] * 3)
    assert len({row.person for row in found.rows}) == 3
    assert {row.group for row in found.rows} == {"Peru"}
    assert found.ledger.noted["row without person_id, taken for a person of its own"] == 3
    told = [what for what in found.ledger.noted if "taken for none" in what]
    assert len(told) == (2 if word.strip() else 0)


@pytest.mark.parametrize("apart", [{"country": ("Peru", "Kenya")}, {"group": ("North", "South")}, {"age": (30, 61)}])
def test_one_id_that_is_two_people_is_two_people_in_one_split(tmp_path: Path, apart: dict[str, Any]) -> None:
    ((name, values),) = apart.items()
    rows = [{"person_id": number, name: value} for value in values for number in range(60)]
    found = read(tmp_path, rows)
    assert len({row.person for row in found.rows}) == 120
    assert found.ledger.noted[SEVERAL] == 60
    build("own", tmp_path / "mine.jsonl", tmp_path / "built", Options())
    assert len(Corpus.open(tmp_path / "built").survey().people) == 120
    split_of: dict[str, set[str]] = {}
    for split, table in load_from_disk(str(tmp_path / "built" / "survey")).items():
        for person in table["person_id"]:
            split_of.setdefault(person.split(" ")[0], set()).add(split)
    assert len(split_of) == 60
    assert all(len(splits) == 1 for splits in split_of.values())


def test_who_is_who_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = [{"person_id": 1, "country": country, "question": f"{place}?"}
            for place, country in enumerate(["Peru", "Kenya", None, "Peru", "Japan"])]  # fmt: skip
    people = [{(row.person, row.profile, row.values["question"]) for row in read(tmp_path, its).rows}
              for its in (rows, rows[::-1])]  # fmt: skip
    assert people[0] == people[1]
    assert len({person for person, _, _ in people[0]}) == 4


def test_what_one_row_leaves_out_another_says(tmp_path: Path) -> None:
    rows = [{"person_id": 1, "question": "A?", "sex": "Female"}, {"person_id": 1, "question": "B?", "country": "Peru"},
            {"person_id": 1, "question": "C?", "group": "North"}]  # fmt: skip
    found = read(tmp_path, rows)
    assert {row.profile.sentence for row in found.rows} == {"A woman living in Peru"}
    assert {(row.person, row.group) for row in found.rows} == {("1", "North")}
    assert SEVERAL not in found.ledger.noted


def test_the_first_answer_of_a_person_counts_and_the_others_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, [{"person_id": 1, "answer": answer} for answer in ("Yes", "No", "Yes")])
    assert [row.values["answer"] for row in found.rows] == [0]
    assert found.ledger.dropped == {
        "second answer of a person to a question, another one: the first counts": 1,
        "answer that the person gave to the question before": 1,
    }


def test_the_first_distribution_of_a_group_counts(tmp_path: Path) -> None:
    rows = [{"question": "Is trust high?", "options": ["Yes", "No"], "distribution": shares, "group": "North"}
            for shares in ("0,25|0,75", [1, 0])]  # fmt: skip
    (tmp_path / "shares.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = understand(tmp_path / "shares.jsonl")
    assert [row.values["distribution"] for row in found.rows] == [[0.25, 0.75]]
    assert found.ledger.dropped == {"second distribution of a group for a question: the first counts": 1}


def test_weights_are_read_as_they_are_written_and_what_lacks_one_is_told(tmp_path: Path) -> None:
    rows = [
        {"person_id": n, "weight": weight} for n, weight in enumerate(["0,5", "1", 1.5, "NA", None, "2.0", "1,125"])
    ]
    found = read(tmp_path, rows)
    assert [row.weight for row in found.rows] == [0.5, 1.0, 1.5, None, None, 2.0, 1.125]
    assert found.ledger.noted["row without a weight beside rows that have one, counts as 1"] == 2


def test_every_split_has_weights_if_one_has(tmp_path: Path) -> None:
    rows = [{"person_id": n, "country": "Peru", **({"weight": 2.0} if n == 3 else {})} for n in range(40)]
    build("own", written(tmp_path, rows), tmp_path / "built", Options())
    people = Corpus.open(tmp_path / "built").survey().people
    assert sorted(people["weight"]) == [1.0] * 39 + [2.0]


def test_a_person_has_one_weight(tmp_path: Path) -> None:
    rows = [{"person_id": 1, "question": f"{place}?", "weight": w} for place, w in enumerate([None, 2, 3])]
    found = read(tmp_path, rows)
    assert [row.weight for row in found.rows] == [2.0] * 3
    assert found.ledger.noted["row with another weight than its person's first, which counts"] == 1


def test_columns_that_cannot_be_read_as_a_whole_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="mark thousands"):
        read(tmp_path, [{"weight": "1,234"}, {"weight": "2"}])
    for number in ("1.24E+11", 1.2407000312345e18):
        with pytest.raises(BenchmarkError, match="lost digits"):
            read(tmp_path, [{"person_id": number}])


def test_numbers_are_one_id_however_a_gap_made_them(tmp_path: Path) -> None:
    rows = [{"person_id": number, "question": f"{place}?"} for place, number in enumerate([7, 7.0, "7", "7.0", " 7 "])]
    assert {row.person for row in read(tmp_path, rows).rows} == {"7"}


def test_names_made_for_people_are_nobodys_id(tmp_path: Path) -> None:
    rows = [{"person_id": None}, {"person_id": "row 0"}, {"person_id": "1", "country": "Peru"},
            {"person_id": "1", "country": "Kenya"}, {"person_id": "1 (2)"}]  # fmt: skip
    assert len({row.person for row in read(tmp_path, rows).rows}) == 5


def test_strata_and_units_stand_in_the_design_a_person_a_row(tmp_path: Path) -> None:
    rows = [{"person_id": n // 2, "question": f"{n % 2}?", "country": "Peru", "stratum": n % 6 // 2, "unit": "u",
             "weight": 1.5} for n in range(60)]  # fmt: skip
    rows[0]["stratum"] = rows[1]["stratum"] = None
    rows[3]["unit"] = "another"
    card = build("own", written(tmp_path, rows), tmp_path / "built", Options())
    paths = (tmp_path / "built" / "design").glob("*.parquet")
    design = {row["person_id"]: row for path in paths for row in pq.read_table(path).to_pylist()}
    assert len(design) == 30
    assert design["4"] == {"person_id": "4", "stratum": "1", "unit": "u"}
    assert design["0"]["stratum"] is None
    assert card["design"] == {"strata": True, "units": True, "weights": "weight", "replicates": None,
                              "source": {"stratum": "stratum", "unit": "unit", "weight": "weight"}}  # fmt: skip
    assert card["noted"]["person without a stratum beside people who have one: kept, and none in the design"] == 1
    assert card["noted"]["row with another stratum or unit than its person's first, which counts"] == 1


def test_everybody_can_be_kept_for_evaluation(tmp_path: Path) -> None:
    rows = [{"person_id": n, "country": "Peru"} for n in range(40)]
    card = build("own", written(tmp_path, rows), tmp_path / "built", Options(all_test=True))
    assert {split: size["people"] for split, size in card["splits"].items()} == {"test": 40}
    assert not card["warnings"]
    assert not (tmp_path / "built" / "design").exists()
