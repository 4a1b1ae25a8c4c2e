"""A sample's answers beside the poll's questions, how it was drawn, and that no run is asked about its own people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.builders.poll_sample import read_sample
from cuma.data.corpus import Corpus
from cuma.data.surveys.survey import NO_ANSWER, Question
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

TEA = Question("tea", "Do you like tea?", ("Yes", "No"), ordinal=False)
MILK = Question("milk", "And milk?", ("Never", "Sometimes", "Always"), ordinal=True)


def survey(folder: Path, people: int = 60, name: str = "sample.csv", **columns: object) -> Path:
    """Everybody likes tea but every third; only the first answers the question about milk."""
    rows = [
        {"person_id": f"p{number}", "country": ("Peru", "Japan")[number % 2], "weight": 1 + number % 2,
         "question_id": "tea", "question": TEA.text, "options": "No|Yes", "answer": "No" if number % 3 == 0 else "Yes",
         **{key: value[number] for key, value in columns.items()}}  # type: ignore[index]
        for number in range(people)
    ]  # fmt: skip
    rows.append({**rows[0], "question_id": "milk", "question": MILK.text, "options": "Never|Sometimes|Always",
                 "answer": "Sometimes"})  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / name, index=False)
    return folder / name


def test_answers_are_put_beside_the_questions_whatever_the_order_of_options(tmp_path: Path) -> None:
    units = [number // 4 for number in range(60)]
    file = survey(tmp_path, stratum=["a", "b"] * 30, unit=units)
    found = read_sample(str(file), (MILK, TEA), None)
    assert found.ids[0] == "p0"
    assert found.profiles[:2] == (Profile(country="Peru"), Profile(country="Japan"))
    assert found.answers[0].tolist() == [1, 1]
    assert found.answers[1].tolist() == [NO_ANSWER, 0]
    assert (found.answers[:, 1] == 1).sum() == 20
    assert found.design.weights.tolist() == [1.0, 2.0] * 30
    assert len(np.unique(found.design.stratum)) == 2
    assert found.design.freedom == pytest.approx(30 - 2)
    worded = Question(TEA.id, "Tea?", TEA.options, ordinal=False)
    assert "the sample was asked in other words: tea" in read_sample(str(file), (worded,), None).noted
    alone = read_sample(str(survey(tmp_path)), (TEA,), None)
    assert alone.design.freedom == pytest.approx(54 - 1)  # weights of 1 and 2: Kish
    assert "the sample answers 1 more questions, which are not asked" in alone.noted


def test_a_built_folder_is_the_same_sample(tmp_path: Path) -> None:
    build("own", survey(tmp_path), tmp_path / "built", Options())
    one, other = (
        read_sample(str(tmp_path / "sample.csv"), (TEA,), None),
        read_sample(str(tmp_path / "built"), (TEA,), None),
    )
    rows = {name: place for place, name in enumerate(other.ids)}
    order = [rows[name] for name in one.ids]
    assert (one.answers == other.answers[order]).all()
    assert (one.design.weights == other.design.weights[order]).all()


def test_a_built_folder_keeps_how_people_were_drawn(tmp_path: Path) -> None:
    units = [f"u{place // 2}" for place in range(60)]
    file = survey(tmp_path, stratum=["a", "b"] * 30, unit=units)
    build("own", file, tmp_path / "built", Options())
    one, other = (read_sample(str(path), (MILK, TEA), None).design for path in (file, tmp_path / "built"))
    assert other.freedom == pytest.approx(one.freedom)
    assert other.effective == pytest.approx(one.effective)
    assert sorted(np.bincount(other.stratum)) == sorted(np.bincount(one.stratum))


def test_of_a_survey_file_all_answers_count_and_its_design(tmp_path: Path) -> None:
    wide = pd.DataFrame({"id": range(60), "h": np.arange(60) % 3, "u": np.arange(60) // 4, "tea": np.arange(60) % 2})
    wide.to_csv(tmp_path / "wide.csv", index=False)
    (tmp_path / "q.yaml").write_text(
        "everyone: {country: Peru}\ncolumns:\n  id: {role: person}\n  h: {role: stratum}\n  u: {role: unit}\n"
        f"  tea: {{role: item, text: {TEA.text!r}, options: {{0: {TEA.options[0]}, 1: {TEA.options[1]}}}}}\n"
    )
    options = Options(questionnaire=tmp_path / "q.yaml", all_test=True, rows=10)
    build("own", tmp_path / "wide.csv", tmp_path / "built", options)
    found = read_sample(str(tmp_path / "built"), (TEA,), None)
    assert found.answers[:, 0].tolist() == [0, 1] * 30
    assert len(np.unique(found.design.stratum)) == 3
    assert len(set(zip(found.design.stratum.tolist(), found.design.unit.tolist(), strict=True))) == 15 * 3


def test_of_the_data_that_a_run_was_trained_on_only_test_people_are_taken(tmp_path: Path) -> None:
    file, built = survey(tmp_path), str(tmp_path / "built")
    build("own", file, Path(built), Options())
    found = read_sample(built, (TEA,), built)
    tested = set((Corpus.open(built).rows("survey") or {})["test"]["person_id"])
    assert set(found.ids) == tested
    assert 0 < len(tested) < 60
    assert any("only the people of its test splits" in note for note in found.noted)
    with pytest.raises(BenchmarkError, match="was trained on people of"):
        read_sample(str(file), (TEA,), built)
    build("own", file, tmp_path / "other", Options(seed=1))
    with pytest.raises(BenchmarkError, match="made of the same people, in other splits"):
        read_sample(str(tmp_path / "other"), (TEA,), built)
    apart = read_sample(str(survey(tmp_path, 20, "others.csv")), (TEA,), built)
    assert any("none of the sample's people may be in the training split" in note for note in apart.noted)


def test_packaged_surveys_give_their_test_people() -> None:
    question = Question(
        "abany",
        "Should it be possible for a pregnant woman to obtain a legal abortion if she wants it for any reason?",
        ("Yes", "No"),
        ordinal=False,
    )
    found = read_sample("gss", (question,), "gss")
    assert len(found.ids) > 3000
    assert found.profiles[0].ethnicity
    with pytest.raises(BenchmarkError, match="trained on gss-all"):
        read_sample("gss", (question,), "gss-all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.assign(answer="Perhaps"), "no row that can be used"),
        (lambda table: table.assign(question_id="teas"), "Did you mean 'teas'?"),
        (lambda table: table.assign(options="No|Yes|Perhaps"), "'Perhaps' is in one of them only"),
        (lambda table: table.assign(weight=0), "every weight is 0"),
        (lambda table: table.assign(unit=["u", *[""] * (len(table) - 1)]), "people have no unit, and others have"),
        (lambda table: table.drop(columns=["question", "options"]), "`cuma data build own` makes a folder of it"),
    ],
)
def test_samples_that_cannot_be_used_say_why(tmp_path: Path, change: object, message: str) -> None:
    file = survey(tmp_path)
    change(pd.read_csv(file)[:60]).to_csv(file, index=False)  # type: ignore[operator]
    with pytest.raises(BenchmarkError) as error:
        read_sample(str(file), (TEA,), None)
    assert message in str(error.value)
