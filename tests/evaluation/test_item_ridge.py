"""The ridge over all items is the regression that scikit-learn solves on the products of fields and items."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from cuma.evaluation import item_ridge
from cuma.evaluation.anchor_data import one_hot_fields
from cuma.evaluation.item_ridge import ridge_on_items
from cuma.evaluation.option_scales import OWN, squared
from cuma.evaluation.text_process import TEXT
from helpers.anchored import known, people, question, table_of

TEXTS = ("tax the rich", "tax the poor", "help the poor", "build more roads", "close the border")


def world():
    items = tuple(question(f"q{k}", "no maybe yes", text=text) for k, text in enumerate(TEXTS))
    items += (question("new", "no maybe yes", role="test", text="tax the roads"),)
    rng = np.random.default_rng(0)
    said = rng.dirichlet([2, 2, 2], size=(8, 6))
    n = rng.integers(20, 200, size=(8, 6))
    rest = [(g, q) for g in (6, 7) for q in range(5)]
    return known(items, people(8, 6), lambda g, q: list(said[g, q]), lambda g, q: float(n[g, q]), choosing=rest)


def test_it_is_the_weighted_ridge_regression_on_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_ridge, "PENALTIES", (0.7,))
    of = world()
    said = ridge_on_items(of)
    assert said.items == {OWN: 5, TEXT: 1}

    cells = of.training
    fields = one_hot_fields(of.groups)
    who = np.column_stack([np.ones(8), fields / np.sqrt(3)])  # three fields each, so that their part has norm 1
    assert (fields[:6].sum(axis=1) == 3).all()
    assert of.texts is not None
    wording = of.texts.items - of.texts.items[:5].mean(axis=0)
    wording /= np.sqrt((wording[:5] ** 2).sum(axis=1).mean())
    what = np.column_stack([np.ones(6), np.eye(6), wording])
    roots = np.sqrt(np.stack(cells.shares))
    mean = np.mean([roots[cells.question == k].mean(axis=0) for k in range(5)], axis=0)
    rows = np.stack([np.kron(who[g], what[q]) for g, q in zip(cells.group, cells.question, strict=True)])
    model = Ridge(alpha=0.7, fit_intercept=False)
    model.fit(rows, roots - mean, sample_weight=cells.n / cells.n.mean())
    asked = np.stack([np.kron(who[g], what[q]) for g, q in zip(*of.asked, strict=True)])
    np.testing.assert_allclose(np.stack(said.shares), squared(model.predict(asked) + mean), atol=1e-8)


def test_the_penalty_is_chosen_on_cells_that_are_kept_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = {}
    for penalty in (0.01, 1.0, 100.0):
        monkeypatch.setattr(item_ridge, "PENALTIES", (penalty,))
        of = world()
        table = table_of(of, ridge_on_items(of).shares)
        rest = zip(of.choosing.group, of.choosing.question, of.choosing.shares, strict=True)
        gaps = [np.cumsum(table[f"g{g}", of.questions[q].id] - people)[:-1] for g, q, people in rest]
        tried[penalty] = (np.abs(gaps).sum(axis=1).mean(), table)
    monkeypatch.setattr(item_ridge, "PENALTIES", tuple(tried))
    best = min(tried.values(), key=lambda one: one[0])[1]
    of = world()
    assert all(np.array_equal(best[key], said) for key, said in table_of(of, ridge_on_items(of).shares).items())


def test_cells_that_are_too_many_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_ridge, "TO_FIT", 20)
    assert ridge_on_items(world()).left_out == 10
