"""The Gaussian process over groups and items: scikit-learn's posterior and likelihood, and that it reads."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel as SklearnKernel

from cuma.evaluation import text_process
from cuma.evaluation.anchor_data import Floats, Known
from cuma.evaluation.option_scales import OWN, average, squared
from cuma.evaluation.process_kernel import TERMS, Kernel, _Likelihood
from cuma.evaluation.text_process import TEXT, process_on_fields, process_on_texts
from cuma.metrics import emd
from helpers.anchored import known, people, question, table_of

TEXTS = ("tax the rich", "tax the poor", "help the poor", "build more roads", "close the border")


def small(counted: bool = True) -> Known:
    """Five seen items and six seen groups with numbers of people of their own; one new item, two new groups."""
    items = tuple(question(f"q{k}", "no maybe yes" if k < 3 else "bad fair good", text=t) for k, t in enumerate(TEXTS))
    items += (question("new", "no maybe yes", role="test", text="tax the roads"),)
    rng = np.random.default_rng(0)
    said, n = rng.dirichlet([2, 2, 2], size=(8, 6)), rng.integers(20, 200, size=(8, 6))
    return known(items, people(8, 6), lambda g, q: list(said[g, q]), lambda g, q: float(n[g, q]), counted=counted)


def unlike_of(of: Known) -> Floats:
    """[3, G, G]: whether two groups differ in a field."""
    fields = [group.profile.fields for group in of.groups]
    names = sorted(fields[0])
    return np.array([[[float(a[name] != b[name]) for b in fields] for a in fields] for name in names])


def gram(of: Known, theta: Floats, unlike: Floats) -> Floats:
    """[N, N]: the covariance of all asked cells, cell by cell as the kernel's docstring says it."""
    assert of.texts is not None
    items = of.texts.items - of.texts.items[:5].mean(axis=0)
    items = items / np.sqrt((items[:5] ** 2).sum(axis=1).mean())
    sentences = of.texts.profiles - of.texts.profiles[:6].mean(axis=0)
    sentences = sentences / np.linalg.norm(sentences, axis=1, keepdims=True)
    likeness = sentences @ (items / np.linalg.norm(items, axis=1, keepdims=True)).T
    likeness = likeness - likeness[:6].mean(axis=0)
    likeness = likeness / likeness[:6, :5].std()
    size, rates = np.exp(theta[: len(TERMS)]), np.exp(theta[len(TERMS) :]).reshape(2, -1)
    sets = [sorted(one.options) for one in of.questions]
    pairs = list(zip(*of.asked, strict=True))
    whole = np.zeros((len(pairs), len(pairs)))
    for row, (g, q) in enumerate(pairs):
        for column, (h, p) in enumerate(pairs):
            near, alike = np.exp(-(rates * unlike[:, g, h]).sum(axis=1))
            wording, same = items[q] @ items[p], float(q == p)
            terms = [wording, same, float(sets[q] == sets[p]), likeness[g, q] * likeness[h, p], same * (g == h)]
            whole[row, column] = size @ [*terms, near, near * wording, alike * same]
    return whole


class Table(SklearnKernel):
    """scikit-learn's view of a covariance that is known for all cells; an input is a cell's number."""

    def __init__(self, table: Floats) -> None:
        self.table = table

    def __call__(self, X, Y=None, eval_gradient=False):
        rows, columns = X[:, 0].astype(int), (X if Y is None else Y)[:, 0].astype(int)
        return self.table[np.ix_(rows, columns)]

    def diag(self, X):
        return np.diag(self.table)[X[:, 0].astype(int)]

    def is_stationary(self) -> bool:
        return False


@pytest.mark.parametrize("counted", [True, False])
def test_predictions_and_likelihood_are_those_of_scikit_learn(counted: bool) -> None:
    of = small(counted)
    said = process_on_fields(of)
    assert said.items == {OWN: 5, TEXT: 1}
    assert of.texts is not None

    cells, unlike = of.training, unlike_of(of)
    roots = np.sqrt(np.stack(cells.shares))
    mean = np.mean([roots[cells.question == k].mean(axis=0) for k in range(5)], axis=0)
    kernel = Kernel.of(of, unlike, (of.texts.profiles, of.texts.items), cells)
    theta = kernel.learn(cells, roots - mean)
    whole = gram(of, theta, unlike)
    number = {pair: row for row, pair in enumerate(zip(*of.asked, strict=True))}
    inputs = np.array([[number[pair]] for pair in zip(cells.group, cells.question, strict=True)])
    noise = (0.25 / cells.n if counted else np.zeros(len(cells))) + 1e-6
    model = GaussianProcessRegressor(Table(whole), alpha=noise, optimizer=None).fit(inputs, roots - mean)
    predicted = model.predict(np.arange(len(whole))[:, None]) + mean
    np.testing.assert_allclose(np.stack(said.shares), squared(predicted), atol=1e-8)

    found, _ = _Likelihood(kernel, cells, roots - mean)(theta)
    constant = 0.5 * roots.size * np.log(2 * np.pi)
    assert found == pytest.approx(-model.log_marginal_likelihood_value_ - constant, rel=1e-8)


def test_the_slope_is_that_of_the_likelihood_and_learning_goes_up_it() -> None:
    of = small()
    assert of.texts is not None
    kernel = Kernel.of(of, unlike_of(of), (of.texts.profiles, of.texts.items), of.training)
    targets = np.random.default_rng(1).normal(size=(len(of.training), 3)) / 10
    likelihood = _Likelihood(kernel, of.training, targets)
    start = np.random.default_rng(2).normal(size=len(TERMS) + 6) - 2
    apart = check_grad(lambda theta: likelihood(theta)[0], lambda theta: likelihood(theta)[1], start)
    assert apart < 1e-4 * np.linalg.norm(likelihood(start)[1])
    assert likelihood(kernel.learn(of.training, targets))[0] < likelihood(start)[0]


def topics(shuffled: bool = False) -> tuple[Known, dict[tuple[str, str], list[float]]]:
    """Items of two topics, on which the two sexes think the opposite; two new items of each. shuffled: their words."""
    words = ["the church and faith", "money and wages"]
    texts = [f"{words[k % 2]} number {k}" for k in range(20)]
    if shuffled:
        texts[16:] = [f"{words[(k + 1) % 2]} number {k}" for k in range(16, 20)]
    items = tuple(question(f"q{k}", "no maybe yes", True, "seen" if k < 16 else "test", t) for k, t in enumerate(texts))

    def shares(group: int, item: int) -> list[float]:
        said = [0.6, 0.3, 0.1]
        return said if (group + item) % 2 else said[::-1]

    of = known(items, people(10, 8), shares)
    return of, {(g.id, q.id): shares(k, j) for k, g in enumerate(of.groups) for j, q in enumerate(items)}


def new_item_error(of: Known, truth: dict[tuple[str, str], list[float]], shares: list[Floats]) -> float:
    told = table_of(of, shares)
    new = [key for key in truth if key[1] in ("q16", "q17", "q18", "q19")]
    return float(emd(np.stack([told[key] for key in new]), np.array([truth[key] for key in new]), True).mean())


@pytest.mark.parametrize("anchor", [process_on_fields, process_on_texts])
def test_a_new_item_is_answered_as_its_wording_tells(anchor) -> None:
    of, truth = topics()
    blind = new_item_error(of, truth, [average(of, int(q))[0] for q in of.asked[1]])
    assert new_item_error(of, truth, anchor(of).shares) < 0.3 * blind
    of, truth = topics(shuffled=True)
    assert new_item_error(of, truth, anchor(of).shares) > blind  # misled by the words


def test_cells_that_are_too_many_are_left_out_by_lot_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_process, "TO_FIT", 20)
    assert process_on_fields(small()).left_out == 10


def test_sizes_are_learnt_from_some_cells_of_many_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_process, "TO_LEARN", 20)
    of = small()
    kept = text_process._to_learn(of, of.training)
    assert kept.sum() == 12  # of at least ten cells an item there is room for two items, which have six each
    assert len(np.unique(of.training.question[kept])) == 2
