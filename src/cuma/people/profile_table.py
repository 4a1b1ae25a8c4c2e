"""Every distinct profile encoded once: the table that batches look their people up in."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cuma.models.hub import cache_folder
from cuma.people.encoder import ProfileEncoder
from cuma.people.profiles import Profile

IN_MEMORY = 256 * 2**20
"""Bytes of embeddings up to which a table is kept in memory (170,000 people with MiniLM); a larger one is read from
disk as batches ask for it."""
AT_ONCE = 8192
"""Rows made at once for a table on disk."""


class ProfileTable:
    """Raw embeddings of a set of profiles.

    Attributes:
        encoder: made the embeddings.
        profiles: the distinct profiles, sorted by sentence.
        embeds: [N, D] fp32, their raw embeddings in that order; a large table's lie on disk, in a file without a name
            that ends with the process.
    """

    def __init__(self, encoder: ProfileEncoder, profiles: Iterable[Any]) -> None:
        """Args:
        encoder: the frozen sentence encoder.
        profiles: dicts of fields, sentences, `Profile`s or None; repeats cost nothing.
        """
        self.encoder = encoder
        distinct = {Profile.parse(profile) for profile in profiles}
        self.profiles = sorted(distinct, key=lambda profile: (profile.sentence, sorted(profile.fields)))
        self.embeds = _filled(len(self.profiles), encoder.dim, lambda rows: encoder(self.profiles[rows]))
        self._row = {profile: row for row, profile in enumerate(self.profiles)}
        self._present: list[Profile] = []  # of a shuffled table: whose embeddings are dealt out

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

    def __contains__(self, profile: object) -> bool:
        return profile in self._row

    def newcomers(self, profiles: Sequence[Profile]) -> Tensor:
        """[n, D] of people who are not in the table; in a shuffled one somebody else's, as in `covering`."""
        made = self.encoder(profiles)
        for place, profile in enumerate(profiles):
            if self._present and profile:
                made[place] = self.embeds[self._row[self._dealt(profile)]]
        return made

    def extended(self, profiles: Sequence[Profile]) -> ProfileTable:
        """A table of these newcomers as well, in rows behind those that are there."""
        other = ProfileTable.__new__(ProfileTable)
        other.encoder, other._present = self.encoder, self._present
        other.profiles = [*self.profiles, *profiles]
        other.embeds = torch.cat([self.embeds, self.newcomers(profiles)])
        other._row = {profile: row for row, profile in enumerate(other.profiles)}
        return other

    def _dealt(self, profile: Profile) -> Profile:
        """Whose embedding a newcomer to a shuffled table gets: always the same person's, by the newcomer's sentence."""
        return self._present[zlib.crc32(profile.sentence.encode()) % len(self._present)]

    def covering(self, profiles: Iterable[Any]) -> ProfileTable:
        """A table of these profiles as well. Those that are there keep their embeddings, and a shuffled table stays
        shuffled: who is new to it gets the embedding of somebody who is there, always the same one, by their sentence.
        """
        new = {Profile.parse(profile) for profile in profiles} - self._row.keys()
        if not new:
            return self
        other = ProfileTable(self.encoder, [*self.profiles, *new])
        kept = torch.tensor([other._row[profile] for profile in self.profiles], dtype=torch.long)
        other.embeds[kept] = self.embeds
        if self._present:  # of a shuffled table
            other._present = self._present
            for profile in filter(None, new):
                other.embeds[other._row[profile]] = self.embeds[self._row[self._dealt(profile)]]
        return other

    def shuffled(self, seed: int) -> ProfileTable:
        """The control: the same embeddings, dealt out to the wrong profiles by one fixed permutation.

        Every non-empty profile gets another's embedding (a cyclic shift of a random order), so the router still gets a
        key for each group but no meaning.
        """
        present = [row for row, profile in enumerate(self.profiles) if profile]
        generator = torch.Generator().manual_seed(seed)
        order = torch.tensor(present)[torch.randperm(len(present), generator=generator)]
        source = torch.arange(len(self.profiles))
        source[order] = order.roll(1)
        other = ProfileTable.__new__(ProfileTable)
        other.encoder, other.profiles, other._row = self.encoder, self.profiles, self._row
        other._present = [self.profiles[row] for row in present]
        other.embeds = _filled(len(source), self.embeds.shape[1], lambda rows: self.embeds[source[rows]])
        return other


def _filled(rows: int, columns: int, make: Callable[[slice], Tensor]) -> Tensor:
    """[rows, columns] of what `make` says about slices of rows: in memory or, if that would be too much, on disk."""
    if 4 * columns * rows <= IN_MEMORY:
        return make(slice(0, rows))
    embeds = _on_disk(rows, columns)
    for start in range(0, rows, AT_ONCE):
        part = slice(start, min(start + AT_ONCE, rows))
        embeds[part] = make(part)
    return embeds


def _on_disk(rows: int, columns: int) -> Tensor:
    """[rows, columns] fp32 zeros in a file of the cache's folder that has no name: nobody else can open it, and nothing
    about anybody is left behind."""
    folder = cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, columns)))
