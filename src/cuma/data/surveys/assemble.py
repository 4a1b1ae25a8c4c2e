"""From usable rows to a split `Survey`: the last steps, the same for every survey, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

import cuma
from cuma.data.surveys.splits import SHARES, beyond_cap, split_groups, split_people
from cuma.data.surveys.survey import NO_ANSWER, ROLES, Group, Part, Question, Role, Survey
from cuma.people.profiles import Profile


@dataclass
class Sieve:
    """Drops rows and counts them by reason, so that nothing disappears in silence."""

    rows: pd.DataFrame
    dropped: dict[str, int] = field(default_factory=dict)

    def keep(self, wanted: pd.Series, otherwise: str) -> None:
        """Keep the rows where `wanted`; count the others under the reason `otherwise`. A row's first reason counts."""
        self.dropped[otherwise] = int((~wanted).sum())
        self.rows = self.rows[wanted]


def assemble(
    name: str,
    sieve: Sieve,
    questions: tuple[Question, ...],
    profiles: Mapping[str, Profile],
    sizes: Mapping[Role, int],
    *,
    key: list[str],
    seed: int,
    card: dict,
    train_cap: int | None = None,
    roles: Mapping[str, Role] | None = None,
    trained_only: Collection[str] = (),
    shares: Mapping[Part, float] = SHARES,
) -> Survey:
    """Number the people, split them, and write the card.

    sieve: the usable rows, with `group`, the columns of `key`, and per question a column of indices or `NO_ANSWER`.
    profiles: every group's label → its profile; sizes: how many groups each role gets.
    key: the survey's own identity of a person, which orders the numbering and is then left behind.
    train_cap: at most so many training people a group; the others are dropped and counted.
    roles: of groups whose role is not drawn; `sizes` is then about the others.
    trained_only: seen groups whose people are all training people; `sizes` is about the others.
    shares: how the people of the other seen groups are divided.
    """
    ids = [question.id for question in questions]
    rows_read = len(sieve.rows) + sum(sieve.dropped.values())
    sieve.keep((sieve.rows[ids] != NO_ANSWER).any(axis=1), f"answered none of the {len(ids)} questions")
    people = sieve.rows.sort_values(["group", *key])[["group", *ids]].reset_index(drop=True)
    people.insert(0, "person", people.index.to_numpy("int64"))
    settled: dict[str, Role] = {**(roles or {}), **dict.fromkeys(trained_only, "seen")}
    drawn = split_groups([label for label in profiles if label not in settled], sizes, seed)
    roles = dict(sorted({**drawn, **settled}.items()))
    people.insert(2, "part", split_people(people, roles, seed, shares))
    people["part"] = people["part"].mask(people["group"].isin(trained_only), "train")
    if train_cap is not None:
        sieve.rows = people
        sieve.keep(~beyond_cap(people, train_cap, seed), f"beyond {train_cap} training people of the group")
        people = sieve.rows.reset_index(drop=True)
    groups = tuple(Group(label, profiles[label], role) for label, role in roles.items())
    counted = {
        "rows_read": rows_read,
        "dropped": sieve.dropped,
        "kept": len(people),
        **_sizes(groups, people),
        **_items(questions),
        "seed": seed,
        "code_version": cuma.__version__,
    }
    return Survey(name, questions, groups, people, card | counted)


def _sizes(groups: tuple[Group, ...], people: pd.DataFrame) -> dict:
    """Groups per role; people per role and part."""
    role_of = people["group"].map({group.id: group.role for group in groups})
    table = people.groupby([role_of.rename("role"), "part"]).size()
    return {
        "groups": {role: sum(group.role == role for group in groups) for role in ROLES},
        "people": {
            role: {str(part): int(count) for part, count in table[role].items()}
            for role in ROLES
            if role in table.index
        },
    }


def _items(questions: Iterable[Question]) -> dict:
    """Items per role, where some are held out."""
    sizes = Counter(question.role for question in questions)
    return {"items": {role: sizes[role] for role in ROLES}} if set(sizes) - {"seen"} else {}


def role_sizes(groups: int, usual: Mapping[Role, int], *, test: bool = True) -> dict[Role, int]:
    """The `usual` proportions for another number of groups; without `test` nobody is held out for the final test."""
    total = sum(usual.values())
    validation = round(groups * usual["validation"] / total)
    tested = round(groups * usual["test"] / total) if test else 0
    return {"seen": groups - validation - tested, "validation": validation, "test": tested}
