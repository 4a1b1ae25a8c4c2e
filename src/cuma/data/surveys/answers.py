"""A survey as one row per person and question: what preference and reinforcement learning train on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from cuma.data.surveys.partial import full_profile
from cuma.data.surveys.prompts import LETTERS, question_orders, survey_messages
from cuma.data.surveys.survey import NO_ANSWER, WEIGHT, Group, Survey
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

if TYPE_CHECKING:
    from datasets import Dataset

ANSWER_COLUMNS = ("group", "question_id", "person", "prompt", "profile", "answer", "options", "scale", "weight")
"""What a row of `survey_answers` has."""


def survey_answers(
    survey: Survey,
    part: str,
    roles: Collection[str],
    *,
    profile_in_prompt: bool,
    seed: int = 0,
    weighted: bool = False,
    profile_of: Callable[[Group], Profile] = full_profile,
) -> Dataset:
    """One row per person of `part`, in groups with one of `roles`, and question that they answered.

    The order of the letters is drawn for each row from the same orders as in `survey_cells`.

    Args:
        survey: the benchmark.
        part: "train", "validation" or "test".
        roles: of the groups, and of the questions.
        profile_in_prompt: whether the profile's sentence is the system message, or the prompt says nothing about it.
        seed: of the orders.
        weighted: rows carry survey weights; without, every weight is 1.
        profile_of: what the row says of its group; asked once for each row (`FieldDropout` leaves fields out).

    Returns:
        A `datasets.Dataset` with the columns
          group, question_id   str
          person               int, the survey's running number
          prompt               messages, up to the answer
          profile              struct of the profile's fields
          answer               int: the person's answer, as the index of its letter
          options              int: how many letters there are
          scale                list of int: scale[i] is the option under letter i, on an ordinal item; empty on others
          weight               float: what the person counts in the letter loss of SFT

    Raises:
        BenchmarkError: nobody there answered anything; weights that the survey does not have.
    """
    if weighted:
        survey.require_weights()
    from datasets import Dataset  # heavy: loads pyarrow and the Hub client

    rng = np.random.default_rng(seed)
    groups = {group.id: group for group in survey.groups if group.role in roles}
    people = survey.people[(survey.people["part"] == part) & survey.people["group"].isin(list(groups))]
    rows: list[dict[str, Any]] = []
    for question in survey.with_roles(roles):
        orders = question_orders(question)
        answered = people[people[question.id] != NO_ANSWER]
        drawn = rng.integers(len(orders), size=len(answered))
        weights = answered[WEIGHT] if weighted else np.ones(len(answered))
        columns = (answered["person"], answered["group"], answered[question.id], weights, drawn)
        for person, group, answer, weight, which in zip(*columns, strict=True):
            profile, order = profile_of(groups[group]), orders[which]
            rows.append(
                {
                    "group": group,
                    "question_id": question.id,
                    "person": int(person),
                    "prompt": survey_messages(question, order, profile.sentence if profile_in_prompt else None),
                    "profile": profile.fields,
                    "answer": order.index(answer),
                    "options": len(order),
                    "scale": list(order) if question.ordinal else [],
                    "weight": float(weight),
                }
            )
    if not rows:
        raise BenchmarkError(
            f"{survey.name}: nobody in part {part!r} of the groups with role {sorted(roles)} answered a question."
        )
    return Dataset.from_list(rows)


def preference_pairs(answers: Dataset, seed: int = 0) -> Dataset:
    """DPO's pairs: the person's own letter is chosen, another one, drawn uniformly, is rejected.

    Args:
        answers: from `survey_answers`.
        seed: of the draw.

    Returns:
        TRL's conversational preference columns prompt, chosen, rejected, with profile, group and question_id.
    """
    rng = np.random.default_rng(seed)
    # Uniform over the other letters: a step of 1 to options − 1 round the circle.
    steps = 1 + rng.integers(np.asarray(answers["options"]) - 1)

    def pair(row: dict[str, Any], index: int) -> dict[str, Any]:
        other = (row["answer"] + int(steps[index])) % row["options"]
        return {"chosen": _reply(row["answer"]), "rejected": _reply(other)}

    kept = ("group", "question_id", "prompt", "profile")
    dropped = [name for name in answers.column_names if name not in kept]
    return answers.map(pair, with_indices=True, remove_columns=dropped)


def _reply(letter: int) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": LETTERS[letter]}]
