"""Partial people: profiles with some of their fields left out, for training and for measuring what that costs.

Half a profile is the rule, not the exception: people skip questions, and nothing is inferred in their place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cuma.data.surveys.survey import Group, Survey
from cuma.people.profiles import Profile


def full_profile(group: Group) -> Profile:
    """Everything that is known of the group."""
    return group.profile


class FieldDropout:
    """Leaves each present field out with the same probability, anew at every call, from one seeded stream."""

    def __init__(self, probability: float, seed: int) -> None:
        """Args:
        probability: of each field, in [0, 1].
        seed: of the stream.
        """
        self.probability = probability
        self._rng = np.random.default_rng(seed)

    def __call__(self, group: Group) -> Profile:
        """The group's profile without the fields that were drawn."""
        return self.of(group.profile)

    def of(self, profile: Profile) -> Profile:
        """A profile without the fields that were drawn."""
        fields = profile.fields
        kept = self._rng.random(len(fields)) >= self.probability
        return Profile(**{name: fields[name] for name, keep in zip(fields, kept, strict=True) if keep})


def keep_fields(survey: Survey, share: float, seed: int = 0) -> Survey:
    """The survey with only `share` of each group's fields, drawn at random: round(share · n) of n.

    With the same seed a smaller share keeps a part of what a larger one keeps, so that a curve over shares compares
    like with like.
    """
    rng = np.random.default_rng(seed)
    groups = []
    for group in survey.groups:
        fields = group.profile.fields
        kept = {list(fields)[place] for place in rng.permutation(len(fields))[: round(share * len(fields))]}
        groups.append(replace(group, profile=Profile(**{name: fields[name] for name in fields if name in kept})))
    return replace(survey, groups=tuple(groups))
