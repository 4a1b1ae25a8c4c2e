"""Own rows of all tasks, split together: nobody, and no prompt, is in training in one task and in a test in another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from cuma.data.builders.base import Ledger, Options, Task
from cuma.data.builders.held_items import OF_ROW, is_kept, role_facts, with_roles
from cuma.data.builders.own_people import Row
from cuma.data.builders.person_splits import UNSEEN, assign, held_out, without_shared_prompts
from cuma.data.builders.share_splits import QUESTION_SPLIT, split_shares
from cuma.data.surveys.survey import ITEM_ROLES, Question
from cuma.people.profiles import Profile

CONVERSATIONS: tuple[Task, ...] = ("sft", "dpo", "grpo")


def split_rows(rows: list[Row], options: Options, ledger: Ledger) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """The rows by split, less those that belong in none; and what the card says of that."""
    tasks = tasks_in(rows)
    by_split = _by_person([row for row in rows if row.task != "distribution"], options)
    facts: dict[str, Any] = {}
    if "distribution" in tasks:
        cells, facts = _split_cells([row for row in rows if row.task == "distribution"], options, ledger)
        by_split = {split: by_split.get(split, []) + cells.get(split, []) for split in {**by_split, **cells}}
    if "survey" in tasks:
        by_split, roles = _without_held(by_split, options, ledger)
        facts |= roles
    talks = [task for task in tasks if task in CONVERSATIONS]
    if "dpo" in talks or len(talks) > 1:
        by_split = _without_shared(by_split, ledger)
    held = {name for name, role in facts.get(ITEM_ROLES, {}).items() if role != "seen"}
    ledger.note(
        "question that nobody answers in the training split",
        len(questions_of(rows, "survey") - questions_of(by_split.get("train", []), "survey") - held),
    )
    return by_split, facts


def tasks_in(rows: Iterable[Row]) -> tuple[Task, ...]:
    """The tasks that there are rows of, answers to questions first."""
    there = {row.task for row in rows}
    order: tuple[Task, ...] = ("survey", "distribution", *CONVERSATIONS)
    return tuple(task for task in order if task in there)


def questions_of(rows: Iterable[Row], *tasks: Task) -> set[str]:
    """The questions that rows of these tasks are about."""
    return {row.values["question_id"] for row in rows if row.task in tasks}


def missing_splits(by_split: Mapping[str, list[Row]], options: Options) -> list[str]:
    """What cannot be done with so few people, or with so many held out."""
    tasks = tasks_in(row for its in by_split.values() for row in its)
    there = {split: tasks_in(its) for split, its in by_split.items()}
    missing = []
    for task in tasks:
        of = f" of {task}" if len(tasks) > 1 else ""
        if task not in there.get("train", ()) and not options.all_test:
            missing.append(f"Nobody is in the training split{of}: these data cannot be trained on.")
        if task not in (*there.get("test", ()), *there.get(UNSEEN, ())):
            missing.append(
                f"Nobody is in the test split{of}: these data cannot be evaluated on. Add people, or hold some out."
            )
    return missing


def _by_person(rows: list[Row], options: Options) -> dict[str, list[Row]]:
    """The rows by split. Several people of one id stay together, unless some are held out whole.

    People are divided by group and, where there are several tasks, by those that they have rows of.
    """
    unseen = {row.person for row in rows if held_out(row.profile, options.holdout)}
    if options.all_test:
        kept = {"test": [row for row in rows if row.person not in unseen]}
        return kept | ({UNSEEN: [row for row in rows if row.person in unseen]} if unseen else {})
    several = len(tasks_in(rows)) > 1
    strata: dict[str, set[str]] = {}
    for row in rows:
        if row.person not in unseen:
            strata.setdefault(row.unit, set()).update([row.group, *([f"task {row.task}"] if several else [])])
    split_of = assign({unit: " | ".join(sorted(its)) for unit, its in strata.items()}, options.seed)
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        by_split.setdefault(UNSEEN if row.person in unseen else split_of[row.unit], []).append(row)
    return by_split


def _split_cells(rows: list[Row], options: Options, ledger: Ledger) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """Shares of groups by split, each told where its question is; and what the card says of that."""
    profiles: dict[str, list[Profile]] = {}
    for row in rows:
        profiles.setdefault(row.group, []).append(row.profile)
    items = {row.values["question_id"]: (row.values["question"], tuple(row.values["options"])) for row in rows}
    cells = [(row.values["question_id"], row.group) for row in rows]
    split = split_shares(cells, items, profiles, options, ledger)
    by_split: dict[str, list[Row]] = {}
    for row, where in zip(rows, split.splits, strict=True):
        item = split.item_split[row.values["question_id"]]
        by_split.setdefault(where, []).append(replace(row, values={**row.values, QUESTION_SPLIT: item}))
    return by_split, split.facts


def _without_held(
    by_split: dict[str, list[Row]], options: Options, ledger: Ledger
) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """The rows less answers to held-out questions where they do not belong; and what the card says of that."""
    answers = [row.values for its in by_split.values() for row in its if row.task == "survey"]
    values = {of["question_id"]: of for of in answers}
    questions = [
        Question(name, of["question"], tuple(of["options"]), of["ordinal"]) for name, of in sorted(values.items())
    ]
    asked = {question.id: question for question in with_roles(questions, options, ledger)}
    kept = {
        split: [row for row in its if row.task != "survey" or is_kept(asked[row.values["question_id"]], split)]
        for split, its in by_split.items()
    }
    ledger.drop(OF_ROW, sum(map(len, by_split.values())) - sum(map(len, kept.values())))
    return kept, role_facts(asked.values(), options)


def _without_shared(by_split: dict[str, list[Row]], ledger: Ledger) -> dict[str, list[Row]]:
    """The rows less conversations whose prompt an evaluation split has too, in whichever task."""
    talks = {split: [row for row in its if row.task in CONVERSATIONS] for split, its in by_split.items()}
    prompts = {split: [json.dumps(row.values["prompt"], sort_keys=True) for row in its] for split, its in talks.items()}
    kept, left_out = without_shared_prompts(talks, prompts)
    ledger.drop("prompt is in an evaluation split too", sum(left_out.values()))
    return {split: [row for row in its if row.task not in CONVERSATIONS] + kept[split]
            for split, its in by_split.items()}  # fmt: skip
