"""A survey as training and evaluation rows: one cell per group, question and order of the letters.

A cell carries how many people gave each answer. Training on a cell with its counts as weights is the same loss as
training on one respondent a row, at a cost that does not grow with the number of respondents.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cuma.data.surveys.exemplars import Exemplars
from cuma.data.surveys.partial import full_profile
from cuma.data.surveys.prompts import LETTERS, question_orders, survey_messages
from cuma.data.surveys.survey import Group, Question, Survey
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

if TYPE_CHECKING:
    from datasets import Dataset

    from cuma.data.corpus import Shares


def survey_cells(
    survey: Survey,
    part: str,
    roles: Collection[str],
    *,
    profile_in_prompt: bool,
    exemplars: Exemplars | None = None,
    weighted: bool = False,
    profile_of: Callable[[Group], Profile] = full_profile,
) -> Dataset:
    """The cells of one part of the people, over all groups and questions with one of `roles`.

    profile_in_prompt: whether the profile's sentence is the system message, or the prompt says nothing about it.
    weighted: people count with their survey weights.
    profile_of: what the cell says of its group; asked once for each cell (`FieldDropout` leaves fields out).
    exemplars: answers of training people of the group, put before the question; None: no such turns.

    Returns a `datasets.Dataset`, in the order of groups, questions and letter orders, with the columns
      group, question_id   str
      order                list of int: order[i] is the option shown under letter i
      prompt               messages, up to the answer
      profile              struct of the profile's fields, for the router; `Profile.parse` reads it
      answer_counts        list of float: people's answers, in the order *shown*: answer_counts[i] belongs to letter i
    A cell that nobody answered is left out; a part or role without any answer raises `BenchmarkError`.
    """
    from datasets import Dataset  # heavy: loads pyarrow and the Hub client

    questions = {question.id: question for question in survey.questions}
    groups = {group.id: group for group in survey.groups}
    rows: list[dict[str, Any]] = []
    for label, question_id, counts in survey.counts(part, roles, weighted=weighted).itertuples(index=False):
        if counts.sum():
            turns = exemplars(label, question_id) if exemplars else []
            profile = partial(profile_of, groups[label])
            rows += cell_rows(label, questions[question_id], profile, profile_in_prompt, counts, turns)
    if not rows:
        raise BenchmarkError(
            f"{survey.name}: nobody in part {part!r} of the groups with role {sorted(roles)} answered a question. "
            "People of held-out groups are in the part of their role; seen groups have all three parts."
        )
    return Dataset.from_list(rows)


def share_cells(
    shares: Shares,
    *,
    profile_in_prompt: bool,
    counts: bool,
    profile_of: Callable[[Group], Profile] = full_profile,
) -> Dataset:
    """The cells of groups whose shares were published, in the form of `survey_cells`: a share stands for a count.

    counts: a cell's shares times the number of its people, which is how many chose each option. Otherwise the shares.
    The other arguments as in `survey_cells`. Questions that letters do not suffice for are left out: `askable` gives
    the others. Raises `BenchmarkError` if there are none.
    """
    from datasets import Dataset

    questions = {question.id: question for question in askable(shares.questions)}
    rows: list[dict[str, Any]] = []
    for row in shares.table.to_dict("records"):
        if row["question_id"] in questions:
            group = Group(row["group"], Profile.parse(row["profile"]), "seen")
            weights = np.asarray(row["shares"], dtype=np.float64) * (row["n"] if counts else 1.0)
            told = questions[row["question_id"]], partial(profile_of, group), profile_in_prompt
            rows += cell_rows(group.id, *told, weights)
    if not rows:
        raise BenchmarkError(f"No question has at most {len(LETTERS)} options, one letter each.")
    return Dataset.from_list(rows)


def askable(questions: Iterable[Question]) -> list[Question]:
    """The questions that have no more options than there are letters."""
    return [question for question in questions if len(question.options) <= len(LETTERS)]


def cell_rows(
    group: str,
    question: Question,
    profile_of: Callable[[], Profile],
    profile_in_prompt: bool,
    counts: Sequence[float] | NDArray[Any] | None = None,
    turns: Sequence[dict[str, str]] = (),
) -> list[dict[str, Any]]:
    """One cell's rows, a row for each order of the letters.

    profile_of: what a row says of the group, asked once for each. counts: of the options; None: no answer_counts.
    turns: put before the question.
    """
    rows: list[dict[str, Any]] = []
    for order in question_orders(question):
        profile = profile_of()
        system, asked = survey_messages(question, order, profile.sentence if profile_in_prompt else None)
        row = {
            "group": group,
            "question_id": question.id,
            "order": list(order),
            "prompt": [system, *turns, asked],
            "profile": profile.fields,
        }
        rows.append(row if counts is None else {**row, "answer_counts": [float(counts[option]) for option in order]})
    return rows


NO_GROUP = ""
"""The group of `unsteered_rows`."""


def unsteered_rows(questions: Iterable[Question]) -> list[dict[str, Any]]:
    """Every question in every letter order, asked of nobody in particular: what a model says when it is told nothing.

    Columns as in `survey_cells`, less answer_counts; the group is `NO_GROUP` and the profile has no field.
    """
    return [row for question in questions for row in cell_rows(NO_GROUP, question, Profile, False)]
