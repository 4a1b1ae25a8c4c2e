"""Who a run was trained on, as counts of people: what its model card can say without the data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cuma.data.surveys.survey import Group, Survey
from cuma.people.profiles import FIELDS
from cuma.privacy.small_groups import MIN_PEOPLE, hidden

FREE_TEXT = ("description",)
"""Profile fields that hold a sentence of the person's own: their values are never recorded."""


def population(survey: Survey, part: str, roles: tuple[str, ...]) -> dict[str, Any]:
    """What run.json records of the people of one part in groups with one of `roles`.

    Returns:
        questions: as in scores.json. people: how many; None if there are fewer than 11. groups: label → people, without
        the groups that a report would leave out. hidden_groups: how many those are. profile_fields: field → the values
        it takes in `groups`; none for a field of free text. profiles: {"group", "profile"} of each of `groups`, without
        free text, for pages that offer them as examples.
    """
    wanted = {group.id: group for group in survey.groups if group.role in roles}
    counted = survey.people[survey.people["part"] == part]["group"].value_counts()
    sizes = {label: int(counted.get(label, 0)) for label in wanted}
    left_out = hidden(sizes)
    shown = [group for label, group in wanted.items() if label not in left_out]
    total = sum(sizes.values())
    return {
        "questions": [asdict(question) for question in survey.questions],
        "people": total if total >= MIN_PEOPLE else None,
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
