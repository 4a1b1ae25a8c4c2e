"""Every distinct profile encoded once: the table that batches look their people up in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from cuma.profiles import Profile
from cuma.tuner.encoder import ProfileEncoder


class ProfileTable:
    """Raw embeddings of a set of profiles.

    Attributes:
        encoder: made the embeddings.
        profiles: the distinct profiles, sorted by sentence.
        embeds: [N, D] fp32, their raw embeddings in that order.
    """

    def __init__(self, encoder: ProfileEncoder, profiles: Iterable[Any]) -> None:
        """Args:
        encoder: the frozen sentence encoder.
        profiles: dicts of fields, sentences, `Profile`s or None; repeats cost nothing.
        """
        self.encoder = encoder
        distinct = {Profile.parse(profile) for profile in profiles}
        self.profiles = sorted(distinct, key=lambda profile: (profile.sentence, sorted(profile.fields)))
        self.embeds = encoder(self.profiles)
        self._row = {profile: row for row, profile in enumerate(self.profiles)}

    def __call__(self, profiles: Sequence[Any]) -> Tensor:
        """[B, D]: one row for each profile. A profile that was not in the set raises KeyError (without its text)."""
        return self.embeds[torch.tensor(self.rows(profiles), dtype=torch.long)]

    def rows(self, profiles: Sequence[Any]) -> list[int]:
        """Where in `embeds` each profile is. One that was not in the set raises KeyError (without its text)."""
        found = [self._row.get(Profile.parse(profile)) for profile in profiles]
        known = [row for row in found if row is not None]
        if len(known) < len(found):
            unknown = len(found) - len(known)
            raise KeyError(f"{unknown} of {len(found)} profiles are not in the table: build it from all of them.")
        return known

    def covering(self, profiles: Iterable[Any]) -> ProfileTable:
        """A table of these profiles as well; what is encoded already is not encoded again (the encoder caches)."""
        return ProfileTable(self.encoder, [*self.profiles, *profiles])

    def shuffled(self, seed: int) -> ProfileTable:
        """The control: the same embeddings, dealt out to the wrong profiles by one fixed permutation.

        Every non-empty profile gets another's embedding (a cyclic shift of a random order), so the router still gets a
        key for each group but no meaning.
        """
        present = [row for row, profile in enumerate(self.profiles) if profile]
        generator = torch.Generator().manual_seed(seed)
        order = torch.tensor(present)[torch.randperm(len(present), generator=generator)]
        other = ProfileTable.__new__(ProfileTable)
        other.encoder, other.profiles, other._row = self.encoder, self.profiles, self._row
        other.embeds = self.embeds.clone()
        other.embeds[order] = self.embeds[order.roll(1)]
        return other
