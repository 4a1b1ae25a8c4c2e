"""Every metric of the table against the libraries that define it, on random people and predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy
from scipy.stats import wasserstein_distance
from sklearn.metrics import brier_score_loss, f1_score

from cuma.errors import BenchmarkError
from cuma.metrics import METRICS, break_down, brier, compare, ece, js_similarity, kl, normalised_entropy, score
from cuma.metrics.items import Item
from cuma.metrics.measure import Metric
from helpers.worlds import average, draw_world, items, predictions

QUESTIONS = (*items(2, options=4), Item("q2", "Question 2?", ("yes", "no"), ordinal=False))


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Few people, few groups, any predictions, some unanswered: where definitions part if they part at all."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    people = draw(st.integers(2, 12))
    rows = []
    for person in range(people):
        for item in QUESTIONS:
            if rng.random() < 0.8 or (person < 2 and item is QUESTIONS[0]):
                predicted = rng.dirichlet(np.full(len(item.options), 0.7))
                group = "ab"[person % 2]
                rows.append((person, group, True, item.id, int(rng.integers(len(item.options))), predicted, 1.0))
    columns = ["person", "group", "seen", "question_id", "answer", "probabilities", "option_mass"]
    return pd.DataFrame(rows, columns=columns)


def values(table: pd.DataFrame, questions: tuple[Item, ...] = QUESTIONS) -> dict[str, float]:
    return {metric: entry["value"] for metric, entry in score(table, questions, draws=0)["seen"].items()}


def answered(table: pd.DataFrame) -> list[tuple[Item, pd.DataFrame]]:
    return [(item, rows) for item in QUESTIONS if len(rows := table[table["question_id"] == item.id])]


def guesses(rows: pd.DataFrame) -> np.ndarray:
    return np.stack(rows["probabilities"].to_list()).argmax(axis=1)


@settings(deadline=None, max_examples=25)
@given(tables())
def test_f1_brier_and_calibration_are_scikit_learns(table: pd.DataFrame) -> None:
    found = values(table)
    by_question = [f1_score(rows["answer"], guesses(rows), average="macro") for _, rows in answered(table)]
    assert found["macro_f1"] == pytest.approx(np.mean(by_question), abs=1e-12)
    pooled = np.concatenate([guesses(rows) for _, rows in answered(table)])
    truth = np.concatenate([rows["answer"] for _, rows in answered(table)])
    assert found["macro_f1_pooled"] == pytest.approx(f1_score(truth, pooled, average="macro"), abs=1e-12)
    sure = np.concatenate([np.stack(rows["probabilities"].to_list()).max(axis=1) for _, rows in answered(table)])
    assert found["ece"] == pytest.approx(ece(sure, pooled == truth), abs=1e-12)
    cells = table.groupby(["group", "question_id"])
    options = {item.id: len(item.options) for item in QUESTIONS}
    briers = {
        (group, item): brier_score_loss(
            rows["answer"], np.stack(rows["probabilities"].to_list()), labels=range(options[item]), scale_by_half=False
        )
        for (group, item), rows in cells
    }
    groups = pd.Series(briers).groupby(level=0).mean()
    assert found["brier"] == pytest.approx(groups.mean(), abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(tables())
def test_wvbs_measure_is_its_own_definition(table: pd.DataFrame) -> None:
    """Per question the Wasserstein distance between people's and the model's scores on 0..1, then the curve."""
    ordinal = tuple(item for item in QUESTIONS if item.ordinal)
    table = table[table["question_id"].isin([item.id for item in ordinal])]
    distances = [
        wasserstein_distance(rows["answer"] / (len(item.options) - 1), guesses(rows) / (len(item.options) - 1))
        for item, rows in answered(table)
    ]
    found = values(table, ordinal)
    assert found["wvb_emd"] == pytest.approx(np.mean(distances), abs=1e-12)
    assert found["wvb_near"] == np.mean(np.array(distances) <= 0.2 + 1e-12)
    edges = np.union1d(np.linspace(0, 1, 20_001), distances)
    curve = np.array([(np.array(distances) <= edge).mean() for edge in edges])
    assert found["wvb_auc"] == pytest.approx(trapezoid(curve, edges), abs=1e-3)


@settings(deadline=None, max_examples=25)
@given(tables())
def test_divergences_are_scipys(table: pd.DataFrame) -> None:
    rows = []
    options = {item.id: len(item.options) for item in QUESTIONS}
    for (group, item), cell in table.groupby(["group", "question_id"]):
        people = np.bincount(cell["answer"], minlength=options[item]) / len(cell)
        predicted = np.stack(cell["probabilities"].to_list()).mean(axis=0)
        own = np.stack(cell["probabilities"].to_list())
        distance = jensenshannon(people, predicted)
        spent = scipy_entropy(own, axis=1).mean()
        kept = np.maximum(predicted, 1e-6)
        divergence = float((people * np.log(np.where(people > 0, people, 1) / kept)).sum())
        rows.append((group, distance**2, 1 - distance, max(divergence, 0.0), spent, spent / np.log(options[item])))
    names = ["group", "jsd", "js_similarity", "kl", "entropy", "entropy_normalised"]
    wanted = pd.DataFrame(rows, columns=names).groupby("group").mean().mean()
    found = values(table)
    for name in names[1:]:
        assert found[name] == pytest.approx(wanted[name], abs=1e-9 if name == "js_similarity" else 1e-12), name


shares = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).dirichlet(np.ones(5), size=2))


@settings(deadline=None)
@given(shares)
def test_the_functions_are_scipys(pair: np.ndarray) -> None:
    p, q = pair
    assert kl(p, q) == pytest.approx(scipy_entropy(p, q), abs=1e-12)
    assert kl(p, p) == 0
    assert js_similarity(p, q) == pytest.approx(1 - jensenshannon(p, q), abs=1e-12)
    assert normalised_entropy(p) == pytest.approx(scipy_entropy(p) / np.log(5), abs=1e-12)
    answers = [0, 3]
    wanted = brier_score_loss(answers, pair, labels=range(5), scale_by_half=False)
    assert brier(pair, answers).mean() == pytest.approx(wanted, abs=1e-12)


def test_kl_is_infinite_where_the_impossible_happened_and_bounded_where_that_is_asked_for() -> None:
    assert kl([0.5, 0.5], [1.0, 0.0]) == np.inf
    assert kl([0.5, 0.5], [1.0, 0.0], least=1e-6) == pytest.approx(0.5 * np.log(0.5) + 0.5 * np.log(0.5e6))


def test_calibration_is_zero_for_honest_confidence_and_the_gap_for_boasting() -> None:
    assert ece([0.75] * 4, [1, 1, 1, 0]) == 0
    assert ece([1.0] * 4, [1, 1, 1, 0]) == pytest.approx(0.25)


# ---- breakdown ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    world = draw_world(3, items(2, options=4), groups=8, people=40)
    return predictions(world, world.model)


def test_one_question_and_one_group_alone_have_the_scores_of_the_table_cut_down_to_them(table: pd.DataFrame) -> None:
    questions = items(2, options=4)
    found = break_down(table, questions, draws=60)
    only = score(table[table["question_id"] == "q1"], questions[1:], draws=60)
    assert found["by_question"]["seen"]["q1"] == {"n": only["n"]["seen"], **only["seen"]}
    group = found["by_group"]["seen"]["group 002"]
    alone = score(table[table["group"] == "group 002"], questions, draws=0)["seen"]
    for metric in METRICS:
        if METRICS[metric].between:
            assert metric not in group
        elif metric not in ("noise_floor", "sampler_floor"):  # floors draw groups from one stream
            assert group[metric]["value"] == pytest.approx(alone[metric]["value"], abs=1e-12, nan_ok=True), metric
    assert group["soft_emd"]["low"] < group["soft_emd"]["value"] < group["soft_emd"]["high"]
    assert group["n"]["answers"] == 2 * group["n"]["people"]


def test_the_worst_group_the_gap_and_the_inequity_are_those_of_the_groups(table: pd.DataFrame) -> None:
    found = break_down(table, items(2, options=4), draws=60)
    groups = {name: entry["soft_emd"]["value"] for name, entry in found["by_group"]["seen"].items()}
    served = found["inequality"]["seen"]
    assert served["worst_group"]["group"] == served["group_gap"]["worst"] == max(groups, key=groups.get)
    assert served["group_gap"]["best"] == min(groups, key=groups.get)
    assert served["group_gap"]["value"] == pytest.approx(max(groups.values()) - min(groups.values()))
    assert served["group_inequity"]["value"] == pytest.approx(np.std(list(groups.values()), ddof=1))
    assert served["worst_group"]["low"] <= served["worst_group"]["value"] <= served["worst_group"]["high"]


def test_a_tiny_group_is_never_called_the_worst(table: pd.DataFrame) -> None:
    few = table[table["group"] == "group 001"]["person"].unique()[10:]
    worse = table[~table["person"].isin(few)].copy()
    tiny = worse["group"] == "group 001"
    wrong = [np.eye(4)[(answer + 2) % 4] for answer in worse.loc[tiny, "answer"]]
    worse.loc[tiny, "probabilities"] = pd.Series(wrong, index=worse.index[tiny])
    found = break_down(worse, items(2, options=4), draws=0)
    assert found["inequality"]["seen"]["worst_group"]["group"] != "group 001"


# ---- the table ------------------------------------------------------------------------------------------------------


def test_a_line_of_the_table_is_all_that_a_new_metric_needs(
    monkeypatch: pytest.MonkeyPatch, table: pd.DataFrame
) -> None:
    toys = {
        "toy_person": (Metric(0.0, 1.0, person=lambda shares, answers, mass: mass / 2), None),
        "toy_cell": (Metric(0.0, 1.0, cell=lambda cells: cells.soft_emd), "soft_emd"),
        "toy_pooled": (Metric(0.0, 1.0, pooled=lambda people: people.mean(people.emd)), "wvb_emd"),
        "toy_between": (Metric(-1.0, 1.0, between=METRICS["alignment"].between), "alignment"),
    }
    questions = items(2, options=4)
    for name, (metric, _) in toys.items():
        monkeypatch.setitem(METRICS, name, metric)
    found = score(table, questions, draws=60)["seen"]
    parts = break_down(table, questions, draws=20)
    difference = compare(table, table.assign(option_mass=0.5), questions, draws=60)["seen"]
    for name, (metric, twin) in toys.items():
        if twin:
            assert found[name] == found[twin]
        assert parts["by_question"]["seen"]["q1"][name]["value"] is not None
        assert (name in parts["by_group"]["seen"]["group 002"]) == (metric.between is None)
        assert difference[name]["value"] == pytest.approx(0.25 if name == "toy_person" else 0.0)
    assert found["toy_person"]["value"] == pytest.approx(0.5)


# ---- steerability, weights ------------------------------------------------------------------------------------------


def test_steerability_is_what_telling_who_asks_gains() -> None:
    questions = items(2, options=4)
    world = draw_world(4, questions, groups=20, people=50)
    alone = {name: shares[0] for name, shares in average(world).items()}
    table = predictions(world, world.truth)
    table["unsteered"] = table["question_id"].map(alone)
    found = score(table, questions, draws=200)["seen"]
    without = score(predictions(world, average(world)), questions, draws=0)["seen"]
    gained = without["soft_emd"]["value"] - found["soft_emd"]["value"]
    assert found["steerability"]["value"] == pytest.approx(gained, abs=1e-12)
    assert 0 < found["steerability"]["low"] < gained < found["steerability"]["high"]
    told_nothing = predictions(world, average(world)).assign(unsteered=table["unsteered"])
    assert score(told_nothing, questions, draws=0)["seen"]["steerability"]["value"] == 0
    table.at[0, "unsteered"] = np.array([0.25] * 4)
    with pytest.raises(BenchmarkError, match="two answers"):
        score(table, questions, draws=0)


def test_a_person_of_weight_two_counts_as_two_people(table: pd.DataFrame) -> None:
    questions = items(2, options=4)
    rng = np.random.default_rng(0)
    weight = rng.integers(1, 4, size=table["person"].max() + 1)
    weighted = score(table.assign(weight=weight[table["person"]].astype(float)), questions, draws=40)
    copies = [
        table[weight[table["person"]] > copy].assign(person=lambda rows, copy=copy: rows["person"] + 10_000 * copy)
        for copy in range(3)
    ]
    whole = score(pd.concat(copies), questions, draws=0)
    # Floors and the spread's chance are about how many people there are, which copies pretend.
    for metric in set(METRICS) - {"noise_floor", "sampler_floor", "spread", "steerability"}:
        assert weighted["seen"][metric]["value"] == pytest.approx(whole["seen"][metric]["value"], abs=1e-12), metric
    assert weighted["n"]["seen"]["people"] == table["person"].nunique()
    plain = score(table, questions, draws=0)["seen"]["noise_floor"]["value"]
    assert weighted["seen"]["noise_floor"]["value"] > plain  # unequal weights are worth fewer people
    assert score(table.assign(weight=7.0), questions, draws=40)["seen"] == score(table, questions, draws=40)["seen"]


@pytest.mark.parametrize("weight", [-1.0, float("nan"), 0.0])
def test_impossible_weights_are_refused(table: pd.DataFrame, weight: float) -> None:
    with pytest.raises(BenchmarkError, match="weight"):
        score(table.assign(weight=weight), items(2, options=4), draws=0)


def test_people_themselves_are_a_perfect_prediction(table: pd.DataFrame) -> None:
    cells = {key: rows["answer"] for key, rows in table.groupby(["group", "question_id"])}
    own = [
        np.bincount(cells[key], minlength=4) / len(cells[key])
        for key in zip(table["group"], table["question_id"], strict=True)
    ]
    found = values(table.assign(probabilities=own), items(2, options=4))
    assert found["soft_emd"] == found["jsd"] == found["kl"] == 0
    assert found["js_similarity"] == found["alignment"] == 1
