"""WorldValuesBench: from the survey's CSV and from its own tree, every pitfall planted and counted to the row."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuma import Profile
from cuma.data.builders.base import Built, Ledger, Options
from cuma.data.builders.built_folder import write
from cuma.data.builders.delimited import UNCLOSED
from cuma.data.builders.held_items import OF_PERSON
from cuma.data.builders.wvb import FORMS, build
from cuma.data.builders.wvb_codes import PROFILE_COLUMNS
from cuma.data.builders.wvb_reading import batches, released_splits
from cuma.data.builders.wvb_scales import METADATA, read_metadata
from cuma.data.surveys.prompts import NO_PERSONA
from cuma.errors import BenchmarkError
from helpers import SHARED
from helpers.make_wvb import ABOUT, ADJUSTMENT, COUNTRIES, VALUES, write_full_size, write_metadata

REAL = SHARED / "data" / "worldvaluesbench"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="WorldValuesBench's own metadata are not here")
COLUMNS = ["A_WAVE", "D_INTERVIEW", *ABOUT, *VALUES]
MISMATCHED = {"Q56", "Q119", "Q111", "Q221", "Q222", "Q254", *(f"Q{n}" for n in range(241, 250))}


def person(place: int, **cells: str) -> dict[str, str]:
    """A row without anything odd, unless told."""
    codes = list(COUNTRIES)
    row = {"A_WAVE": "7", "D_INTERVIEW": str(1000 + place), "B_COUNTRY": codes[place % len(codes)]}
    row |= {"X003R": "2", "Q260": "2", "Q275": "6", "Q273": "1", "Q289": "7", "Q290": "36001", "Q279": "1"}
    row |= {"H_URBRURAL": "1"} | {name: str(max(low, 1)) for name, (low, _, _) in VALUES.items()}
    return row | cells


def write_rows(path: Path, rows: list[dict[str, str]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    text = "".join(delimiter.join(cells) + "\n" for cells in [COLUMNS, *([row[c] for c in COLUMNS] for row in rows)])
    path.write_text(text, encoding=encoding)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "wvb"
    source.mkdir()
    write_metadata(source)
    return source


def raw(folder: Path, rows: list[dict[str, str]], **how: str) -> Path:
    write_rows(folder / "WVS_wave7.csv", rows, **how)
    return folder


def everybody(built: Built) -> dict[str, dict[str, Any]]:
    """Person → row of the tables "answers", with the split."""
    return {
        row["person_id"]: {**row, "split": split}
        for split, table in built.tables["answers"].items()
        for row in table.to_pylist()
    }


def reversed_split(people: int) -> list[str]:
    """WorldValuesBench's procedure, written out as its authors did."""
    indices = list(range(people))
    random.seed(0)
    random.shuffle(indices)
    train_end = int(0.7 * people)
    test_end = train_end + int(0.15 * people)
    names = {"train": indices[:train_end], "test": indices[train_end:test_end], "validation": indices[test_end:]}
    split_of = {index: name for name, its in names.items() for index in its}
    return [split_of[index] for index in range(people)]


# --- the split -------------------------------------------------------------------------------------------------------


def test_the_split_is_that_of_the_authors_on_their_number_of_people() -> None:
    ids = np.array([str(7_000_000 + 3 * place) for place in range(93_278)])
    ours, theirs = released_splits(len(ids)), np.array(reversed_split(len(ids)))
    sizes = {split: int((ours == split).sum()) for split in ("train", "test", "validation")}
    assert sizes == {"train": 65_294, "test": 13_991, "validation": 13_993}
    for split in sizes:
        sums = [hashlib.sha256("\n".join(sorted(ids[of == split])).encode()).hexdigest() for of in (ours, theirs)]
        assert sums[0] == sums[1]


def test_a_build_has_that_split_whatever_the_seed(folder: Path) -> None:
    rows = [person(place) for place in range(40)]
    rows.insert(7, person(99, D_INTERVIEW="858069901"))
    rows.append(person(98, D_INTERVIEW="858069901"))
    built = build(raw(folder, rows), Options(seed=5))
    expected = dict(zip([str(1000 + place) for place in range(40)], reversed_split(40), strict=True))
    assert {name: row["split"] for name, row in everybody(built).items()} == expected
    assert built.ledger.dropped == {"D_INTERVIEW 858069901, which several people share": 2}
    assert (built.ledger.rows_read, built.ledger.rows_kept) == (42, 40)


# --- answers and options ---------------------------------------------------------------------------------------------


def test_answers_are_adjusted_and_missing_ones_are_told_apart(folder: Path) -> None:
    rows = [
        person(0, Q56="2", Q119="0", Q241="0", Q94="0"),
        person(1, Q56="3", Q119="4", Q241="10", Q111="3", Q254="5"),
        person(2, Q56="-1", Q119="-2", Q241="-4", Q111="-5", Q254="", Q1=" "),
        person(3, Q1="9", Q240="eleven", Q94="1.0", Q56="2.0", Q254="1.5"),
    ]
    built = build(raw(folder, rows), Options())
    people = everybody(built)
    options = {row["question_id"]: row["options"] for row in built.tables["questions"]["questions"].to_pylist()}

    def said(place: int, question: str) -> str | None:
        answer = people[str(1000 + place)][question]
        return None if answer < 0 else options[question][answer]

    assert [said(0, q) for q in ("Q56", "Q119", "Q241", "Q94")] == [
        "Worse off",
        "Hard to say",
        "1: Not essential",
        "Don't belong",
    ]
    assert [said(1, q) for q in ("Q56", "Q119", "Q241", "Q111", "Q254")] == [
        "Or about the same",
        "Strongly disagree",
        "10: Essential",
        None,
        None,
    ]
    assert all(said(2, q) is None for q in ("Q56", "Q119", "Q241", "Q111", "Q254", "Q1"))
    assert [said(3, q) for q in ("Q1", "Q240", "Q94", "Q56", "Q254")] == [
        None,
        None,
        "Inactive member",
        "Worse off",
        None,
    ]
    assert built.ledger.noted == {
        "answer outside its question's scale, made missing": 1,
        "answer that is no number, made missing": 2,
        "answer that answer_adjustment.json makes missing": 2,
    }
    assert sum(split["answers"] for split in built.facts["splits"].values()) == 4 * 8 - 2 - 6 - 3
    assert people["1000"]["Q1"] == 0
    assert built.tables["answers"][people["1000"]["split"]].schema.field("Q1").type == "int8"


def test_options_are_those_of_the_adjusted_scale_and_the_released_ones_on_request(folder: Path) -> None:
    built = {
        options.as_released: build(raw(folder, [person(0, Q56="2", Q119="4")]), options)
        for options in (Options(), Options(as_released=True))
    }
    options = {
        released: {row["question_id"]: row["options"] for row in its.tables["questions"]["questions"].to_pylist()}
        for released, its in built.items()
    }
    right, wrong = options[False], options[True]
    assert right["Q56"] == ["Better off", "Or about the same", "Worse off"]
    assert wrong["Q56"] == ["Better off", "Worse off", "Or about the same"]
    assert right["Q119"] == ["Strongly agree", "Agree", "Hard to say", "Disagree", "Strongly disagree"]
    assert wrong["Q119"] == ["Hard to say", "Strongly agree", "Agree", "Disagree", "Strongly disagree"]
    assert right["Q241"] == ["1: Not essential", *map(str, range(2, 10)), "10: Essential"]
    assert wrong["Q241"][:2] == ["It is against democracy (spontaneous)", "Not essential"]
    assert len(wrong["Q241"]) == 11
    assert [len(right[q]) for q in ("Q111", "Q254")] == [2, 4]
    assert [len(wrong[q]) for q in ("Q111", "Q254")] == [3, 5]
    assert right["Q1"][1] == "Rather important"
    assert right["Q240"][:2] == ["1: Left", "2"]
    answers = {released: everybody(its)["1000"] for released, its in built.items()}
    assert wrong["Q56"][answers[True]["Q56"]] == "Or about the same"  # "Worse off" in the raw file: the known fault
    assert right["Q56"][answers[False]["Q56"]] == "Worse off"
    assert answers[True]["Q119"] == -1  # a score of 5, which the released choices do not have
    assert built[True].ledger.noted["answer outside its question's scale, made missing"] == 1


@needs_real
def test_the_fifteen_questions_of_the_real_metadata() -> None:
    right, _ = read_metadata(REAL, as_released=False)
    wrong, _ = read_metadata(REAL, as_released=True)
    assert len(right.scales) == 239
    differ = {a.id for a, b in zip(right.scales, wrong.scales, strict=True) if a.scores != b.scores or (a.adjustment)}
    assert differ == MISMATCHED
    for scale in right.scales:
        assert len(scale.options) == len(scale.scores) == len(set(scale.options))
        assert all(option.strip() for option in scale.options)
    by_id = {scale.id: scale for scale in right.scales}
    assert by_id["Q56"].options == ("Better off", "Or about the same", "Worse off")
    assert by_id["Q119"].options[2:] == ("Hard to say", "Disagree", "Strongly disagree")
    assert len(by_id["Q249"].options) == 10
    assert by_id["Q254"].options[-1] == "Not at all proud"
    for column, name in PROFILE_COLUMNS.items():
        for code, text in right.choices[column].items():
            if int(code) < 0:
                assert getattr(Profile(**{name: text}), name) is None, (column, code)


@needs_real
def test_a_build_with_the_real_metadata(tmp_path: Path) -> None:
    for name in (*METADATA, "samples.tsv", "country2continent.csv", "education2level.csv"):
        shutil.copyfile(REAL / name, tmp_path / name)
    questions, codebook = (json.loads((REAL / name).read_text()) for name in METADATA[:2])
    write_full_size(tmp_path, 300, questions, codebook, columns=0)
    built = build(tmp_path, Options(rows=500))
    assert built.ledger.rows_kept == 300
    assert built.facts["probe_people"] == {"named": 4860, "left_out_of_training": 0}
    assert sum(len(rows) for rows in built.tasks["survey"].values()) == 500
    assert len({row["question_id"] for rows in built.tasks["survey"].values() for row in rows}) > 200
    for rows in built.tasks["sft"].values():
        assert not any("ISCED" in text or "Missing" in text or "Not asked" in text for text in rows["profile_text"])


# --- people ----------------------------------------------------------------------------------------------------------


def test_profiles_say_nothing_of_what_is_missing(folder: Path) -> None:
    rows = [
        person(0, B_COUNTRY="764"),
        person(1, X003R="-5", Q260="-4", Q275="-1", Q273="-2", Q289="-5", Q290="-5", Q279="", H_URBRURAL="-4"),
        person(2, B_COUNTRY="516", Q290="36999", Q279="4", Q289="44", Q275="0"),
    ]
    built = build(raw(folder, rows), Options())
    people = everybody(built)
    assert people["1000"]["profile_text"] == (
        "A Buddhist woman aged 25 to 34 of ethnicity Australian (English speaking) living in an urban area of "
        "Thailand, who works full time, is married and reports Bachelor or equivalent as their education"
    )
    assert people["1001"]["profile_text"] == "A person living in Thailand"
    assert {name for name, value in people["1001"]["profile"].items() if value} == {"country"}
    assert people["1002"]["profile"]["ethnicity"] == "Other"
    assert people["1002"]["profile"]["religion"] is None
    assert people["1002"]["profile"]["employment"] == "Retired"
    assert people["1002"]["group"] == people["1002"]["profile"]["country"] == "Namibia"
    assert built.ledger.noted == {"unknown code of religion, read as absent": 1}


def test_people_that_cannot_be_used_are_counted(folder: Path) -> None:
    rows = [person(place) for place in range(20)]
    rows += [person(3, Q1="4"), person(3, Q1="3")]  # twice more
    rows += [person(30, B_COUNTRY="12345"), person(31, B_COUNTRY="-4"), person(32, B_COUNTRY="")]
    rows += [person(33, D_INTERVIEW=" ")]
    raw(folder, rows)
    with (folder / "WVS_wave7.csv").open("a") as stream:
        stream.write("7,5000\n" + ",".join(["1"] * (len(COLUMNS) + 1)) + "\n\n")
    built = build(folder, Options())
    assert built.ledger.dropped == {
        "duplicate D_INTERVIEW, the first is kept": 2,
        "unknown country code": 3,
        "row without D_INTERVIEW": 1,
        "row with more or fewer cells than the header": 2,
    }
    assert (built.ledger.rows_read, built.ledger.rows_kept) == (28, 20)
    assert everybody(built)["1003"]["Q1"] == 0
    assert len(everybody(built)) == 20


def test_probe_people_are_kept_out_of_training_by_id(folder: Path) -> None:
    raw(folder, [person(place) for place in range(40)])
    splits = reversed_split(40)
    train = [str(1000 + place) for place in range(40) if splits[place] == "train"][:3]
    test = [str(1000 + place) for place in range(40) if splits[place] == "test"][:2]
    header = "Question\tQuestion Category\tContinent\tUrban / Rural\tEducation\tD_INTERVIEW\n"
    lines = [f"Q1\tC\tAsia\tUrban\tTertiary\t{name}\n" for name in [*train, *test, train[0], "77"]]
    (folder / "samples.tsv").write_text(header + "".join(lines))
    built = build(folder, Options())
    people = everybody(built)
    assert not set(train) & set(people)
    assert {people[name]["split"] for name in test} == {"test"}
    assert built.ledger.dropped == {"probe person, kept out of training": 3}
    assert built.facts["probe_people"] == {"named": 6, "left_out_of_training": 3}


@pytest.mark.parametrize(("field", "value"), [("country", "Japan"), ("religion", "muslim"), ("urban_rural", "Rural")])
def test_whoever_has_a_held_out_value_is_unseen(folder: Path, field: str, value: str) -> None:
    rows = [person(place, Q289="5" if place % 3 else "7", H_URBRURAL=str(1 + place % 2)) for place in range(60)]
    built = build(raw(folder, rows), Options(holdout=((field, value),)))
    for row in everybody(built).values():
        assert (row["profile"][field].casefold() == value.casefold()) == (row["split"] == "unseen")
    with pytest.raises(BenchmarkError, match="nobody has that value of 'country'"):
        build(folder, Options(holdout=(("country", "Atlantis"),)))


def test_held_out_questions_are_in_no_training_table(folder: Path) -> None:
    built = build(raw(folder, [person(place) for place in range(60)]), Options(holdout_items=0.3))
    role = built.facts["item_roles"]
    held = [name for name, its in role.items() if its != "seen"]
    assert set(role.values()) == {"seen", "validation", "test"}
    coded = {split: table.to_pandas() for split, table in built.tables["answers"].items()}
    assert (coded["train"][held] < 0).all(axis=None)
    assert (coded["test"][held] >= 0).any(axis=0).all()
    assert not set(built.tasks["survey"]["train"]["question_id"]) & set(held)
    before = build(folder, Options())
    lost = sum((before.tables["answers"][split].to_pandas()[list(role)] >= 0).to_numpy().sum() for split in coded)
    lost -= sum((table[list(role)] >= 0).to_numpy().sum() for table in coded.values())
    assert built.ledger.dropped[OF_PERSON] == lost > 0


def test_a_sample_has_its_share_of_every_country(folder: Path) -> None:
    rows = [person(place, B_COUNTRY="392" if place % 4 else "764") for place in range(80)]
    raw(folder, rows)
    built = build(folder, Options(sample=20))
    groups = [row["group"] for row in everybody(built).values()]
    assert (groups.count("Japan"), groups.count("Thailand")) == (15, 5)
    assert built.ledger.dropped == {"person not in the sample": 60}
    whole = everybody(build(folder, Options()))
    assert all(whole[name] == row for name, row in everybody(built).items())
    assert set(everybody(build(folder, Options(sample=20, seed=1)))) != set(everybody(built))


# --- the tasks -------------------------------------------------------------------------------------------------------


@pytest.fixture
def large(folder: Path) -> Path:
    questions, codebook = (json.loads((folder / name).read_text(encoding="utf-8")) for name in METADATA[:2])
    write_full_size(folder, 2000, questions, codebook, columns=40)
    return folder


def test_a_file_is_parsed_in_few_batches(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = large.glob("*.csv")
    ledger = Ledger()
    parts = list(batches(path, ["D_INTERVIEW", "B_COUNTRY"], ledger))
    assert sum(part.num_rows for part in parts) == 2000
    assert len(parts) == 1, "a batch a row: a quarter of an hour for the whole survey"
    monkeypatch.setattr("cuma.data.builders.wvb_reading._BLOCK", 2**16)
    size = path.stat().st_size
    assert 1 < len(list(batches(path, ["D_INTERVIEW"], ledger))) <= 2 * size // 2**16 + 2
    assert not ledger.dropped


def test_probe_people_whose_row_cannot_be_read_are_noted(folder: Path) -> None:
    raw(folder, [person(place) for place in range(40)])
    (folder / "samples.tsv").write_text("Question\tD_INTERVIEW\tx\nQ1\t1003\ta\nQ1\t1004\n")
    noted = build(folder, Options()).ledger.noted
    assert noted == {"samples.tsv: row with more or fewer cells than the header (first in line 3)": 1}


def test_rows_are_spread_over_splits_questions_and_countries(large: Path) -> None:
    built = build(large, Options(rows=1600))
    whole = everybody(built)
    everyone: set[str] = set()
    total = sum(split["answers"] for split in built.facts["splits"].values())
    pairs = []
    for split, rows in built.tasks["survey"].items():
        assert abs(len(rows) - 1600 * built.facts["splits"][split]["answers"] / total) <= 1
        people = set(rows["person_id"])
        assert not people & everyone
        everyone |= people
        assert {whole[name]["split"] for name in people} == {split}
        pairs += [(row["person_id"], row["question_id"]) for row in rows]
        for row in rows:
            assert row["answer"] == whole[row["person_id"]][row["question_id"]]
            assert 0 <= row["answer"] < len(row["options"])
    assert len(pairs) == len(set(pairs)) == 1600
    train = built.tasks["survey"]["train"]
    answers = built.tables["answers"]["train"].to_pandas()
    for question in VALUES:
        for country in COUNTRIES.values():
            there = int(((answers["group"] == country) & (answers[question] >= 0)).sum())
            taken = sum(
                q == question and g == country for q, g in zip(train["question_id"], train["group"], strict=True)
            )
            assert abs(taken - 1600 * there / total) <= 1


def test_every_row_is_put_in_both_forms(large: Path) -> None:
    built = build(large, Options(rows=200))
    for split, survey in built.tasks["survey"].items():
        sft = built.tasks["sft"][split]
        assert sft.column_names[:3] == ["prompt", "completion", "form"]
        assert len(sft) == 2 * len(survey)
        for place, row in enumerate(survey):
            pair = sft[2 * place], sft[2 * place + 1]
            assert tuple(one["form"] for one in pair) == FORMS
            assert all(one["person_id"] == row["person_id"] and one["profile"] == row["profile"] for one in pair)
            score = json.loads(pair[0]["completion"][0]["content"])["answer as a score"]
            low = VALUES[row["question_id"]][0]
            assert score == low + row["answer"]
            letter = pair[1]["completion"][0]["content"]
            shown = next(
                line for line in pair[1]["prompt"][1]["content"].splitlines() if line.startswith(f"{letter}. ")
            )
            assert shown == f"{letter}. {row['options'][row['answer']]}"
            assert pair[1]["prompt"][0] == {"role": "system", "content": NO_PERSONA}
            assert row["profile_text"] not in pair[1]["prompt"][1]["content"]
            assert row["question"] in pair[0]["prompt"][0]["content"]
            told = pair[0]["prompt"][0]["content"] + pair[1]["prompt"][0]["content"]
            assert not any(word in told for word in ("Missing", "Not asked", "Don´t know", "None", "nan"))


def test_no_rows_at_all_still_gives_the_tables(large: Path) -> None:
    built = build(large, Options(rows=0))
    assert built.tasks == {"survey": {}, "sft": {}}
    assert len(everybody(built)) == 2000


def test_the_same_input_gives_the_same_bytes(large: Path, tmp_path: Path) -> None:
    sums = []
    for name in ("one", "two"):
        write(build(large, Options(rows=500)), tmp_path / name, Options(rows=500))
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        sums.append({str(p.relative_to(tmp_path / name)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files})
    assert sums[0] == sums[1]
    assert {"card.json", "answers/train.parquet", "questions/questions.parquet"} <= set(sums[0])
    card = json.loads((tmp_path / "one" / "card.json").read_text())
    assert sum(split["people"] for split in card["splits"].values()) == card["rows_kept"] == 2000
    assert card["tasks"]["sft"]["train"] == 2 * card["tasks"]["survey"]["train"]


# --- the TSV tree ----------------------------------------------------------------------------------------------------


def tree(folder: Path, rows: list[dict[str, str]]) -> Path:
    """What WorldValuesBench's own script makes of raw rows."""
    codebook = json.loads((folder / "codebook.json").read_text(encoding="utf-8"))
    splits = reversed_split(len(rows))
    for theirs, ours in {"train": "train", "test": "test", "valid": "validation"}.items():
        its = [row for row, split in zip(rows, splits, strict=True) if split == ours]
        about, values = ["\t".join(["D_INTERVIEW", *ABOUT])], ["\t".join(["D_INTERVIEW", *VALUES])]
        for row in its:
            texts = [codebook[name]["choices"].get(row[name], row[name]) for name in ABOUT]
            about.append("\t".join([row["D_INTERVIEW"], *texts]))
            adjusted = [ADJUSTMENT.get(name, {}).get(row[name], row[name]) for name in VALUES]
            scores = ["" if text.startswith("-") else text for text in adjusted]
            values.append("\t".join([row["D_INTERVIEW"], *scores]))
        where = folder / "WorldValuesBench" / theirs
        where.mkdir(parents=True)
        (where / f"{theirs}_demographic_qa.tsv").write_text("\n".join(about) + "\n", encoding="utf-8")
        (where / f"{theirs}_value_qa.tsv").write_text("\n".join(values) + "\n", encoding="utf-8")
    return folder


def test_the_tree_gives_the_same_people_and_answers_as_the_raw_file(folder: Path, tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = []
    for place in range(60):
        cells = {name: rng.choice([*choices, "-1", "-5"]) for name, (_, _, choices) in VALUES.items()}
        cells |= {name: rng.choice([*choices, "-4"]) for name, choices in ABOUT.items() if name != "B_COUNTRY"}
        rows.append(person(place, **cells))
    other = tmp_path / "tree"
    shutil.copytree(folder, other)
    from_raw, from_tree = build(raw(folder, rows), Options()), build(tree(other, rows), Options())
    assert everybody(from_raw) == everybody(from_tree)
    assert from_raw.facts["splits"] == from_tree.facts["splits"]
    assert from_tree.ledger.dropped == from_tree.ledger.noted == {}
    assert from_tree.ledger.rows_read == from_tree.ledger.rows_kept == 60
    for split, rows_of in from_raw.tasks["survey"].items():
        assert rows_of.to_list() == from_tree.tasks["survey"][split].to_list()


def test_people_whom_the_tree_tells_differently_are_counted(folder: Path) -> None:
    tree(folder, [person(place) for place in range(40)])
    train, test = folder / "WorldValuesBench" / "train", folder / "WorldValuesBench" / "test"
    about = (test / "test_demographic_qa.tsv").read_text().splitlines()
    values = (test / "test_value_qa.tsv").read_text().splitlines()
    both = values[1].split("\t")[0]
    for name, line in (("demographic", about[1]), ("value", values[1])):  # in test and in train
        with (train / f"train_{name}_qa.tsv").open("a") as stream:
            stream.write(line + "\n")
    (test / "test_demographic_qa.tsv").write_text("\n".join([about[0], about[1], about[1], *about[3:]]) + "\n")
    with (train / "train_demographic_qa.tsv").open("a") as stream:
        stream.write(about[1].replace(both, "9999") + "\nshort\n")
    built = build(folder, Options())
    assert built.ledger.dropped == {
        "duplicate D_INTERVIEW, the first is kept": 1,
        "person without a row of demographics": 1,
        "demographics: duplicate D_INTERVIEW, the first is kept": 1,
        "demographics: row without answers": 1,
        "demographics: row with more or fewer cells than the header": 1,
    }
    assert everybody(built)[both]["split"] == "test"
    assert (built.ledger.rows_read, built.ledger.rows_kept) == (41, 39)
    (test / "test_demographic_qa.tsv").unlink()
    with pytest.raises(BenchmarkError, match=r"has no test_demographic_qa\.tsv"):
        build(folder, Options())


# --- bad files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_delimiters_and_marks_do_not_matter(folder: Path, delimiter: str, encoding: str) -> None:
    rows = [person(place) for place in range(20)]
    built = build(raw(folder, rows, delimiter=delimiter, encoding=encoding), Options())
    assert built.ledger.rows_kept == 20
    assert not built.ledger.dropped + built.ledger.noted


def test_the_file_itself_may_be_the_source(folder: Path) -> None:
    raw(folder, [person(place) for place in range(20)])
    assert build(folder / "WVS_wave7.csv", Options()).ledger.rows_kept == 20


def test_another_encoding_is_counted(folder: Path) -> None:
    path = raw(folder, [person(place) for place in range(5)]) / "WVS_wave7.csv"
    path.write_bytes(path.read_bytes() + ",".join(person(9, Q1="é").values()).encode("cp1252") + b"\n")
    built = build(folder, Options())
    assert built.ledger.noted == {
        "line not in UTF-8, read as Windows-1252": 1,
        "answer that is no number, made missing": 1,
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + b"\0" * 200, "a zip archive"),
        ("D_INTERVIEW,B_COUNTRY\n1,2\n".encode("utf-16"), "UTF-8"),
        (b"S007,S003,E143\n1,2,3\n", "lacks 18 column.*wave 7"),
        (b"D_INTERVIEW;B_COUNTRY;Q1\n1;2;3\n", "lacks 15 column.*wave 7"),
        (",".join(COLUMNS).encode() + b"\n", "no rows"),
        (",".join([*COLUMNS, "Q1"]).encode() + b"\n", "'Q1' twice"),
        (",".join(COLUMNS).encode() + b"\n" + b"1" * (17 * 2**20) + b"\n", "longer than 16 MiB: 1"),
    ],
)
def test_a_wrong_file_is_a_named_error(folder: Path, content: bytes, says: str) -> None:
    (folder / "data.csv").write_bytes(content)
    with pytest.raises(BenchmarkError, match=says):
        build(folder, Options())


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(BenchmarkError, match="wave 7"):
        build(folder, Options())
    raw(folder, [person(0)])
    shutil.copyfile(folder / "WVS_wave7.csv", folder / "again.csv")
    with pytest.raises(BenchmarkError, match="2 CSV files"):
        build(folder, Options())
    (folder / "again.csv").unlink()
    for broken in ("{", "[]", '{"Q1": {}}', '{"Q1": 3}'):
        text = (folder / "question_metadata.json").read_text()
        (folder / "question_metadata.json").write_text(broken)
        with pytest.raises(BenchmarkError, match=r"question_metadata\.json"):
            build(folder, Options())
        (folder / "question_metadata.json").write_text(text)
    (folder / "codebook.json").unlink()
    with pytest.raises(BenchmarkError, match=r"has no codebook\.json"):
        build(folder, Options())
    with pytest.raises(BenchmarkError, match="does not exist"):
        build(folder / "nowhere", Options())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_rows_never_crash_and_none_gets_lost(folder: Path, data: st.DataObject) -> None:
    path = raw(folder, [person(place) for place in range(6)]) / "WVS_wave7.csv"
    content = bytearray(path.read_bytes())
    first = content.index(b"\n") + 1
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(first, len(content) - 1))
        what = data.draw(
            st.sampled_from([b'"', b",", b"\n", b"\xff", b"\0", b"-", b"9" * 30, b"1e5", b"", "é".encode()])
        )
        content[at : at + data.draw(st.integers(0, 3))] = what
    path.write_bytes(bytes(content))
    try:
        built = build(folder, Options())
    except BenchmarkError:
        return
    ledger = built.ledger
    assert ledger.rows_read == ledger.rows_kept + sum(ledger.dropped.values())
    assert ledger.rows_read == sum(bool(line) for line in bytes(content[first:]).replace(b"\0", b"").split(b"\n"))
    assert ledger.rows_kept == len(everybody(built))


def test_lines_that_are_no_rows_are_counted(folder: Path) -> None:
    path = raw(folder, [person(place) for place in range(6)]) / "WVS_wave7.csv"
    with path.open("ab") as stream:
        stream.write(b'7,"1,2\n' + b"\xff,2\n" + b"1," * (9 * 2**20) + b"\n")
        stream.write(",".join(person(7, Q1="2\0").values()).encode() + b"\r\n")
    built = build(folder, Options())
    assert built.ledger.dropped == {
        UNCLOSED: 1,
        "row with more or fewer cells than the header": 1,
        "line longer than 16 MiB": 1,
    }
    assert built.ledger.noted == {
        "line not in UTF-8, read as Windows-1252": 1,
        "line with NUL characters, taken out": 1,
    }
    assert (built.ledger.rows_read, built.ledger.rows_kept) == (10, 7)
    assert everybody(built)["1007"]["Q1"] == 1
