"""A population's estimates: weighted as the population is, apart by field, and never of a few people."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cuma.data.builders.poll_people import PollPeople
from cuma.data.builders.poll_sample import SampleAnswers
from cuma.data.surveys.survey import Question
from cuma.evaluation.poll import Expected
from cuma.evaluation.poll_estimates import Sampled, estimates, verdict
from cuma.metrics.mean_variance import DrawnSample
from cuma.people.profiles import Profile

TEA = Question("tea", "Do you like tea?", ("Yes", "No"), ordinal=False)
CELLS = [Profile(country="Peru"), Profile(country="Japan"), Profile()]
YES = {Profile(country="Peru"): 0.2, Profile(country="Japan"): 0.9, Profile(): 0.5}


def expected(profiles: list[Profile]) -> Expected:
    yes = np.array([YES[profile] for profile in profiles])
    return Expected(np.stack([yes, 1 - yes], axis=1), np.full(len(profiles), 0.8))


def population(known: bool = True) -> PollPeople:
    return PollPeople(tuple(CELLS), np.array([0.3, 0.6, 0.1]), ("a", "b", "c"), known, named=True)


def sample(sizes: dict[Profile, int], seed: int = 0) -> Sampled:
    """Real people, who like tea more than the model thinks."""
    profiles = [profile for profile, size in sizes.items() for _ in range(size)]
    rng = np.random.default_rng(seed)
    yes = rng.random(len(profiles)) < np.array([0.5 + YES[profile] / 2 for profile in profiles])
    ids = tuple(f"p{number}" for number in range(len(profiles)))
    answers = SampleAnswers(
        ids, tuple(profiles), 1 - yes[:, None].astype(np.int64), DrawnSample.simple(np.ones(len(ids))), ()
    )
    return Sampled(answers, [expected(profiles)])


def test_the_model_alone_is_weighted_as_the_population_is() -> None:
    found = estimates([TEA], population(), [expected(CELLS)], by="country")
    table = found.table.set_index(["value", "option"])
    assert table.loc[("", 1), "model"] == pytest.approx(0.3 * 0.2 + 0.6 * 0.9 + 0.1 * 0.5)
    assert table.loc[("Japan", 1), "model"] == pytest.approx(0.9)
    assert table.loc[("not known", 2), "model"] == pytest.approx(0.5)
    assert table["model_low"].isna().all()  # known cells are no sample
    assert "n" not in table
    assert not verdict(found)
    people = estimates([TEA], population(known=False), [expected(CELLS)]).table
    assert (people["model_low"] < people["model"]).all()
    assert (people["model"] < people["model_high"]).all()


def test_groups_of_a_few_sampled_people_are_not_shown_nor_found_by_subtraction() -> None:
    sampled = sample({CELLS[0]: 8, CELLS[1]: 100, CELLS[2]: 40})
    found = estimates([TEA], population(), [expected(CELLS)], "country", sampled)
    table = found.table[found.table["option"] == 1].set_index("value")
    assert table.loc["", "n"] == 148
    assert table.loc["Japan", "n"] == 100
    shown = ["n", "classical", "classical_low", "rectified", "rectified_high", "tuning", "people_gained"]
    assert table.loc[["Peru", "not known"], shown].isna().all(axis=None)  # 148 - 100 - 40 would be 8
    assert table.loc[["Peru", "not known"], "model"].notna().all()
    assert found.hidden == 2
    few = estimates([TEA], population(), [expected(CELLS)], None, sample({CELLS[1]: 10}))
    cells = PollPeople(tuple(CELLS[:2]), np.array([0.4, 0.6]), ("1", "2"), known=True)
    assert estimates([TEA], cells, [expected(CELLS[:2])], "country", sampled).elsewhere == 40
    assert few.hidden == 1
    assert not few.whole
    assert few.table["classical"].isna().all()


def test_the_three_estimates_stand_side_by_side_and_the_sentences_say_what_they_are_worth() -> None:
    sampled = sample({CELLS[0]: 120, CELLS[1]: 240, CELLS[2]: 40}, seed=1)
    found = estimates([TEA], population(), [expected(CELLS)], None, sampled)
    row = found.table.iloc[0]
    truth = 0.3 * 0.6 + 0.6 * 0.95 + 0.1 * 0.75
    assert row["rectified_low"] <= truth <= row["rectified_high"]
    assert row["model"] < row["rectified_low"]
    assert row["rectified_high"] - row["rectified_low"] < row["classical_high"] - row["classical_low"]
    assert row["people_gained"] == pytest.approx(400 * (found.whole["tea"].gain - 1), abs=0.05)
    first, second = verdict(found)
    assert first.startswith("The model helped on 1 of 1 question: 400 sampled people with it are worth about 4")
    assert "beyond chance on 1 of 1 question" in second


def test_sampled_people_who_are_in_the_list_make_it_less_sure() -> None:
    sampled = sample({CELLS[0]: 30, CELLS[1]: 60, CELLS[2]: 10})
    profiles = [CELLS[number % 3] for number in range(300)]
    variances = []
    for ids in ([f"other {number}" for number in range(300)], [f"p{number}" for number in range(300)]):
        people = PollPeople(tuple(profiles), np.full(300, 1 / 300), tuple(ids), False, named=True)
        variances.append(estimates([TEA], people, [expected(profiles)], None, sampled).whole["tea"])
    apart, among = variances
    assert among.rectified.variance.sum() > apart.rectified.variance.sum()
    pd.testing.assert_series_equal(pd.Series(among.classical.shares), pd.Series(apart.classical.shares))
