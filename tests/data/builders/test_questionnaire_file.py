"""Questionnaires: whatever is valid is read again as it was written, and whatever is not is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuma.data.builders.questionnaire import ColumnEntry, Questionnaire, ReplicateWeights, bin_texts
from cuma.data.builders.questionnaire_file import load_questionnaire, plain, read_questionnaire
from cuma.data.surveys.prompts import LETTERS
from cuma.errors import BenchmarkError
from cuma.people.profiles import FIELDS
from cuma.recipes import strict_yaml

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=12).filter(str.strip)
codes = st.one_of(
    st.integers(-99, 999).map(str), st.sampled_from(["1.5", "a", ".b", "01", "no", "1e3", "~", "Ja, sehr"])
)


@st.composite
def items(draw: st.DrawFn, languages: tuple[str, ...]) -> ColumnEntry:
    """An item in some languages, with options or bins."""

    def wording(text: str) -> Any:
        return {language: f"{text} {language}" for language in languages} if languages else text

    if draw(st.booleans()):
        cuts = tuple(float(cut) for cut in sorted(draw(st.sets(st.integers(-5, 200), min_size=3, max_size=9))))
        return ColumnEntry(role="item", text=wording(draw(texts)), bins=cuts, ordinal=True)
    listed = draw(st.lists(codes, min_size=2, max_size=7, unique=True))
    options = {code: wording(f"{number} {draw(texts)}") for number, code in enumerate(listed)}
    others = [code for code in draw(st.lists(codes, max_size=3, unique=True)) if code not in listed]
    more = {"ordinal": draw(st.booleans()), "guessed": tuple(draw(st.lists(texts, max_size=2)))}
    no_answer = dict.fromkeys(others, "Refused")
    return ColumnEntry(role="item", text=wording(draw(texts)), options=options, no_answer=no_answer, **more)


@st.composite
def questionnaires(draw: st.DrawFn) -> Questionnaire:
    """Any questionnaire that is valid."""
    languages = draw(st.sampled_from([(), ("en", "ja"), ("no", "y")]))
    columns: dict[str, ColumnEntry] = {}
    for number, name in enumerate(draw(st.lists(texts, min_size=1, max_size=4, unique=True))):
        columns[f"{name}{number}"] = draw(items(languages))
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=4, unique=True))
    for name in fields:
        columns[f"p {name}"] = ColumnEntry(role="profile", field=name, options={"1": "One", "2": "Two"})
    for role in draw(st.sets(st.sampled_from(["weight", "stratum", "unit", "person", "ignored"]))):
        columns[f"r {role}"] = ColumnEntry(role=role)
    replicates = None
    if draw(st.booleans()):
        columns["w1"] = ColumnEntry(role="replicate")
        replicates = ReplicateWeights(kind=draw(st.sampled_from(["brr", "jackknife"])), fay=0.5)
    rest = [name for name in FIELDS if name not in fields]
    everyone = dict.fromkeys(draw(st.lists(st.sampled_from(rest), max_size=2, unique=True)), "same") if rest else {}
    return Questionnaire(columns=columns, title=draw(texts), group_by=tuple(fields[:2]), everyone=everyone,
                         replicates=replicates, split=draw(st.sampled_from(["people", "none"])))  # fmt: skip


@given(questionnaires(), st.booleans())
@settings(deadline=None, max_examples=150)
def test_a_questionnaire_is_read_again_as_it_was_written(asked: Questionnaire, compact: bool) -> None:
    text = strict_yaml.dump(plain(asked), compact=compact)
    assert read_questionnaire(strict_yaml.parse(text), "q.yaml") == asked


def tree(**changes: Any) -> dict[str, Any]:
    """A valid questionnaire as YAML holds it, with some of its columns changed."""
    columns = {
        "q1": {"role": "item", "text": "Do you?", "options": {1: "Yes", 2: "No"}, "no_answer": {-9: "Refused"}},
        "sex": {"role": "profile", "field": "sex", "options": {1: "Male", 2: "Female"}},
    }
    return {"columns": columns | changes}


ITEM = {"role": "item", "text": "Do you?", "options": {1: "Yes", 2: "No"}}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (tree(q1={**ITEM, "options": {1: "Yes", 2: "No", "1.0": "Yes"}}), "the code '1' twice"),
        (tree(q1={**ITEM, "no_answer": {1: "Refused"}}), "code '1' is among options and no_answer"),
        (tree(q1={"role": "item", "options": {1: "Yes", 2: "No"}}), "needs its text"),
        (tree(q1={**ITEM, "options": {1: "Yes"}}), "at least two options"),
        (tree(q1={**ITEM, "options": {n: str(n) for n in range(len(LETTERS) + 1)}}), "Give `bins`"),
        (tree(q1={**ITEM, "bins": [0, 50, 100]}), "bins and options are both given"),
        (tree(q1={"role": "item", "text": "How warm?", "bins": [0, 100, 50]}), "cut points that rise"),
        (tree(q1={**ITEM, "optoins": {}}), "Did you mean 'options'"),
        (tree(q1={**ITEM, "field": "age"}), "field is not for the role item"),
        (tree(q1={**ITEM, "role": "itme"}), "columns.q1.role is 'itme'"),
        (tree(w={"role": "weight"}, v={"role": "weight"}), "w and v both have the role weight"),
        (tree(gender={"role": "profile", "field": "sex"}), "profile field sex is given 2 times"),
        (tree(s={"role": "profile", "field": "sexe"}), "Did you mean 'sex'"),
        (tree(s={"role": "profile", "field": "sex", "source": "birth_year"}), "birth_year is for age"),
        (tree(q2={**ITEM, "id": "q1"}), "two items are called 'q1'"),
        ({**tree(), "group_by": ["contry"]}, "group_by names 'contry'"),
        ({**tree(), "everyone": {"contry": "Peru"}}, "Did you mean 'country'"),
        ({**tree(), "colums": {}}, "Did you mean 'columns'"),
        (tree(q1={**ITEM, "options": {1: {"en": "Yes", "ja": "はい"}, 2: {"en": "No"}}}), "without the language 'ja'"),
        (
            tree(q1={**ITEM, "options": {1: {"en": "Yes", "ja": "はい"}, 2: {"en": "No", "ja": "はい"}}}),
            "alike in 'ja'",
        ),
        (tree(q1={**ITEM, "text": {"en": "Do you?"}}, l={"role": "language", "options": {1: "jp"}}), "'jp', in which"),
        (tree(w1={"role": "replicate"}), "replicates.kind says nothing.*brr"),
        ({"columns": {}}, "cuma data draft"),
        ([], "cuma data draft"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(wrong: Any, told: str) -> None:
    with pytest.raises(BenchmarkError, match=told):
        read_questionnaire(wrong, "q.yaml")


def test_numbers_are_codes_and_texts_whatever_yaml_takes_them_for(tmp_path: Path) -> None:
    path = tmp_path / "q.yaml"
    path.write_text(
        "everyone: {year: 2020}\ncolumns:\n  q: {role: item, text: Do you, options: {1: 1, 2.0: true, no: No}}\n"
    )
    asked = load_questionnaire(path)
    assert asked.columns["q"].options == {"1": "1", "2": "true", "no": "No"}
    assert asked.everyone == {"year": "2020"}


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"columns: {q: {role: item, role: item}}", "stands there twice"), (b"\xff\xfe", "not UTF-8"), (b": :", "line 1")],
)
def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "q.yaml").write_bytes(content)
    with pytest.raises(BenchmarkError, match=told):
        load_questionnaire(tmp_path / "q.yaml")


def test_bins_are_called_by_their_numbers() -> None:
    assert bin_texts((0, 25, 50, 100)) == ["0 to 24", "25 to 49", "50 to 100"]
    assert bin_texts((0, 1, 2)) == ["0", "1 to 2"]
    assert bin_texts((0.5, 1, 2.5)) == ["0.5 to under 1", "1 to 2.5"]
