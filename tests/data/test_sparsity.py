"""Whether there is anything to keep apart: planted groups are found, equal ones are not, and small ones stay hidden."""

import json
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset
from scipy.stats import kstest

from cuma.data.builders.base import TASKS, Built, Ledger, Options, who
from cuma.data.builders.built_folder import write
from cuma.data.sparsity import MISSING, Answers
from cuma.errors import BenchmarkError
from cuma.metrics import chance_diversity
from cuma.metrics.design import Design
from cuma.metrics.group_distances import (
    clusters,
    joint_mahalanobis,
    permutation_test,
    question_mahalanobis,
)
from cuma.metrics.items import Item
from cuma.metrics.pointwise import pairwise_jsd
from cuma.people.profiles import Profile
from cuma.reports.sparsity_page import measure, render, sparsity

OPTIONS = ["No", "Perhaps", "Yes"]


def built(tmp_path, shares, people=60, seed=0, questions=4, small=0):
    """A folder with the task survey. shares: group → distribution over three options, for every question."""
    rng = np.random.default_rng(seed)
    rows, number = [], 0
    sizes = dict.fromkeys(shares, people)
    if small:
        shares, sizes = {**shares, "Tiny secret": [1.0, 0.0, 0.0]}, {**sizes, "Tiny secret": small}
    for group, share in shares.items():
        for _ in range(sizes[group]):
            number += 1
            for question in range(questions):
                rows.append(
                    {
                        "question_id": f"q{question}",
                        "question": f"<b>Question {question}?</b>",
                        "options": OPTIONS,
                        "answer": int(rng.choice(3, p=share)),
                        "ordinal": question % 2 == 0,
                        **who(Profile(country=group), str(number), group),
                    }
                )
    half = len(rows) // 2
    splits = {
        n: Dataset.from_list(part, features=TASKS["survey"])
        for n, part in (("train", rows[:half]), ("test", rows[half:]))
    }
    write(Built("own", {"survey": splits}, Ledger(), (), "", ""), tmp_path / "built", Options())
    return tmp_path / "built"


PLANTED = {
    "A1": [0.8, 0.1, 0.1], "B1": [0.1, 0.1, 0.8], "A2": [0.8, 0.1, 0.1], "B2": [0.1, 0.1, 0.8], "A3": [0.75, 0.15, 0.1],
}  # fmt: skip


def test_planted_groups_are_found(tmp_path):
    folder = built(tmp_path, PLANTED)
    found = sparsity(folder, tmp_path / "out", permutations=200)
    assert found["differ"]
    assert found["p"] == pytest.approx(1 / 201)
    assert found["questions_that_divide"] == 4
    assert found["groups"] == ["A1", "A2", "A3", "B1", "B2"]
    label = found["clusters"]
    assert label[0] == label[1] == label[2] != label[3] == label[4]
    assert found["silhouette"] > 0.7
    assert found["m"] == 1 + 2 + 1 + 2
    assert found["jsd_matrix"][0][3] > 0.2 > 0.02 > found["jsd_matrix"][0][1]
    assert found["mahalanobis"][0][3] > found["m"] > 1 > found["mahalanobis"][0][1]
    assert found["summary"][0].startswith("Yes")
    assert json.loads((tmp_path / "out" / "sparsity.json").read_text()) == found
    page = (tmp_path / "out" / "sparsity.html").read_text()
    assert "<b>Question" not in page
    assert "&lt;b&gt;Question" in page
    assert 'src="http' not in page
    again = sparsity(folder, tmp_path / "again", permutations=200)
    assert again == found
    assert (tmp_path / "again" / "sparsity.html").read_text() == page


def test_equal_groups_have_nothing_to_keep_apart(tmp_path):
    found = sparsity(built(tmp_path, {name: [0.5, 0.3, 0.2] for name in "ABCD"}), tmp_path / "out", permutations=200)
    assert not found["differ"]
    assert found["clusters"] is None
    assert abs(found["jsd"]) < 0.01
    assert found["summary"][0] == "No: nothing to keep apart"


def test_p_values_of_equal_groups_are_uniform():
    rng = np.random.default_rng(1)
    p = [
        permutation_test(rng.multinomial([30, 80, 200], [0.4, 0.3, 0.2, 0.1]), permutations=199, seed=seed).p
        for seed in range(300)
    ]
    assert kstest(p, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09


def test_permutation_test_agrees_with_the_chance_of_the_metrics():
    counts = np.array([[20, 5, 5], [10, 10, 10], [5, 5, 30]])
    found = permutation_test(counts, permutations=2000)
    assert found.chance == pytest.approx(chance_diversity(counts, 2000), rel=0.1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert found.observed == pytest.approx(pairwise_jsd(shares.T)[np.triu_indices(3, 1)].sum())
    assert permutation_test([[5, 0], [7, 0]]).p == 1.0


@pytest.mark.parametrize("ordinal", [True, False])
def test_mahalanobis_is_what_it_is_defined_to_be(ordinal):
    rng = np.random.default_rng(0)
    code, group = rng.integers(4, size=90), np.repeat([0, 1, 2], 30)
    code[:20] = 0
    values = (code / 3)[:, None] if ordinal else np.eye(4)[code][:, :3]
    means = np.stack([values[group == g].mean(axis=0) for g in range(3)])
    deviation = values - means[group]
    inverse = np.linalg.inv(deviation.T @ deviation / (90 - 3))
    direct = [[(means[i] - means[j]) @ inverse @ (means[i] - means[j]) for j in range(3)] for i in range(3)]
    counts = np.stack([np.bincount(code[group == g], minlength=4) for g in range(3)]).astype(float)
    square, m = question_mahalanobis(counts, ordinal)
    assert m == (1 if ordinal else 3)
    np.testing.assert_allclose(square, direct)
    together, m = joint_mahalanobis(values, group, 3)
    np.testing.assert_allclose(together, direct)
    doubled, rank = joint_mahalanobis(np.c_[values, values], group, 3)  # singular
    assert rank == m
    np.testing.assert_allclose(doubled, direct, rtol=1e-6)


def test_small_groups_are_only_counted(tmp_path):
    found = sparsity(built(tmp_path, PLANTED, small=10), tmp_path / "out", permutations=50)
    assert found["groups_left_out"] == 2  # one alone could be found by subtraction
    for name in ("sparsity.json", "sparsity.html"):
        assert "Tiny secret" not in (tmp_path / "out" / name).read_text()


def test_distributions_have_no_p_values(tmp_path):
    rows = [
        {"question_id": f"q{q}", "question": "?", "options": OPTIONS, "distribution": share, "ordinal": False,
         "source": "GAS", **who(Profile(country=group), None, group)}
        for q in range(3) for group, share in PLANTED.items() if (q, group) != (0, "A1")
    ]  # fmt: skip
    task = {"distribution": {"train": Dataset.from_list(rows, features=TASKS["distribution"])}}
    write(Built("own", task, Ledger(), (), "", ""), tmp_path / "built", Options())
    found = sparsity(tmp_path / "built", tmp_path / "built")
    assert found["differ"] is found["p"] is found["people"] is found["mahalanobis"] is None
    assert len(set(found["clusters"])) == 2
    assert "cannot be said" in found["summary"][0]
    assert found["questions"][0]["mahalanobis_mean"] > 0


def test_two_groups_are_no_clusters():
    label, order, silhouette = clusters(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert label.tolist() == [0, 0]
    assert order.tolist() == [0, 1]
    assert np.isnan(silhouette)


def test_folders_without_answers_are_named(tmp_path):
    with pytest.raises(BenchmarkError, match="no survey answers"):
        sparsity(tmp_path, tmp_path)
    with pytest.raises(BenchmarkError, match="is no folder"):
        sparsity(tmp_path / "nowhere", tmp_path)
    (tmp_path / "survey").mkdir()
    with pytest.raises(BenchmarkError, match="is damaged"):
        sparsity(tmp_path, tmp_path)
    with pytest.raises(BenchmarkError, match="Nothing can be compared"):
        sparsity(built(tmp_path / "one", {"A": [0.5, 0.3, 0.2]}), tmp_path / "out")


def clustered(seed: int, groups: int = 6, units: int = 8, people: int = 20) -> Answers:
    """Groups that do not differ, of units whose people answer alike."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(groups * units), people)
    lean = rng.normal(scale=0.7, size=(groups * units, 2))[unit]
    coded = np.searchsorted([-0.5, 0.5], lean + rng.normal(size=lean.shape), side="left").reshape(lean.shape)
    questions = tuple(Item(f"q{number}", "?", tuple(OPTIONS), True) for number in range(2))
    names = tuple(f"group {number}" for number in range(groups))
    design = Design.of(np.arange(len(unit)), None, unit)
    return Answers(questions, names, unit // units, coded.astype(np.int64), None, design)


def test_units_that_answer_alike_are_no_difference_between_groups():
    found = {True: [], False: []}
    for seed in range(12):
        answers = clustered(seed)
        for known in found:
            result = measure(answers if known else replace(answers, design=None), permutations=199, seed=seed)
            found[known].append((result["p"] <= 0.05, result["jsd"]))
    rejected, excess = {}, {}
    for known, rows in found.items():
        rejected[known], excess[known] = np.mean(rows, axis=0)
    assert rejected[False] > 0.8
    assert rejected[True] < 0.3
    assert abs(excess[True]) < 0.3 * excess[False]


def test_the_page_says_whether_the_design_is_in_its_figures(tmp_path):
    for known, sentence in ((True, "count, in p and in what chance gives"), (False, "are not in these figures")):
        answers = clustered(0) if known else replace(clustered(0), design=None)
        result = measure(answers, permutations=19)
        assert sentence in render(result, "mine")
        assert (result["design"] is not None) == known


def test_groups_without_a_question_in_common_are_not_put_in_clusters() -> None:
    """How far two surveys' people lie apart is not known, and must not become two clusters."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(6), 60)
    coded = np.where((group < 3)[:, None] == [True, False], rng.integers(2, size=(360, 2)), MISSING)
    coded[(group % 3 == 0), :] = np.where(coded[group % 3 == 0] != MISSING, 0, MISSING)
    questions = tuple(Item(name, f"{name}?", ("Yes", "No"), False) for name in ("one", "two"))
    found = measure(Answers(questions, tuple("ABCDEF"), group, coded, None), permutations=50)
    assert found["differ"]
    assert found["pairs_without_a_question"] == 9
    assert found["clusters"] is None
    assert "9 pairs of groups answered no question in common, so that no clusters are told." in found["summary"]
