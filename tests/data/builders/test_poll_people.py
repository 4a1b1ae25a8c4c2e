"""Whom a poll asks: people and populations, their weights, and what is refused; never with somebody's value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cuma.data.builders.poll_people import raked, read_margins, read_people, read_population
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

CELLS = "country,sex,count\nPeru,woman,400\nPeru,man,300\nJapan,woman,900\nJapan,man,1000\n"
MARGINS = "field,value,share\nsex,woman,60\nsex,man,40\ncountry,Peru,0.5\ncountry,Japan,0.5\n"


def file(folder: Path, content: str, name: str = "people.csv") -> Path:
    (folder / name).write_text(content)
    return folder / name


@pytest.mark.parametrize("kind", ["csv", "parquet", "xlsx", "jsonl"])
def test_people_are_the_same_from_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    table = pd.DataFrame({"person_id": ["a", "b"], "country": ["Peru", None], "age": [30, 998], "weight": [3, 1]})
    path = tmp_path / f"people.{kind}"
    {
        "csv": lambda: table.to_csv(path, index=False),
        "parquet": lambda: table.to_parquet(path),
        "xlsx": lambda: table.to_excel(path, index=False),
        "jsonl": lambda: table.to_json(path, orient="records", lines=True),
    }[kind]()
    found = read_people(path)
    assert found.profiles == (Profile(country="Peru", age=30), Profile())
    assert found.ids == ("a", "b")
    assert found.named
    assert not found.known
    np.testing.assert_allclose(found.weights, [0.75, 0.25])
    assert "age above 120, taken for a code: 1" in found.noted
    assert "rows that say nothing of the person, asked as nobody in particular: 1" in found.noted


def test_people_without_ids_and_weights_are_numbered_and_count_alike(tmp_path: Path) -> None:
    found = read_people(file(tmp_path, "profile,shoe\nA nurse of Peru,38\n{'country': 'Japan'},40\n"))
    assert found.profiles == (Profile(description="A nurse of Peru"), Profile(country="Japan"))
    assert found.ids == ("1", "2")
    assert not found.named
    assert found.weights.tolist() == [0.5, 0.5]
    assert found.noted == ("not read: shoe",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("contry,years\nWonderland,7\n", "no column that says who somebody is. Did you mean 'country'?"),
        ("person_id,country\na,Wonderland\na,Wonderland\n", "1 rows repeat a person_id"),
        ("person_id,country\na,Wonderland\n,Wonderland\n", "1 rows have no person_id"),
        ("country,weight\nWonderland,-1\n", "row 1: weight that is negative"),
        ("country,weight\nWonderland,heavy\n", "row 1: weight that is no number"),
        ("country,weight\nWonderland,0\n", "every weight is 0"),
        ('country\n"[""Wonderland""]"\n', "row 1: profile that is neither"),
        ("country;age\nWonderland;7\nWonderland;7;8\n", "cannot be read whole"),
    ],
)
def test_bad_people_are_refused_by_row_and_never_with_what_stands_there(
    tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(BenchmarkError) as error:
        read_people(file(tmp_path, content))
    assert message in str(error.value)
    assert "Wonderland" not in str(error.value)


def test_cells_have_their_shares(tmp_path: Path) -> None:
    found = read_population(file(tmp_path, CELLS))
    assert found.known
    assert found.ids == ("1", "2", "3", "4")
    np.testing.assert_allclose(found.weights, np.array([4, 3, 9, 10]) / 26)
    assert found.values("country") == ["Peru", "Peru", "Japan", "Japan"]
    with pytest.raises(BenchmarkError, match="Did you mean 'country'"):
        found.values("contry")


def test_margins_alone_are_taken_for_independent_which_is_said(tmp_path: Path) -> None:
    found = read_population(file(tmp_path, MARGINS))
    assert len(found.profiles) == 4
    assert dict(zip(found.profiles, found.weights, strict=True))[Profile(sex="woman", country="Peru")] == 0.3
    assert "as if the fields were independent" in found.noted[0]


def test_cells_and_people_are_raked_to_margins(tmp_path: Path) -> None:
    margins = read_margins(file(tmp_path, MARGINS, "margins.csv"))
    found = raked(read_population(file(tmp_path, CELLS)), margins)
    women = np.array([value == "woman" for value in found.values("sex")])
    peru = np.array([value == "Peru" for value in found.values("country")])
    assert found.weights[women].sum() == pytest.approx(0.6)
    assert found.weights[peru].sum() == pytest.approx(0.5)
    four = "country,sex\nPeru,woman\nPeru,man\nJapan,woman\nJapan,man\n,\n"
    people = raked(read_people(file(tmp_path, four)), margins)
    assert people.weights[4] == pytest.approx(0.2)  # who lacks the fields keeps their part
    np.testing.assert_allclose(people.weights[:4], 0.8 * np.array([0.3, 0.2, 0.3, 0.2]), atol=1e-9)


@pytest.mark.parametrize(
    ("cells", "margins", "message"),
    [
        (CELLS, "field,value,share\nsex,woman,0.6\nsex,Man,0.4\n", "nobody has the value 'Man' of sex; 2 of them"),
        (CELLS, "field,value,share\nage,young,1\n", "Nobody who is asked has a field 'age'"),
        (CELLS, "field,value,share\nsex,woman,0.6\nsex,man,0.3\n", "the shares of sex sum to 0.9"),
        (CELLS, "field,value,share\ngender,woman,1\n", "row 1: Unknown profile field 'gender'. Did you mean 'sex'?"),
        (CELLS, "field,value,share\nsex,woman,0.5\nsex,woman,0.5\n", "row 2: this value of sex stands there twice"),
        (CELLS, "field,value\nsex,woman\n", "has neither count nor share"),
        (CELLS, "field,value,count\nsex,woman,\n", "1 rows have no count"),
        (CELLS, "fild,value,count\nsex,woman,1\n", "lacks the column 'field'. Did you mean 'fild'?"),
        ("country,sex,count\nPeru,woman,4\nJapan,man,3\n", MARGINS, "cannot be met together"),
    ],
)
def test_margins_that_do_not_fit_are_refused(tmp_path: Path, cells: str, margins: str, message: str) -> None:
    with pytest.raises(BenchmarkError) as error:
        raked(read_population(file(tmp_path, cells)), read_margins(file(tmp_path, margins, "margins.csv")))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("country,number\nPeru,4\n", "has neither count nor share"),
        ("country,count,share\nPeru,4,1\n", "has both count and share"),
        ("country,count\nPeru,\nJapan,1\n", "1 cells have no count"),
        ('country,count\nPeru,"1,234"\nJapan,"2,345"\n', "count holds numbers such as 1,234"),
        ("country,count\nPeru,-4\n", "row 1: count that is negative"),
    ],
)
def test_bad_populations_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(BenchmarkError) as error:
        read_population(file(tmp_path, content))
    assert message in str(error.value)
