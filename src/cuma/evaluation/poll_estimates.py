"""What a population would answer: the model alone, a sample alone, and the two together, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cuma.data.builders.poll_people import PollPeople
from cuma.data.builders.poll_sample import SampleAnswers
from cuma.data.surveys.survey import NO_ANSWER, Question
from cuma.evaluation.poll import Expected
from cuma.metrics.mean_variance import DrawnSample
from cuma.metrics.rectify import ModelMean, Rectified, model_alone, rectify
from cuma.privacy.small_groups import MIN_PEOPLE, hidden

NOT_KNOWN = "not known"
"""The value of whoever lacks the field by which estimates are told apart."""
HELPS, COSTS = 1.02, 0.99
"""From this gain on the model is said to help; under that one, to cost something."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """Real answers, and what the model expects of the same people."""

    answers: SampleAnswers
    expected: Sequence[Expected]
    """Of each question, for everybody in the sample."""


@dataclass(frozen=True, eq=False)
class PollEstimates:
    """A population's answers."""

    table: pd.DataFrame
    """A row for every question × option, of the whole and then of every value of the field."""
    whole: dict[str, Rectified]
    """question_id → the estimates of the whole population; empty without a sample."""
    hidden: int = 0
    """Parts of the population × questions of which too few people were sampled to show their answers."""
    elsewhere: int = 0
    """Sampled people whose value of the field nobody in the population has: they count in the whole alone."""


@dataclass(frozen=True, eq=False)
class _Part:
    """The whole population, or those with one value of a field."""

    labels: dict[str, str]
    people: NDArray[np.bool_]
    sampled: NDArray[np.bool_]


def estimates(
    questions: Sequence[Question],
    people: PollPeople,
    expected: Sequence[Expected],
    by: str | None = None,
    sampled: Sampled | None = None,
) -> PollEstimates:
    """The estimates of every question.

    Args:
        questions: what was asked.
        people: of whom, with their weights.
        expected: of each question, for everybody of `people`.
        by: a profile field whose values are also estimated apart; None: the whole alone.
        sampled: real answers; None: the model alone.

    Raises:
        BenchmarkError: nobody has that field.
    """
    parts = _parts(people, by, sampled)
    rows: list[dict[str, Any]] = []
    whole: dict[str, Rectified] = {}
    too_few = 0
    for number, question in enumerate(questions):
        answered = np.zeros(0) if sampled is None else sampled.answers.answers[:, number] != NO_ANSWER
        inside = [part.sampled & answered.astype(bool) for part in parts]
        few = _too_few([int(asked.sum()) for asked in inside])
        too_few += sum(bool(inside[place].any()) for place in few)
        for place, part in enumerate(parts):
            model, mass = _model_mean(people, expected[number], part.people, _shared(people, sampled, part))
            found = None
            if sampled is not None and place not in few:
                found = _rectified(sampled, number, inside[place], model)
            if found is not None and place == 0:
                whole[question.id] = found
            rows += _rows(part.labels, question, model, mass, found, sampled is not None)
    table = pd.DataFrame(rows)
    if sampled is not None:
        table["n"] = table["n"].astype("Int64")
    nowhere = 0 if by is None else int((~np.logical_or.reduce([part.sampled for part in parts[1:]])).sum())
    return PollEstimates(table, whole, too_few, nowhere)


def _parts(people: PollPeople, by: str | None, sampled: Sampled | None) -> list[_Part]:
    everybody = np.ones(len(people.profiles), dtype=bool)
    profiles = [] if sampled is None else sampled.answers.profiles
    parts = [_Part({} if by is None else {"field": "", "value": ""}, everybody, np.ones(len(profiles), dtype=bool))]
    if by is None:
        return parts
    theirs = np.array(people.values(by), dtype=object)
    others = np.array([profile.fields.get(by, "") for profile in profiles], dtype=object)
    for value in sorted(set(theirs)):
        labels = {"field": by, "value": value or NOT_KNOWN}
        parts.append(_Part(labels, np.asarray(theirs == value), np.asarray(others == value, dtype=bool)))
    return [part for part in parts if people.weights[part.people].sum() > 0]


def _too_few(sizes: Sequence[int]) -> frozenset[int]:
    """The parts of which fewer people answered than may be shown, and those that would give such a one away.

    sizes: of the whole, and of its parts.
    """
    if sizes[0] < MIN_PEOPLE:
        return frozenset(range(len(sizes)))
    return hidden({place: size for place, size in enumerate(sizes) if place})


def _shared(people: PollPeople, sampled: Sampled | None, part: _Part) -> float:
    """Which share of the part's sample is among the people, by their ids."""
    if sampled is None or not people.named or not part.sampled.any():
        return 0.0
    ids = set(people.ids)
    theirs = [name for name, inside in zip(sampled.answers.ids, part.sampled, strict=True) if inside]
    return sum(name in ids for name in theirs) / len(theirs)


def _model_mean(
    people: PollPeople, expected: Expected, rows: NDArray[np.bool_], shared: float
) -> tuple[ModelMean, float]:
    """What the model says of a part of the population, and its option mass."""
    design = DrawnSample.simple(people.weights[rows])
    shares = expected.probabilities[rows]
    mass = float(design.mean(expected.option_mass[rows][:, None])[0])
    if people.known:
        return ModelMean(design.mean(shares), np.zeros(shares.shape[1])), mass
    return ModelMean(design.mean(shares), design.variance(shares), design.effective, shared), mass


def _rectified(sampled: Sampled, number: int, rows: NDArray[np.bool_], model: ModelMean) -> Rectified | None:
    design = sampled.answers.design.of(rows)
    if not design.weights.any():
        return None
    predicted = sampled.expected[number].probabilities[rows]
    return rectify(sampled.answers.answers[rows, number], predicted, design, model)


def _rows(
    labels: dict[str, str],
    question: Question,
    model: ModelMean,
    mass: float,
    found: Rectified | None,
    sampled: bool,
) -> list[dict[str, Any]]:
    """One question's rows, an option each."""
    alone = model_alone(model)
    rows: list[dict[str, Any]] = []
    for place, text in enumerate(question.options):
        row: dict[str, Any] = {**labels, "question_id": question.id, "option": place + 1, "text": text}
        row |= {"model": alone.shares[place], "model_low": None, "model_high": None, "option_mass": mass}
        if model.variance.any():
            row |= {"model_low": alone.low[place], "model_high": alone.high[place]}
        if sampled:
            row |= _of_sample(found, place)
        rows.append(row)
    return rows


def _of_sample(found: Rectified | None, place: int) -> dict[str, Any]:
    """The columns that a sample adds; empty where too few people were asked."""
    row: dict[str, Any] = {"n": None if found is None else found.n}
    for name in ("classical", "rectified"):
        one = None if found is None else getattr(found, name)
        ends = ("shares", "low", "high")
        row |= {
            f"{name}{'' if end == 'shares' else f'_{end}'}": None if one is None else getattr(one, end)[place]
            for end in ends
        }
    gained = None if found is None else round(found.n * (found.gain - 1), 1)
    return row | {"tuning": None if found is None else found.tuning, "people_gained": gained}


def verdict(found: PollEstimates) -> list[str]:
    """Plain sentences on whether the model helped. Empty without a sample."""
    each = list(found.whole.values())
    if not each:
        return []
    people = [one.n for one in each]
    gains = np.array([one.gain for one in each])
    helped, cost = int((gains >= HELPS).sum()), int((gains < COSTS).sum())
    worth = float(np.median([one.n * one.gain for one in each]))
    beyond = sum(one.error_beyond_chance for one in each)
    off = float(np.mean([np.abs(one.error).sum() / 2 for one in each]))
    asked = f"{len(each)} question{'s' if len(each) > 1 else ''}"
    size = f"{min(people)}" if min(people) == max(people) else f"{min(people)} to {max(people)}"
    typical = "" if len(each) == 1 else " (median)"
    first = f"The model helped on {helped} of {asked}"
    first += f": {size} sampled people with it are worth about {worth:.0f} without it{typical}"
    first += f"; on {cost} it cost a little." if cost else "."
    alone = f"On its own it misses the sample's answers by {off:.0%} of the people on average, beyond chance on "
    advice = "Report the rectified shares: their intervals hold though the model errs."
    return [first, f"{alone}{beyond} of {asked}. {advice}"]
