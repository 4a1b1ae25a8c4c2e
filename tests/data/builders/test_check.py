"""`cuma data check` and `build` show what rows become, item by item, and nobody's row."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cuma.cli import app
from cuma.data.builders.check import summary
from cuma.data.builders.own import understand

LINES = [
    "person_id;country;age;sex;weight;question;options;answer",
    *(f"{n};Peru;{34 + n % 2}.0;Female;0,5;How is your health?;Bad|Fair|Good|Excellent;{n % 4 + 1}" for n in range(12)),
    "98;Kenya;999.0;Male;1,5;How is your health?;Bad|Fair|Good|Excellent;-1",
    "99;Kenya;;Male;1,5;Voted?;Yes|No;TRUE",
    f"99;Kenya;;Male;1,5;From 0 to 26?;{'|'.join(map(str, range(27)))};7",
    "99;Kenya;;Male;1,5;What first?;Rail|Road|Air;2",
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "mine.csv").write_text("\n".join(LINES) + "\n")
    return tmp_path / "mine.csv"


def output(*words: str) -> str:
    done = CliRunner().invoke(app, ["data", *words], env={"COLUMNS": "240"})
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_the_findings_are_told_item_by_item(source: Path) -> None:
    found = summary(understand(source))
    assert found["rows_read"] == found["rows_usable"] + sum(found["dropped"].values()) == 16
    assert found["profile_fields"]["age"]["why"] == {"age above 120, taken for a code": 1, "empty": 3}
    health, voted, points, first = found["questions"]
    assert health["codes"] == {"1": "Bad", "2": "Fair", "3": "Good", "4": "Excellent"}
    assert (health["answers"], health["left_out"]) == (12, {"answer is missing": 1})
    assert (health["ordinal"], health["ordinal_guessed"]) == (True, True)
    assert voted["codes"] == {"TRUE": "Yes"}
    assert (points["answers"], first["answers"]) == (0, 0)
    assert "more than 26 options" in next(iter(points["left_out"]))
    assert "from 0 or from 1" in next(iter(first["left_out"]))
    assert found["noted"]["age above 120, taken for a code"] == 1


def test_check_shows_what_a_row_becomes(source: Path) -> None:
    words = output("check", str(source))
    assert "16 read, 13 usable" in words
    assert "A 35-year-old woman living in Peru" in words  # the commonest values; a tie goes to the last in order
    assert "1 → Bad · 2 → Fair · 3 → Good · 4 → Excellent" in words
    assert "TRUE → Yes" in words
    assert "a scale (guessed: give `ordinal`)" in words
    assert "names (guessed: give `ordinal`)" in words
    assert "1 question with more than 26 options" in words


def test_nobody_s_own_words_or_rare_values_are_shown(tmp_path: Path) -> None:
    lines = ["question,options,answer,religion,description", *["Voted?,Yes|No,Yes,Buddhist,"] * 3]
    (tmp_path / "mine.csv").write_text(
        "\n".join([*lines, "Voted?,Yes|No,No,Zoroastrian,I live by the lighthouse"]) + "\n"
    )
    words = output("check", str(tmp_path / "mine.csv"))
    assert "A Buddhist person" in words
    assert "Zoroastrian" not in words
    assert "lighthouse" not in words


def test_build_says_the_same_as_check(source: Path, tmp_path: Path) -> None:
    words = output("build", "own", "--source", str(source), "--output", str(tmp_path / "built"))
    assert "16 rows read, 13 used" in words
    assert "Left out: From 0 to 26?: question with more than 26 options" in words
    assert "Left out: What first?: answer is a number that may count from 0 or from 1" in words
    assert "noted: question: numbers read as codes of the options, 1 the first" in words
    words = output("check", str(source), "--answer-codes", "from_one")
    assert "1 → Rail · 2 → Road · 3 → Air" in words


def test_what_training_would_refuse_is_a_warning(tmp_path: Path) -> None:
    lines = ["question,options,answer,country,group", *(f"Voted?,Yes|No,Yes,{c},all" for c in ("Peru", "Kenya") * 6)]
    source = tmp_path / "mine.csv"
    source.write_text("\n".join(lines) + "\n")
    built = output("build", "own", "--source", str(source), "--output", str(tmp_path / "built"))
    for words in (output("check", str(source)), built):
        assert "Warning: The people of no group have a profile field in common" in words
        assert "encoder.fields=false" in words


def test_splits_without_anybody_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("question,options,answer,country\nVoted?,Yes|No,Yes,Peru\n")
    words = output("build", "own", "--source", str(tmp_path / "mine.csv"), "--output", str(tmp_path / "built"))
    assert words.count("Warning: Nobody is in the") == 1
    held = ["--holdout-groups", "country=Peru", "--output", str(tmp_path / "held")]
    words = output("build", "own", "--source", str(tmp_path / "mine.csv"), *held)
    assert "Warning: Nobody is in the training split" in words
    assert "the test split" not in words


def test_codes_in_front_of_labels_are_read_and_not_told(tmp_path: Path) -> None:
    rows = [
        f"{n};{sex};{race};{school};How often?;1. Always|2. Sometimes|3. Never;{answer}"
        for n, (sex, race, school, answer) in enumerate(
            [
                ("2. Female", "1. White, non-Hispanic", "6. Bachelor's degree", "1"),
                ("2. Female", "-9. Refused", "6. Bachelor's degree", "2. Sometimes"),
                ("-8. Don't know", "2. Black, non-Hispanic", "3. Some college", "Never"),
                ("2. Female", "1. White, non-Hispanic", "6. Bachelor's degree", "99. No answer"),
            ]
        )
    ]
    (tmp_path / "coded.csv").write_text("\n".join(["person_id;sex;ethnicity;education;question;options;answer", *rows]))
    understood = understand(tmp_path / "coded.csv")
    found = summary(understood)
    assert found["sentence"] == (
        "A woman of ethnicity White, non-Hispanic who reports Bachelor's degree as their education"
    )
    assert found["profile_fields"]["ethnicity"]["why"] == {"a word or code for missing": 1}
    assert {reason: times for reason, times in found["noted"].items() if "code in front" in reason} == {
        "sex: code in front of a label, not told": 3,
        "ethnicity: code in front of a label, not told": 3,
        "education: code in front of a label, not told": 4,
        "question: options with a code in front of a label, not told": 1,
    }
    (question,) = found["questions"]
    assert question["options"] == ["Always", "Sometimes", "Never"]
    assert question["codes"]["1"] == "Always"
    assert question["left_out"] == {"answer is missing": 1}
    assert [row.values["answer"] for row in understood.rows] == [0, 1, 2]
