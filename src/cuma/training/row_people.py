"""Whose rows these are: the embeddings of everybody in the data, and of whoever comes up later."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import torch
from datasets import IterableDataset
from torch import Tensor

from cuma.errors import ConfigError
from cuma.people.encoder import ProfileEncoder
from cuma.people.profile_table import ProfileTable
from cuma.people.profiles import Profile
from cuma.training.batches import PROFILE, no_profile, profiles_of

logger = logging.getLogger(__name__)
HEAD = 10_000
"""Rows of a stream from which a fresh adapter's statistics are taken: it may have no end."""
RECENT = 50_000
"""Newcomers whose embeddings are kept in memory."""


class People:
    """The embeddings of the data's people. Of a stream, and of rows that come later (`trainer.evaluate`), nobody knows
    beforehand whose they are: newcomers are encoded as they come."""

    def __init__(self, encoder: ProfileEncoder | None, table: ProfileTable | None, datasets: Iterable[Any]) -> None:
        """Args:
            encoder: encodes the profiles.
            table: embeddings that exist already, instead of the encoder.
            datasets: what TRL's trainers take: datasets, streams, dicts of them, None.

        Raises:
            ConfigError: neither an encoder nor a table is given.
            ProfileError: a dataset has no column `profile`.
        """
        parts = [part for dataset in datasets for part in _parts(dataset)]
        for part in parts:
            if PROFILE not in columns(part):
                raise no_profile()
        if table is None:
            if encoder is None:
                raise ConfigError(
                    "the adapter's router reads profiles: pass profile_encoder=ProfileEncoder.from_pretrained(…)."
                )
            known = (profile for part in parts if not is_stream(part) for profile in part[PROFILE])
            table = ProfileTable(encoder, known)
        self.table = table
        self._recent: dict[Profile, Tensor] = {}

    def __call__(self, profiles: Sequence[Any]) -> Tensor:
        """[B, D]: one row for each profile, whoever it is."""
        parsed = [Profile.parse(profile) for profile in profiles]
        new = [one for one in dict.fromkeys(parsed) if one not in self.table and one not in self._recent]
        if new:
            if len(self._recent) + len(new) > RECENT:
                self._recent = {one: self._recent[one] for one in parsed if one in self._recent}
            self._recent.update(zip(new, self.table.newcomers(new), strict=True))
        elif all(one in self.table for one in parsed):
            return self.table(parsed)
        return torch.stack([self._recent[one] if one in self._recent else self.table([one])[0] for one in parsed])

    @property
    def fingerprint(self) -> str:
        """A digest of who has which embedding: the control's is another."""
        return hashlib.sha256(self.table.embeds.contiguous().numpy()).hexdigest()

    def admit(self, profiles: Iterable[Any]) -> None:
        """Give newcomers rows of the table, behind those that are there."""
        new = [one for one in dict.fromkeys(map(Profile.parse, profiles)) if one not in self.table]
        if new:
            self.table = self.table.extended(new)

    def fit(self, model: Any, dataset: Any) -> None:
        """Set a fresh adapter's statistics from the distinct profiles of the training rows; of a stream, of its head.

        Statistics are over kinds of people, not over how often they were asked.
        """
        profiles = profiles_of(islice(dataset, HEAD)) if is_stream(dataset) else dataset[PROFILE]
        distinct = list({repr(profile): profile for profile in profiles}.values())
        if is_stream(dataset):
            logger.warning(
                "The training data are a stream: the adapter's profile statistics are those of the %d different "
                "profiles in its first %d rows. Call model.fit_profiles first to take others.",
                len(distinct),
                len(profiles),
            )
        model.fit_profiles(self(distinct))


def columns(dataset: Any) -> list[str]:
    """A dataset's columns; those of its first row if they are not known beforehand."""
    return list(next(iter(dataset), {})) if dataset.column_names is None else dataset.column_names


def is_stream(dataset: Any) -> bool:
    """Whether rows can only be read one after another."""
    return isinstance(dataset, IterableDataset)


def _parts(dataset: Any) -> list[Any]:
    return list(dataset.values()) if isinstance(dataset, dict) else [] if dataset is None else [dataset]
