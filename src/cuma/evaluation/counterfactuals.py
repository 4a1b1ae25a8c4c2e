"""Change one field of a profile, or leave it out, and see how the model's gates and answers move.

A counterfactual profile is a statement about the model, never about a person: nobody is asked, and nothing is inferred
about anybody. Free text (`description`) is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from tqdm.auto import tqdm

from cuma.data.surveys.survey import Survey
from cuma.people.profiles import Profile

MAX_GROUPS = 24
"""Groups whose profiles are changed, spread evenly over all."""
MAX_VALUES = 6
"""Other values tried for a field of one group, spread evenly over those that occur."""

Answer = Callable[[Survey], tuple[pd.DataFrame, pd.DataFrame]]
"""Cells and routing of the groups of a survey, as `predict_cells` gives them."""


@dataclass(frozen=True)
class Change:
    """One field of one group's profile with another value."""

    group: str
    field: str
    before: str
    after: str | None
    """None: left out."""
    profile: Profile
    """The profile after the change."""


def spread_out(items: Sequence[str], most: int) -> list[str]:
    """At most `most` of the items, evenly spread over their order."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def changes(survey: Survey, groups: Sequence[str]) -> list[Change]:
    """Every change to make: each field of each group left out, and with values that it has in the other `groups`."""
    profiles = {group.id: group.profile for group in survey.groups}
    values: dict[str, set[str]] = {}
    for name in groups:
        for field, value in profiles[name].fields.items():
            values.setdefault(field, set()).add(value)
    values.pop("description", None)
    every = []
    for name in spread_out(groups, MAX_GROUPS):
        for field, before in profiles[name].fields.items():
            if field in values:
                others = spread_out(sorted(values[field] - {before}), MAX_VALUES)
                every += [_change(name, profiles[name], field, after) for after in (None, *others)]
    return every


def _change(group: str, profile: Profile, field: str, after: str | None) -> Change:
    return Change(group, field, profile.fields[field], after, Profile(**{**profile.fields, field: after}))


def rounds(wanted: Sequence[Change]) -> Iterator[list[Change]]:
    """The changes in rounds that hold each group once at most, as a survey does."""
    waiting: dict[str, list[Change]] = {}
    for change in wanted:
        waiting.setdefault(change.group, []).append(change)
    for number in range(max(map(len, waiting.values()), default=0)):
        yield [queue[number] for queue in waiting.values() if number < len(queue)]


def changed_survey(survey: Survey, round_: Sequence[Change]) -> Survey:
    """The survey with only the groups of a round, under their changed profiles."""
    profiles = {change.group: change.profile for change in round_}
    groups = tuple(replace(g, profile=profiles[g.id]) for g in survey.groups if g.id in profiles)
    people = survey.people[survey.people["group"].isin(profiles)].reset_index(drop=True)
    return replace(survey, groups=groups, people=people)


def answer_changes(
    survey: Survey, wanted: Sequence[Change], answer: Answer, progress: str | None = None
) -> list[tuple[Change, pd.DataFrame, pd.DataFrame]]:
    """Each change with the group's cells and routing under it."""
    results = []
    for round_ in tqdm(list(rounds(wanted)), desc=progress, unit="change", disable=progress is None):
        cells, routing = answer(changed_survey(survey, round_))
        for change in round_:
            own = routing[routing["group"] == change.group] if len(routing) else routing
            results.append((change, cells[cells["group"] == change.group], own))
    return results
