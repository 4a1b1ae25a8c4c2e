from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from cuma.errors import BenchmarkError
from cuma.metrics import METRICS, alignment, compare, emd, entropy, noise_floor, score, score_many, spread
from helpers.worlds import average, draw_world, items, predictions

QUESTIONS = items(2, options=4)


@pytest.fixture(scope="module")
def world():
    return draw_world(0, QUESTIONS, groups=12, people=40, answered=0.9)


@pytest.fixture(scope="module")
def table(world):
    return predictions(world, world.model)


def with_unseen(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(seen=table["group"] < "group 008")


def test_every_metric_is_what_its_definition_says(world, table):
    found = {metric: entry["value"] for metric, entry in score(table, QUESTIONS, draws=0)["seen"].items()}
    cells, counts = [], {item.id: np.zeros((12, 4), dtype=int) for item in QUESTIONS}
    for (group, item), rows in world.rows.groupby(["number", "question_id"]):
        people = np.bincount(rows["answer"], minlength=4)
        counts[item][group] = people
        predicted = world.model[item][group]
        guess = predicted.argmax()
        shares = people / people.sum()
        cells.append((emd(predicted, shares), emd(np.eye(4)[guess], shares), shares[guess], entropy(predicted)))
    wanted = dict(zip(("soft_emd", "argmax_emd", "accuracy", "entropy"), np.mean(cells, axis=0), strict=True))
    model, people = list(world.model.values()), list(counts.values())
    wanted["noise_floor"] = np.mean([noise_floor(table, seed=(0, i)) for i, table in enumerate(people)])
    wanted["spread"] = spread(model, people, seed=0)
    wanted["alignment"] = alignment(model, people, [True, True])
    for metric, value in wanted.items():
        assert found[metric] == pytest.approx(value, abs=1e-12), metric
    assert set(found) == set(METRICS)


def test_the_average_is_exactly_collapsed_and_the_truth_is_not(world):
    flat = score(predictions(world, average(world)), QUESTIONS, draws=100)["seen"]
    assert flat["spread"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert flat["alignment"] == {"value": None, "low": None, "high": None}
    many = draw_world(5, QUESTIONS, groups=30, people=1000)
    assert score(predictions(many, many.truth), QUESTIONS, draws=0)["seen"]["spread"]["value"] == pytest.approx(
        1, abs=0.03
    )


def test_a_perfect_model_scores_the_noise_floor():
    many = draw_world(6, QUESTIONS, groups=60, people=60)
    found = score(predictions(many, many.truth), QUESTIONS, draws=0)["seen"]
    assert found["soft_emd"]["value"] == pytest.approx(found["noise_floor"]["value"], rel=0.1)


def test_row_order_and_other_methods_do_not_matter(world, table):
    alone = score(table, QUESTIONS, draws=60, seed=4)
    shuffled = table.sample(frac=1, random_state=0)
    assert score(shuffled, QUESTIONS, draws=60, seed=4) == alone
    flat = predictions(world, average(world))
    there = score_many({"flat": flat, "model": table}, QUESTIONS, reference="flat", draws=60, seed=4)
    back = score_many({"model": shuffled, "flat": flat}, QUESTIONS, reference="flat", draws=60, seed=4)
    assert there == back
    assert there["scores"]["model"] == alone
    assert score(table, QUESTIONS, draws=60, seed=5) != alone


def test_scores_are_json_and_the_questions_in_them_can_be_used_again(table):
    found = score(with_unseen(table), QUESTIONS, draws=20)
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again == found
    assert score(with_unseen(table), again["questions"], draws=20) == found
    assert {"questions", "seen", "unseen", "n", "draws", "seed"} == set(found)
    assert (found["n"]["seen"]["groups"], found["n"]["unseen"]["groups"]) == (8, 4)


def test_differences_are_those_of_the_scores_and_paired(world, table):
    near = {item: 0.98 * shares + 0.005 for item, shares in world.model.items()}
    both = {"a": predictions(world, near), "b": table}
    found = score_many(both, QUESTIONS, reference="b", draws=200)
    gap = found["differences"]["a"]["seen"]["soft_emd"]
    a, b = (found["scores"][name]["seen"]["soft_emd"] for name in ("a", "b"))
    assert gap["value"] == pytest.approx(a["value"] - b["value"], abs=1e-15)
    assert gap["high"] - gap["low"] < 0.3 * (a["high"] - a["low"])
    assert compare(both["a"], both["b"], QUESTIONS, draws=200)["seen"] == found["differences"]["a"]["seen"]
    swapped = compare(both["b"], both["a"], QUESTIONS, draws=200)["seen"]["soft_emd"]
    assert swapped["low"] == pytest.approx(-gap["high"], abs=0.1 * (gap["high"] - gap["low"]))


def test_a_share_of_few_questions_has_neither_interval_nor_p(table):
    other = table.assign(probabilities=[list(reversed(predicted)) for predicted in table["probabilities"]])
    both = score_many({"a": table, "b": other}, QUESTIONS, reference="b", draws=50)
    assert both["scores"]["a"]["seen"]["wvb_near"] == {"value": 1.0, "low": None, "high": None}
    assert both["differences"]["a"]["seen"]["wvb_near"]["p"] is None
    assert both["scores"]["a"]["seen"]["wvb_emd"]["low"] is not None


def test_a_method_compared_with_itself_differs_by_nothing(table):
    for metric, entry in compare(table, table, QUESTIONS, draws=50)["seen"].items():
        value = None if metric == "steerability" else 0.0  # nobody asked without saying who asks
        end = value if METRICS[metric].interval else None
        assert (entry["value"], entry["low"], entry["high"]) == (value, end, end), metric
        assert entry["p"] == entry["p_holm"] == (None if end is None else 1.0)


def test_a_method_that_predicts_seen_groups_only_is_compared_there_only(table):
    everybody = with_unseen(table)
    found = score_many({"all": everybody, "seen": everybody[everybody["seen"]]}, QUESTIONS, reference="all", draws=20)
    assert "unseen" not in found["scores"]["seen"]
    assert set(found["differences"]["seen"]) == {"seen"}


def test_empty_cells_are_skipped_and_counted(world, table):
    gone = (table["group"] == "group 003") & (table["question_id"] == "q1")
    left, blanked = table[~gone], table.assign(answer=table["answer"].where(~gone, -1))
    found = score(left, QUESTIONS, draws=50)
    assert found["n"]["seen"]["empty_cells"] == 1
    assert score(blanked, QUESTIONS, draws=50) == found
    assert all(np.isfinite(entry["value"]) for metric, entry in found["seen"].items() if metric != "steerability")


def test_predictions_may_differ_between_people_of_a_group(world, table):
    rng = np.random.default_rng(0)
    personal = table.assign(
        probabilities=[0.8 * row + 0.2 * rng.dirichlet(np.ones(4)) for row in table["probabilities"]]
    )
    found = score(personal, QUESTIONS, draws=100)["seen"]
    means = {item: np.zeros((12, 4)) for item in world.model}
    groups = personal.assign(number=world.rows["number"].to_numpy()).groupby(["number", "question_id"])
    for (group, item), rows in groups:
        means[item][group] = np.stack(rows["probabilities"].to_list()).mean(axis=0)
    merged = score(predictions(world, means), QUESTIONS, draws=0)["seen"]
    for metric in ("soft_emd", "spread", "alignment"):
        assert found[metric]["value"] == pytest.approx(merged[metric]["value"], abs=1e-12)
        assert found[metric]["low"] < found[metric]["value"] < found[metric]["high"]


def test_low_option_mass_is_flagged(table):
    assert score(table.assign(option_mass=0.4), QUESTIONS, draws=0)["seen"]["option_mass"]["low_mass"] is True
    assert score(table, QUESTIONS, draws=0)["seen"]["option_mass"]["low_mass"] is False


def test_one_group_has_scores_but_no_intervals(table):
    found = score(table[table["group"] == "group 000"], QUESTIONS, draws=20)["seen"]
    assert found["soft_emd"]["value"] > 0
    assert found["soft_emd"]["low"] is None
    assert found["spread"]["value"] is None


def test_methods_on_different_people_are_not_compared(table):
    with pytest.raises(BenchmarkError, match="different people"):
        compare(table, table[table["person"] != 3], QUESTIONS, draws=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns="seen"), "lack the columns"),
        (lambda rows: rows.assign(question_id="q7"), "unknown questions"),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), "twice"),
        (lambda rows: rows.assign(group=np.where(rows["question_id"] == "q0", "here", "there")), "two groups"),
        (lambda rows: rows.assign(answer=4), "has 4 options"),
        (lambda rows: rows.assign(probabilities=[[0.5, 0.5]] * len(rows)), "has 4 options"),
        (lambda rows: rows.assign(probabilities=[[0.5] * 4] * len(rows)), "sum to 1"),
        (lambda rows: rows.assign(option_mass=float("nan")), "not a number"),
    ],
)
def test_a_table_that_breaks_the_form_is_named(table, change, message):
    with pytest.raises(BenchmarkError, match=message):
        score(change(table), QUESTIONS, draws=0)


def test_an_unknown_reference_is_named_with_a_suggestion(table):
    with pytest.raises(BenchmarkError, match="Did you mean 'cuma'"):
        score_many({"cuma": table}, QUESTIONS, reference="cumma")


def test_scoring_is_fast_enough_to_be_done_often():
    questions = items(4)
    big = draw_world(0, questions, groups=75, people=135)
    rows = predictions(big, big.model)
    started = time.process_time()
    score(rows, questions)
    assert time.process_time() - started < 10  # about 1 s on an idle core; slower means a loop has crept in


def test_metrics_never_load_torch():
    code = "import sys, cuma.metrics; assert not {'torch', 'peft', 'transformers', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
