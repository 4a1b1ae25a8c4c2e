"""What people answered and what a method predicted, of groups and cells that may be shown."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from cuma.metrics.sample import read_parts
from cuma.metrics.shares import N, is_shares
from cuma.privacy.small_groups import MIN_PEOPLE, hidden
from cuma.runs.evidence import Evidence
from cuma.runs.method import Method


def true_answers(evidence: Evidence) -> pd.DataFrame:
    """People's answers in every cell that may be shown: group, question_id, seen, n (None where that is not known),
    worth (as many people drawn one by one scatter alike: n where no design is known), shares (array [options]; with a
    known design by the survey's weights)."""
    options = {question["id"]: len(question["options"]) for question in evidence.questions}
    left_out = hidden_cells(evidence.people)
    rows: list[tuple[str, str, bool, int | None, int | None, np.ndarray]] = []
    if evidence.of_shares:
        known = evidence.people[N] if N in evidence.people else [math.nan] * len(evidence.people)
        for row, n in zip(evidence.people.itertuples(), known, strict=True):
            if (row.group, row.question_id) not in left_out:
                size = None if math.isnan(n) else int(n)
                rows.append((row.group, row.question_id, bool(row.seen), size, size, np.array(row.shares)))
    else:
        drawn = _by_design(evidence)
        for (group, question), cell in evidence.people.groupby(["group", "question_id"]):
            if (group, question) not in left_out:
                counts = np.bincount(cell["answer"].to_numpy(), minlength=options[question])
                n = int(counts.sum())
                worth, shares = drawn.get((group, question), (n, counts / n))
                rows.append((group, question, bool(cell["seen"].iloc[0]), n, worth, shares))
    table = pd.DataFrame(rows, columns=["group", "question_id", "seen", "n", "worth", "shares"])
    return table.astype({"n": object, "worth": object})


def _by_design(evidence: Evidence) -> dict[tuple[str, str], tuple[int, np.ndarray]]:
    """(group, question_id) → what the design leaves of its people, and their weighted shares; empty without one."""
    if evidence.design is None:
        return {}
    fullest = max(evidence.methods, key=lambda method: len(method.predictions)).predictions
    cells = {}
    for people, _ in read_parts(fullest, evidence.questions, evidence.design).values():
        tables = zip(people.items, people.effective_counts, people.design_means, strict=True)
        for item, counts, means in tables:
            for group, row, shares in zip(people.groups, counts, means.mean, strict=True):
                cells[group, item.id] = (max(int(row.sum()), 1), shares)
    return cells


def predicted_answers(method: Method) -> dict[tuple[str, str], np.ndarray]:
    """The method's mean answer distribution [options] per (group, question_id)."""
    cells = method.predictions.groupby(["group", "question_id"])["probabilities"]
    return {key: np.stack(cell.to_numpy()).mean(axis=0) for key, cell in cells}


def hidden_groups(people: pd.DataFrame) -> frozenset[str]:
    """Groups left out of every picture. `people`: one row per person × question with person, group, seen; or shares,
    one row per group × question, with n where the number of people is known. Where it is not, nothing is left out."""
    groups: set[str] = set()
    for _, side in people.groupby("seen"):
        groups |= hidden(_sizes(side))
    return frozenset(groups)


def hidden_cells(people: pd.DataFrame) -> frozenset[tuple[str, str]]:
    """(group, question_id) pairs left out: those of hidden groups, and cells that too few people answered."""
    groups = hidden_groups(people)
    cells: set[tuple[str, str]] = set()
    for (_, question), cell in people.groupby(["seen", "question_id"]):
        cells |= {(group, question) for group in hidden(_sizes(cell), groups)}
    return frozenset(cells)


def too_few(people: pd.DataFrame) -> bool:
    """Whether the people of a whole side are so few that its figures would be those of a small group; not if there is
    nobody, or it is not known how many. `people`: as `hidden_groups`."""
    return 0 < sum(_sizes(people).values()) < MIN_PEOPLE


def _sizes(people: pd.DataFrame) -> dict[str, float]:
    """Group → people; of shares the most that answered a question, infinite where that is not known."""
    if not is_shares(people):
        return {str(group): int(size) for group, size in people.groupby("group")["person"].nunique().items()}
    n = people[N].fillna(math.inf) if N in people else pd.Series(math.inf, index=people.index)
    return {str(group): float(size) for group, size in n.groupby(people["group"]).max().items()}
