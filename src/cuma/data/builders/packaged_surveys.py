"""Surveys that come in a Python package, as tasks on disk."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
from datasets import Dataset

from cuma.data.builders.base import SPLITS, TASKS, Built, Ledger, Options, Task, who
from cuma.data.builders.held_items import OF_PERSON, is_kept, role_facts, with_roles
from cuma.data.builders.letter_conversations import in_letters
from cuma.data.builders.person_splits import UNSEEN, check_holdout, draw, held_out
from cuma.data.catalog import PACKAGED, function_named
from cuma.data.surveys.survey import NO_ANSWER, Group, Question, Survey
from cuma.errors import BenchmarkError


def build(name: str, options: Options) -> Built:
    """A packaged survey: one `survey` row for every answer, and conversations and preference pairs with letters.

    People of the benchmark's test groups are "unseen", or those of `options.holdout`.
    """
    load = function_named(PACKAGED[name].to_build or PACKAGED[name].survey)
    holdout = partial(held_out, holdout=options.holdout) if options.holdout else None
    takes, how = signature(load).parameters, dict[str, Any]()
    if options.group_by:
        if "group_by" not in takes:
            raise BenchmarkError(f"--group-by is not for {name}, whose groups are made of the same fields always.")
        how["group_by"] = options.group_by
    own_roles = "held_items" in takes
    if own_roles and options.holdout_items is not None:
        how["held_items"] = options.holdout_items
    survey = load(options.seed, holdout=holdout, **how)
    check_holdout(options.holdout, (group.profile for group in survey.groups))
    ledger = Ledger(rows_read=survey.card["rows_read"])
    if not own_roles:
        survey = replace(survey, questions=with_roles(survey.questions, options, ledger))
    for reason, times in survey.card["dropped"].items():
        ledger.drop(reason, times)
    for what, times in survey.card.get("noted", {}).items():
        ledger.note(what, times)
    people = _sampled(survey, options, ledger)
    ledger.keep(len(people))
    tasks = survey_tasks(survey, people, options)
    answers = (people[[question.id for question in survey.questions]] != NO_ANSWER).to_numpy().sum()
    ledger.drop(OF_PERSON, int(answers) - sum(map(len, tasks["survey"].values())))
    told = ("source", "data_version", "rule", "years", "sisters")
    facts = {key: survey.card[key] for key in told if key in survey.card}
    facts |= role_facts(survey.questions, options)
    return Built(name, tasks, ledger, (), survey.card["licence"], survey.card["citation"], facts)


def _sampled(survey: Survey, options: Options, ledger: Ledger) -> Any:
    people = survey.people
    group_of = dict(zip(people["person"].astype(str), people["group"], strict=True))
    chosen = draw(group_of, options.sample, options.seed)
    inside = people["person"].astype(str).isin(chosen)
    ledger.drop("person not in the sample", int((~inside).sum()))
    return people[inside]


def survey_tasks(survey: Survey, people: Any, options: Options) -> dict[Task, dict[str, Dataset]]:
    """survey, sft and dpo rows of some of the survey's people, less answers to held-out questions where they do not
    belong; at most `options.rows` of the last two a split."""
    groups = {group.id: group for group in survey.groups}
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for question in survey.questions:
        answered = people[people[question.id] != NO_ANSWER]
        columns = (answered["person"], answered["group"], answered["part"], answered[question.id])
        for person, group, part, answer in zip(*columns, strict=True):
            split = UNSEEN if groups[group].role == "test" else part
            if is_kept(question, split):
                rows[split].append(_answer(survey.name, question, groups[group], int(person), int(answer)))
    by_id = {question.id: question for question in survey.questions}
    tasks: dict[Task, dict[str, Dataset]] = {"survey": {}, "sft": {}, "dpo": {}}
    for split, its in rows.items():
        if not its:
            continue
        tasks["survey"][split] = Dataset.from_list(its, features=TASKS["survey"])
        rng = np.random.default_rng([options.seed, SPLITS.index(split)])
        places = np.sort(rng.permutation(len(its))[: options.rows])
        letters = [in_letters(by_id[its[place]["question_id"]], its[place], rng) for place in places]
        tasks["sft"][split] = Dataset.from_list([sft for sft, _ in letters], features=TASKS["sft"])
        tasks["dpo"][split] = Dataset.from_list([dpo for _, dpo in letters], features=TASKS["dpo"])
    return tasks


def _answer(name: str, question: Question, group: Group, person: int, answer: int) -> dict[str, Any]:
    return {
        "question_id": question.id,
        "question": question.text,
        "options": list(question.options),
        "answer": answer,
        "ordinal": question.ordinal,
        **who(group.profile, f"{name}-{person}", group.id),
    }
