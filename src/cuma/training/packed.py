"""Rows that hold several people: padding-free batches and packing, where every token is routed by its own person."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from trl import pack_dataset

from cuma.errors import UnsupportedError
from cuma.training.batches import PROFILE, profiles_of
from cuma.training.row_people import People, is_stream

if TYPE_CHECKING:
    from datasets import Dataset

TOKEN_PROFILES = "token_profiles"
"""The column of a packed dataset that says whose each token is: a row of the table."""
NOBODY = -1
"""In `profile_rows`: padding."""


def check_packing(args: Any) -> None:
    """Raise an UnsupportedError for the forms of packing in which one person would read another's text."""
    if args.packing and args.packing_strategy == "wrapped":
        raise UnsupportedError(
            "packing_strategy='wrapped' is not supported with a router that reads profiles: it lets each person read "
            "the text before theirs. Set packing_strategy='bfd' or 'bfd_split'."
        )
    if args.eval_packing and not args.packing:
        raise UnsupportedError(
            "eval_packing=True without packing=True is not supported with a router that reads profiles: TRL then pads "
            "packed rows, and each person would read the text before theirs. Set eval_packing=False."
        )


def pack_people(dataset: Dataset, people: People, args: Any) -> Dataset:
    """TRL's packing of tokenised rows, which knows lists as long as input_ids only: so each token says whose it is.

    Args:
        dataset: columns input_ids, labels and profile, not truncated.
        people: gives each of them a row.
        args: TRL's SFTConfig: max_length, packing_strategy, shuffle_dataset, seed, dataset_num_proc.

    Returns:
        columns input_ids, labels, token_profiles and seq_lengths.

    Raises:
        UnsupportedError: the dataset is a stream.
    """
    if is_stream(dataset):
        raise UnsupportedError(
            "packing=True is not supported with a stream and a router that reads profiles: a packed token says whose "
            "it is by that person's number, and a stream's people are not known. Set packing=False and "
            "padding_free=True, which pads as little, or load the rows (Dataset.from_list)."
        )
    people.admit(dataset[PROFILE])

    def mark(row: Mapping[str, Any]) -> dict[str, list[int]]:
        return {TOKEN_PROFILES: people.table.rows([row[PROFILE]]) * len(row["input_ids"])}

    # In this process and never from datasets' cache: that would key on a fingerprint of the whole table.
    marked = dataset.map(mark, desc="Noting whose each token is", load_from_cache_file=False)
    marked = marked.select_columns(["input_ids", "labels", TOKEN_PROFILES])
    if args.shuffle_dataset:
        marked = marked.shuffle(seed=args.seed)
    packed = pack_dataset(
        marked, args.max_length, args.packing_strategy, {"num_proc": args.dataset_num_proc, "desc": "Packing"}
    )
    return packed.shuffle(seed=args.seed) if args.shuffle_dataset else packed


def without_truncation(args: Any) -> Any:
    """`args` as TRL needs them to tokenise rows that are packed afterwards."""
    whole = copy.copy(args)
    whole.max_length, whole.shuffle_dataset = None, False
    return whole


class PackedProfileCollator:
    """TRL's padding-free collator, which makes one row of all, plus whose each token is."""

    def __init__(self, inner: Callable[[list[dict[str, Any]]], dict[str, Any]], people: People) -> None:
        """Args:
        inner: TRL's collator with padding_free=True.
        people: whose rows these are.
        """
        self.inner = inner
        self.people = people

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns what `inner` returns, profile_embeds [P, D] and profile_rows [1, T] (−1 for padding)."""
        batch = self.inner(
            [{key: value for key, value in row.items() if key not in (PROFILE, TOKEN_PROFILES)} for row in rows]
        )
        places, embeds = self._packed(rows) if TOKEN_PROFILES in rows[0] else self._whole(rows)
        profile_rows = torch.full_like(batch["input_ids"], NOBODY)
        profile_rows[0, : len(places)] = places
        return {**batch, "profile_embeds": embeds, "profile_rows": profile_rows}

    def _packed(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
        """[T] each token's row of the embeddings, which are [P, D]: of rows that hold several people."""
        of_tokens = torch.cat([torch.tensor(row[TOKEN_PROFILES]) for row in rows])
        known, places = of_tokens.unique(return_inverse=True)
        return places, self.people.table.embeds[known]

    def _whole(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
        """The same of rows of one person each."""
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        return torch.arange(len(rows)).repeat_interleave(lengths), self.people(profiles_of(rows))
