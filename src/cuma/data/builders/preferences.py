"""Conversations in which people chose among replies: what PRISM and Community Alignment have in common.

One triple for every turn and rejected reply: the person preferred the chosen reply to each of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, Value
from datasets.table import InMemoryTable
from tqdm.auto import tqdm

from cuma.data.builders.base import SPLITS, TASKS, Ledger, Options, Task, message, who
from cuma.data.builders.person_splits import SHARES, UNSEEN, assign, check_holdout, draw, held_out
from cuma.data.surveys.prompts import LETTERS
from cuma.data.surveys.splits import lot
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

NOT_KNOWN = "not known"
"""The group of people whose country is not known."""
REPLIES = 4
"""Replies among which a person chose."""
ASKED = "Which of these four replies does the person prefer? Answer with its letter alone."
_BATCH = 1_000
"""Rows that are held as Python objects at a time."""


@dataclass(frozen=True, repr=False)
class Turn:
    """One message of the person, and the replies they chose from."""

    said: str
    replies: tuple[str, ...]
    """In the data's own order."""
    chosen: int
    """Index of the reply they preferred: it becomes history for the next turn."""

    @property
    def rejected(self) -> tuple[str, ...]:
        """The other replies, each text once, less those that are the chosen one's text."""
        return tuple(text for text in dict.fromkeys(self.replies) if text != self.replies[self.chosen])


@dataclass(frozen=True, repr=False)
class Conversation:
    """Turns without a gap, and whose they are."""

    name: str
    person: str
    turns: tuple[Turn, ...]


def clean(value: Any, ledger: Ledger) -> str | None:
    """Text as it is, or None where there is none: blank, "EMPTY STRING", nan, not text at all."""
    if not isinstance(value, str):
        return None
    if value.strip() in ("", "EMPTY STRING", "nan", "NaN", "<NA>"):
        return None
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        ledger.note("text with half a character (a lone surrogate), replaced")
        value = value.encode("utf-8", "replace").decode("utf-8")
    return value


def identifier(value: Any, ledger: Ledger) -> str | None:
    """A pseudonym as text, or None."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = clean(value, ledger)
    return None if text is None else text.strip()


def group_of(profile: Profile) -> str:
    """The country of residence."""
    return profile.country or NOT_KNOWN


def place(
    conversations: list[Conversation], people: Mapping[str, Profile], options: Options, ledger: Ledger
) -> dict[str, list[Conversation]]:
    """Split → its conversations, cut where they would share a message of the person with another split.

    People are split, stratified by group; a person's conversations go with them. The sample is drawn afterwards: it
    does not move anybody. A message that people of several splits wrote belongs to one of them: to "unseen" if it
    occurs there, else by lot in the proportions of the splits, so that prompts given to many people are spread over the
    splits as people are.

    Args:
        conversations: with at least one turn each.
        people: everyone in them → profile.
        options: seed, sample and holdout are used.
        ledger: conversations that are kept or left out are counted.

    Raises:
        BenchmarkError: nobody has a value that is to be held out, or no conversation is left.
    """
    check_holdout(options.holdout, people.values())
    groups = {person: group_of(profile) for person, profile in people.items()}
    unseen = {person for person, profile in people.items() if held_out(profile, options.holdout)}
    split_of = assign({person: group for person, group in groups.items() if person not in unseen}, options.seed)
    split_of |= dict.fromkeys(unseen, UNSEEN)
    sample = draw({one.name: groups[one.person] for one in conversations}, options.sample, options.seed)
    ledger.drop("conversation not in the sample", len(conversations) - len(sample))
    drawn = [one for one in conversations if one.name in sample]

    found: dict[str, set[str]] = {}
    for one in drawn:
        for turn in one.turns:
            found.setdefault(_plain(turn.said), set()).add(split_of[one.person])
    owner = {said: _owner(said, splits, options.seed) for said, splits in found.items()}

    placed: dict[str, list[Conversation]] = {split: [] for split in SPLITS}
    for one in drawn:
        split = split_of[one.person]
        own = next((n for n, turn in enumerate(one.turns) if owner[_plain(turn.said)] != split), len(one.turns))
        ledger.drop("turn: its prompt, or one before it, is in another split too", len(one.turns) - own)
        if own:
            ledger.keep()
            placed[split].append(Conversation(one.name, one.person, one.turns[:own]))
        else:
            ledger.drop("conversation whose first prompt is in another split too")
    if not any(placed.values()):
        raise BenchmarkError(
            "no conversation could be used. Is this the data set's own file, or another version of it?"
        )
    return placed


def _plain(said: str) -> str:
    """What counts as the same prompt: capitals and spaces do not matter."""
    return " ".join(said.casefold().split())


def _owner(said: str, splits: set[str], seed: int) -> str:
    if len(splits) == 1 or UNSEEN in splits:
        return UNSEEN if UNSEEN in splits else next(iter(splits))
    shares = {split: share for split, share in SHARES.items() if split in splits}
    at = lot(said, seed, "prompt") * sum(shares.values())
    for split, share in shares.items():
        at -= share
        if at < 0:
            return split
    return next(reversed(shares))


# --- rows ------------------------------------------------------------------------------------------------------------

Row = dict[str, Any]


def history(turns: Iterable[Turn]) -> list[dict[str, str]]:
    """Messages and chosen replies, in turn."""
    return [
        part for turn in turns for part in (message("user", turn.said), message("assistant", turn.replies[turn.chosen]))
    ]


def _dpo(before: tuple[Turn, ...], turn: Turn, ledger: Ledger) -> Iterator[Row]:
    as_chosen = turn.replies.count(turn.replies[turn.chosen]) - 1
    ledger.drop("reply: rejected, but its text is the chosen one's", as_chosen)
    others = len(turn.replies) - 1 - as_chosen
    ledger.drop("reply: rejected, but its text is another rejected one's", others - len(turn.rejected))
    if not turn.rejected:
        ledger.note("turn with one reply only: for sft, not for dpo")
    for rejected in turn.rejected:
        yield {
            "prompt": [*history(before), message("user", turn.said)],
            "chosen": [message("assistant", turn.replies[turn.chosen])],
            "rejected": [message("assistant", rejected)],
        }


def _sft(before: tuple[Turn, ...], turn: Turn, ledger: Ledger) -> Iterator[Row]:
    yield {
        "prompt": [*history(before), message("user", turn.said)],
        "completion": [message("assistant", turn.replies[turn.chosen])],
    }


def _discrimination(before: tuple[Turn, ...], turn: Turn, ledger: Ledger) -> Iterator[Row]:
    """The replies keep the data's order, which knows nothing of the answer."""
    if len(turn.replies) != REPLIES:
        ledger.drop("discrimination: not four replies")
    elif turn.replies.count(turn.replies[turn.chosen]) > 1:
        ledger.drop("discrimination: another reply has the text of the preferred one")
    else:
        asked = f"{turn.said}{_lettered(turn.replies)}{ASKED}"
        yield {
            "prompt": [*history(before), message("user", asked)],
            "options": list(turn.replies),
            "answer": turn.chosen,
        }


def _lettered(replies: Sequence[str]) -> str:
    lines = "\n\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS[: len(replies)], replies, strict=True))
    return f"\n\n---\n\n{lines}\n\n---\n\n"


def reordered(
    prompt: Sequence[Mapping[str, str]], options: Sequence[str], order: Sequence[int]
) -> list[dict[str, str]]:
    """A prompt of the task "discrimination" whose letters stand before the replies in another order.

    prompt, options: the row's. order: `order[i]` is the option that is shown under letter i.
    """
    *before, last = prompt
    said = last["content"].removesuffix(f"{_lettered(options)}{ASKED}")
    shown = f"{said}{_lettered([options[option] for option in order])}{ASKED}"
    return [*map(dict, before), message("user", shown)]


_RENDER: dict[Task, Callable[[tuple[Turn, ...], Turn, Ledger], Iterator[Row]]] = {
    "dpo": _dpo,
    "sft": _sft,
    "discrimination": _discrimination,
}


def render(
    task: Task, placed: Mapping[str, list[Conversation]], people: Mapping[str, Profile], ledger: Ledger
) -> dict[str, Dataset]:
    """Split → the rows of a task, with the further columns `conversation_id` and `turn` (from 0)."""
    features = _features(task)
    result = {}
    for split, conversations in placed.items():
        bar = tqdm(conversations, desc=f"Writing {task}, {split}", unit="conversation", disable=None)
        rows = (row for one in bar for row in _rows(task, one, people[one.person], ledger))
        schema = features.arrow_schema
        tables = []
        while part := list(islice(rows, _BATCH)):
            tables.append(pa.Table.from_pylist(part, schema=schema))
        if tables:
            result[split] = Dataset(InMemoryTable(pa.concat_tables(tables)))
    return result


def _rows(task: Task, one: Conversation, profile: Profile, ledger: Ledger) -> Iterator[Row]:
    asks = who(profile, one.person, group_of(profile))
    for number, turn in enumerate(one.turns):
        for row in _RENDER[task](one.turns[:number], turn, ledger):
            yield {**row, "conversation_id": one.name, "turn": number, **asks}


def _features(task: Task) -> Features:
    own = TASKS[task]
    names = list(own)
    at = names.index("profile")
    further = {"conversation_id": Value("string"), "turn": Value("int64")}
    return Features({**{n: own[n] for n in names[:at]}, **further, **{n: own[n] for n in names[at:]}})
