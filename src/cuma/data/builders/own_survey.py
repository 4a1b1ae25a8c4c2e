"""`cuma data build own --questionnaire`: a survey file, one row a respondent, as all coded answers and as survey rows.

Everything is done column by column: cells are small numbers from the file to the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Value

from cuma.data.builders.answer_table import Wide, read_answers, wide_items
from cuma.data.builders.base import SPLITS, TASKS, WHO, Built, Ledger, Options
from cuma.data.builders.held_items import OF_ROW, role_facts, with_roles, without_held
from cuma.data.builders.own_people import NOT_KNOWN
from cuma.data.builders.own_rows import WEIGHT
from cuma.data.builders.person_splits import UNSEEN, assign, check_holdout, draw, held_out
from cuma.data.builders.questionnaire import OTHER_LANGUAGE, Questionnaire
from cuma.data.builders.questionnaire_file import load_questionnaire
from cuma.data.builders.questionnaire_rules import check_columns
from cuma.data.builders.reading import no_rows
from cuma.data.builders.respondent_file import open_respondents, read_cells
from cuma.data.builders.respondents import SurveyPeople, design_table, group_fields, read_respondents
from cuma.data.surveys.survey import ALL, NO_ANSWER, Question
from cuma.errors import BenchmarkError


@dataclass(eq=False)
class SurveyFile:
    """A survey file, read by its questionnaire, and not yet split."""

    questionnaire: Questionnaire
    items: list[Wide]
    people: SurveyPeople
    answers: np.ndarray
    """[N, Q] int8 options, or `NO_ANSWER`."""
    reasons: list[Counter[str]]
    """Per item why cells are no answer → how many, of those who stay."""
    ledger: Ledger
    """Its rows are cells: one respondent and one item."""


def read_survey(source: Path, questionnaire: Path) -> SurveyFile:
    """Read a survey file by a questionnaire. Raises `BenchmarkError`; what single cells lack is counted instead."""
    asked, ledger = load_questionnaire(questionnaire), Ledger()
    file = open_respondents(source, ledger)
    columns = {column.name: column for column in file.columns}
    check_columns(asked, columns, source)
    name = str(questionnaire)
    items = wide_items(asked, name)
    used = [column for column, entry in asked.columns.items() if entry.role != "ignored"]
    cells, rows = read_cells(file, used, source, ledger, numeric=asked.of("weight", "replicate"))
    ledger.note("column of the file that the questionnaire does not name", len(columns.keys() - asked.columns.keys()))
    people = read_respondents(asked, columns, cells, rows, ledger, name)
    read = [read_answers(asked, item, columns[item.column], cells[item.column], people.stays, name) for item in items]
    answers = np.stack([coded for coded, _ in read], axis=1)
    for reason, times in file.lost.items():
        ledger.read(times * len(items))
        ledger.drop(reason, times * len(items))
    ledger.read(answers.size)
    ledger.drop("respondent left out", int((~people.stays).sum()) * len(items))
    for reason, times in sum((reasons for _, reasons in read), Counter[str]()).items():
        ledger.drop(reason, times)
    return SurveyFile(asked, items, people, answers, [reasons for _, reasons in read], ledger)


def build(source: Path, options: Options) -> Built:
    """All coded answers as tables, and at most `options.rows` of them as survey rows. Raises `BenchmarkError`."""
    if options.questionnaire is None:
        raise BenchmarkError("A survey file is built by its questionnaire: --questionnaire FILE.")
    if options.columns or options.answer_codes:
        raise BenchmarkError(
            "--column and --answer-codes are for files with one row an answer; a questionnaire tells both."
        )
    survey = read_survey(source, options.questionnaire)
    people, ledger, items = survey.people, survey.ledger, survey.items
    all_test = options.all_test or survey.questionnaire.split == "none"
    check_holdout(options.holdout, people.profiles)
    answered = (survey.answers != NO_ANSWER).any(axis=1) & people.stays
    ledger.note("respondent who answered nothing, left out", int((people.stays & ~answered).sum()))
    split = _splits(people, answered, options, all_test)
    chosen = draw(dict(zip(people.ids[answered], people.group[answered], strict=True)), options.sample, options.seed)
    stays = answered & np.array([name in chosen for name in people.ids], dtype=bool)
    ledger.drop("person not in the sample", int((survey.answers[answered & ~stays] != NO_ANSWER).sum()))
    kept = int((survey.answers[stays] != NO_ANSWER).sum())
    if not kept:
        raise no_rows(source, ledger)
    split[~stays] = ""
    questions = with_roles(asked_questions(survey), replace(options, all_test=all_test), ledger)
    ledger.keep(kept - _hold_items(survey, split, questions))
    tables = _Tables(survey, split)
    return Built(
        name="own",
        tasks={"survey": tables.sample(options.rows)},
        ledger=ledger,
        sources=(source, options.questionnaire),
        licence=survey.questionnaire.licence,
        citation=survey.questionnaire.citation,
        facts=_facts(survey, split, options, all_test) | role_facts(questions, options),
        tables={
            "answers": tables.answers(),
            "questions": {"questions": _questions(items, survey.questionnaire.languages[0])},
            **(
                {"wordings": {language: _questions(items, language) for language in survey.questionnaire.languages}}
                if len(survey.questionnaire.languages) > 1
                else {}
            ),
            **({"design": tables.design()} if people.design else {}),
        },
    )


def _splits(people: SurveyPeople, inside: np.ndarray, options: Options, all_test: bool) -> np.ndarray:
    """[N] each respondent's split. Who has one id stays together, unless some are held out whole."""
    unseen = np.array([held_out(profile, options.holdout) for profile in people.profiles], dtype=bool)[
        people.profile_of
    ]
    if all_test:
        return np.where(unseen, UNSEEN, "test").astype(object)
    groups: dict[str, set[str]] = {}
    for row in np.flatnonzero(inside & ~unseen):
        groups.setdefault(people.unit[row], set()).add(people.group[row])
    split_of = assign({unit: " | ".join(sorted(its)) for unit, its in groups.items()}, options.seed)
    return np.array(
        [UNSEEN if out else split_of.get(unit, "") for unit, out in zip(people.unit, unseen, strict=True)], dtype=object
    )


def _hold_items(survey: SurveyFile, split: np.ndarray, questions: Sequence[Question]) -> int:
    """Take answers to held-out questions out of the splits where they do not belong, and who then has none; count."""
    survey.answers, lost = without_held(survey.answers, split, questions, NO_ANSWER)
    silent = (split != "") & ~(survey.answers != NO_ANSWER).any(axis=1)
    split[silent] = ""
    survey.ledger.drop(OF_ROW, lost)
    survey.ledger.note("respondent who answered held-out questions alone, left out", int(silent.sum()))
    return lost


def _facts(survey: SurveyFile, split: np.ndarray, options: Options, all_test: bool) -> dict[str, Any]:
    asked, people = survey.questionnaire, survey.people
    there = {name for name in SPLITS if (split == name).any()}
    warnings = []
    if not all_test and "train" not in there:
        warnings.append("Nobody is in the training split: these data cannot be trained on.")
    if not there & {"test", UNSEEN}:
        warnings.append("Nobody is in the test split: these data cannot be evaluated on. Add people, or --all-test.")
    if set(people.group[split != ""]) == {NOT_KNOWN}:
        warnings.append(
            f"Nobody's {', '.join(group_fields(asked))} is known, so that all are one group. Name other fields under "
            "group_by in the questionnaire."
        )
    languages = [] if asked.languages == (OTHER_LANGUAGE,) else list(asked.languages)
    return {
        "title": asked.title,
        "unit": "cells (a respondent and an item)",
        "answers": ALL,
        "questions": len(survey.items),
        "group_by": list(group_fields(asked)),
        "languages": languages,
        "all_test": all_test,
        "guessed": sum(len(column.guessed) for column in asked.columns.values()) + len(asked.guessed),
        "splits": {name: _size(survey, split == name) for name in SPLITS if name in there},
        "design": _design(asked),
        "warnings": warnings,
        "rows_written": options.rows,
    }


def _size(survey: SurveyFile, inside: np.ndarray) -> dict[str, int]:
    return {
        "people": int(inside.sum()),
        "groups": len(set(survey.people.group[inside])),
        "answers": int((survey.answers[inside] != NO_ANSWER).sum()),
    }


def _design(asked: Questionnaire) -> dict[str, Any]:
    """What the survey's design is, and which columns tell it."""
    names: dict[str, Any] = {role: asked.column_of(role) for role in ("stratum", "unit", "weight")}
    replicate, how = list(asked.of("replicate")), asked.replicates
    replicates = None if not replicate or how is None else {"kind": how.kind, "fay": how.fay, "count": len(replicate)}
    return {
        "strata": bool(names["stratum"]),
        "units": bool(names["unit"]),
        "weights": WEIGHT if names["weight"] else None,
        "replicates": replicates,
        "source": {what: name for what, name in (names | {"replicates": replicate}).items() if name},
    }


class _Tables:
    """People and answers as arrow arrays, from which every table takes its rows."""

    def __init__(self, survey: SurveyFile, split: np.ndarray) -> None:
        self.survey, self.split, people = survey, split, survey.people
        self.rows = {name: np.flatnonzero(split == name) for name in SPLITS if (split == name).any()}
        schema = TASKS["survey"].arrow_schema
        told = [{name: getattr(profile, name) for name in WHO["profile"]} for profile in people.profiles]
        self.profile = pa.array(told, type=schema.field("profile").type)
        self.sentence = pa.array([profile.sentence for profile in people.profiles], type=pa.string())
        self.features = Features(
            {**({WEIGHT: Value("float64")} if people.weight is not None else {}), **TASKS["survey"]}
        )

    def who(self, rows: np.ndarray) -> dict[str, Any]:
        """The common columns of some respondents."""
        people, at = self.survey.people, pa.array(self.survey.people.profile_of[rows])
        weight = {} if people.weight is None else {WEIGHT: pa.array(people.weight[rows])}
        return {
            **weight,
            "profile": self.profile.take(at),
            "profile_text": self.sentence.take(at),
            "person_id": pa.array(people.ids[rows], type=pa.string()),
            "group": pa.array(people.group[rows], type=pa.string()),
        }

    def answers(self) -> dict[str, pa.Table]:
        """Split → all coded answers, a person a row."""
        people, tables = self.survey.people, {}
        for name, rows in self.rows.items():
            told = {} if people.language is None else {"language": pa.array(people.language[rows], type=pa.string())}
            coded = np.asfortranarray(self.survey.answers[rows])
            columns = {item.id: pa.array(coded[:, place]) for place, item in enumerate(self.survey.items)}
            tables[name] = pa.table(self.who(rows) | told | columns)
        return tables

    def design(self) -> dict[str, pa.Table]:
        """Split → the survey's design, a person a row."""
        return {name: design_table(self.survey.people, rows) for name, rows in self.rows.items()}

    def sample(self, size: int) -> dict[str, Dataset]:
        """Split → at most so many answers as rows, the same share of every split and question."""
        answers = self.survey.answers
        counts = [int((answers[rows] != NO_ANSWER).sum()) for rows in self.rows.values()]
        total = sum(counts)
        size = min(size, total)
        wanted = ((np.arange(size) + 0.5) * total / size).astype(np.int64)
        passed, datasets = 0, {}
        for name, rows in self.rows.items():
            people, questions = [], []
            for question in range(answers.shape[1]):
                there = rows[answers[rows, question] != NO_ANSWER]
                first, last = np.searchsorted(wanted, [passed, passed + len(there)])
                people.append(there[wanted[first:last] - passed])
                questions.append(np.full(last - first, question))
                passed += len(there)
            datasets[name] = self._rows(np.concatenate(people), np.concatenate(questions))
        return datasets

    def _rows(self, people: np.ndarray, questions: np.ndarray) -> Dataset:
        order = np.lexsort((questions, people))
        people, questions = people[order], questions[order]
        asked, at = _questions(self.survey.items, self.survey.questionnaire.languages[0]), pa.array(questions)
        data = {name: asked[name].combine_chunks().take(at) for name in asked.column_names}
        data["answer"] = pa.array(self.survey.answers[people, questions].astype(np.int64))
        data |= self.who(people)
        schema = self.features.arrow_schema
        return Dataset(pa.Table.from_arrays([data[name] for name in schema.names], schema=schema))


def asked_questions(survey: SurveyFile) -> list[Question]:
    """The items in the questionnaire's first language."""
    language = survey.questionnaire.languages[0]
    return [Question(item.id, item.texts[language], item.options[language], item.ordinal) for item in survey.items]


def _questions(items: list[Wide], language: str) -> pa.Table:
    return pa.table(
        {
            "question_id": [item.id for item in items],
            "question": [item.texts[language] for item in items],
            "options": [list(item.options[language]) for item in items],
            "ordinal": [item.ordinal for item in items],
        }
    )
