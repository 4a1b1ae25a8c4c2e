"""Low-rank completion: finds a planted table, and minimises what it says."""

from __future__ import annotations

import numpy as np
import pytest

from cuma.evaluation import completion
from cuma.evaluation.completion import _factors, _Table, low_rank
from cuma.evaluation.option_scales import NONE, OWN
from helpers.anchored import known, people, question, table_of

GROUPS, ITEMS = 24, 12


def planted():
    """Roots of shares are a mean and one product of a group's place and an item's direction; a third is missing. The
    last four groups are new; a place is the sum of its fields' parts."""
    rng = np.random.default_rng(1)
    groups = people(GROUPS, 20)
    parts = {value: rng.normal() for value in sorted({v for group in groups for v in group.profile.fields.values()})}
    place = [sum(parts[value] for value in group.profile.fields.values()) / 3 for group in groups]
    direction = rng.choice([-0.15, 0.15], size=ITEMS)

    def shares(group: int, item: int) -> list[float]:
        yes = (0.7 + direction[item] * place[group]) ** 2
        return [yes, 1 - yes]

    items = tuple(question(f"q{k}", "Yes No", ordinal=False) for k in range(ITEMS))
    items += (question("new", "on off", ordinal=False, role="test"),)
    pairs = [(g, q) for g in range(20) for q in range(ITEMS)]
    there = rng.random(len(pairs)) < 2 / 3
    kept = [pair for pair, one in zip(pairs, there, strict=True) if one]
    missing = [pair for pair, one in zip(pairs, there, strict=True) if not one]
    return known(items, groups, shares, lambda g, q: 1e4, kept, missing[::2]), shares, missing[1::2]


def test_a_planted_table_is_found_where_cells_are_missing_and_for_new_groups_by_their_fields() -> None:
    of, shares, missing = planted()
    said = low_rank(of)
    table = table_of(of, said.shares)
    assert said.items == {OWN: ITEMS, NONE: 1}
    mean = {q: np.mean([shares(g, q)[0] for g in range(20)]) for q in range(ITEMS)}
    for cells, share in ((missing, 0.1), ([(g, q) for g in range(20, 24) for q in range(ITEMS)], 0.3)):
        errors = [abs(table[f"g{g}", f"q{q}"][0] - shares(g, q)[0]) for g, q in cells]
        spread = [abs(mean[q] - shares(g, q)[0]) for g, q in cells]
        assert np.mean(errors) < share * np.mean(spread)
    assert table["g0", "new"] == pytest.approx([0.5, 0.5])


def test_with_all_cells_there_it_is_the_singular_values_less_the_penalty() -> None:
    rest = np.random.default_rng(0).normal(size=(9, 7))
    table = _Table(np.arange(9), {0: 0}, rest, np.ones_like(rest), np.zeros(7))
    left, right = _factors(table, 7, 1.5)
    u, sizes, v = np.linalg.svd(rest, full_matrices=False)
    np.testing.assert_allclose(left @ right, u * np.maximum(sizes - 1.5, 0) @ v, atol=0.02)


def test_rank_and_penalty_are_those_with_the_least_error_on_the_cells_to_choose_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of, shares, _ = planted()
    pairs = list(zip(of.choosing.group, of.choosing.question, strict=True))

    def error(rank: int, penalty: float) -> float:
        monkeypatch.setattr(completion, "RANKS", (rank,))
        monkeypatch.setattr(completion, "PENALTIES", (penalty,))
        table = table_of(of, low_rank(of).shares)
        return float(np.mean([abs(table[f"g{g}", f"q{q}"][0] - shares(g, q)[0]) for g, q in pairs]))

    tried = {(rank, penalty): error(rank, penalty) for rank in (1, 5) for penalty in (0.01, 30.0)}
    monkeypatch.setattr(completion, "RANKS", (1, 5))
    monkeypatch.setattr(completion, "PENALTIES", (0.01, 30.0))
    chosen = table_of(of, low_rank(of).shares)
    best = float(np.mean([abs(chosen[f"g{g}", f"q{q}"][0] - shares(g, q)[0]) for g, q in pairs]))
    assert best == pytest.approx(min(tried.values()), abs=1e-12)
    assert min(tried.values()) < 0.5 * max(tried.values())
