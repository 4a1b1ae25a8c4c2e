"""Who a run was trained on, as counts of people: what its model card can say without the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cuma.data.corpus import Shares, shared_profile
from cuma.data.surveys.survey import Group, Question, Survey
from cuma.metrics.shares import N
from cuma.people.profiles import FIELDS
from cuma.privacy.small_groups import MIN_PEOPLE, hidden

FREE_TEXT = ("description",)
"""Profile fields that hold a sentence of the person's own: their values are never recorded."""


def population(survey: Survey, part: str, roles: tuple[str, ...]) -> dict[str, Any]:
    """What run.json records of the people of one part in groups with one of `roles`, and of the questions with one.

    Returns:
        questions: as in scores.json. people: how many; None if there are fewer than 11. groups: label → people, without
        the groups that a report would leave out. hidden_groups: how many those are. profile_fields: field → the values
        it takes in `groups`; none for a field of free text. profiles: {"group", "profile"} of each of `groups`, without
        free text, for pages that offer them as examples.
    """
    wanted = {group.id: group for group in survey.groups if group.role in roles}
    counted = survey.people[survey.people["part"] == part]["group"].value_counts()
    sizes = {label: int(counted.get(label, 0)) for label in wanted}
    total = sum(sizes.values())
    people = total if total >= MIN_PEOPLE else None
    return {**_record(survey.with_roles(roles), list(wanted.values()), sizes), "people": people}


def population_of_shares(shares: Shares) -> dict[str, Any]:
    """The same of groups whose shares were published.

    Returns:
        As `population`, but people is None: nobody counted them across questions. groups: label → the most people that
        a question's shares are of, None where that is not known. shares: how many cells were trained on.
    """
    groups, sizes = [], {}
    for label, rows in shares.table.groupby("group", sort=True):
        groups.append(Group(str(label), shared_profile(rows["profile"]), "seen"))
        most = rows[N].max() if N in rows else math.nan
        sizes[str(label)] = None if math.isnan(most) else int(most)
    return {**_record(shares.questions, groups, sizes), "people": None, "shares": len(shares.table)}


def _record(
    questions: Sequence[Question], groups: Sequence[Group], sizes: Mapping[str, int] | Mapping[str, int | None]
) -> dict[str, Any]:
    left_out = hidden({label: math.inf if size is None else size for label, size in sizes.items()})
    shown = [group for group in groups if group.id not in left_out]
    return {
        "questions": [asdict(question) for question in questions],
        "groups": {group.id: sizes[group.id] for group in shown},
        "hidden_groups": len(left_out),
        "profile_fields": _field_values(shown),
        "profiles": [{"group": group.id, "profile": _without_free_text(group)} for group in shown],
    }


def _without_free_text(group: Group) -> dict[str, str]:
    return {name: value for name, value in group.profile.fields.items() if name not in FREE_TEXT}


def _field_values(groups: list[Group]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for group in groups:
        for name, value in group.profile.fields.items():
            found.setdefault(name, set()).update(() if name in FREE_TEXT else (value,))
    return {name: sorted(found[name]) for name in FIELDS if name in found}
