"""The anchors, on a small additive world of our own and on the real benchmarks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from cuma.data.catalog import load_benchmark
from cuma.data.surveys import Group, Question, Survey
from cuma.errors import BenchmarkError, ProfileError
from cuma.evaluation.anchor_data import one_hot_fields
from cuma.evaluation.anchors import ANCHORS, absent, anchor_predictions, beside
from cuma.metrics import score, score_many
from cuma.people.profiles import Profile
from helpers.anchored import bag_of_words, known, people, question

QUESTIONS = (
    Question("more", "More?", ("Yes", "No"), ordinal=False),
    Question("often", "How often?", ("never", "sometimes", "always"), ordinal=True),
)
CHURCH = ("never", "sometimes", "at least monthly")
PARTIES = ("Democrat", "independent", "Republican")
SEXES = ("Male", "Female")


def additive_world(seed: int = 0, people: int = 120) -> tuple[Survey, np.ndarray]:
    """18 groups whose answers are additive in their fields, and embeddings that say the fields in another basis."""
    rng = np.random.default_rng(seed)
    triples = list(product(CHURCH, PARTIES, SEXES))
    roles = rng.permutation(["seen"] * 10 + ["validation"] * 4 + ["test"] * 4)
    groups, rows = [], []
    for (church, party, sex), role in zip(triples, roles, strict=True):
        profile = Profile(church_activity=church, party=party, sex=sex)
        group = Group(f"{church}, {party}, {sex}", profile, str(role))
        lean = 1.5 * (CHURCH.index(church) - 1) + 1.2 * (PARTIES.index(party) - 1)
        parts = (
            rng.permutation(["train"] * (people // 2) + ["test"] * (people // 2)) if role == "seen" else [role] * people
        )
        more = (rng.random(people) > expit(lean)).astype(int)
        often = rng.binomial(2, expit(lean), size=people)
        rows += list(zip([group.id] * people, parts, more, often, strict=True))
        groups.append(group)
    table = pd.DataFrame(rows, columns=["group", "part", "more", "often"])
    table.insert(0, "person", np.arange(len(table)))
    table.loc[rng.random(len(table)) < 0.1, "often"] = -1
    survey = Survey("additive", QUESTIONS, tuple(groups), table, card={})
    return survey, one_hot_fields(survey.groups) @ rng.normal(size=(one_hot_fields(survey.groups).shape[1], 16))


@pytest.fixture(scope="module")
def world() -> tuple[Survey, np.ndarray]:
    return additive_world()


@pytest.fixture(scope="module")
def tables(world) -> dict[str, pd.DataFrame]:
    survey, embeddings = world
    return {name: anchor_predictions(name, survey, embeddings, bag_of_words) for name in ANCHORS}


REGRESSIONS = ("logistic", "pairs", "process", "mrp", "ridge")
"""They know one question at a time."""
READ = ("ridge_items", "process_fields", "process_texts")


def said_by_group(table: pd.DataFrame, question: str) -> dict[str, tuple[float, ...]]:
    rows = table[table["question_id"] == question]
    return {group: tuple(shares) for group, shares in zip(rows["group"], rows["probabilities"], strict=True)}


@pytest.mark.parametrize("name", sorted(ANCHORS))
def test_every_test_answer_gets_a_distribution(world, tables, name):
    survey, table = world[0], tables[name]
    people = survey.people[survey.people["part"] == "test"].melt(["person", "group", "part"], ["more", "often"])
    people = people[people["value"] >= 0]
    seen = {group.id for group in survey.groups if group.role == "seen"}
    if name == "counts":
        people = people[people["group"].isin(seen)]
    wanted = people.set_index(["person", "variable"])["value"].sort_index()
    found = table.set_index(["person", "question_id"])["answer"].sort_index()
    assert list(found.items()) == list(wanted.items())
    assert (table["seen"] == table["group"].isin(seen)).all()
    assert (table["option_mass"] == 1).all()
    for shares in table["probabilities"]:
        assert shares.min() >= 0
        assert shares.sum() == pytest.approx(1, abs=1e-12)
    assert table.columns.tolist() == [
        "person", "group", "seen", "question_id", "answer", "probabilities", "option_mass",
    ]  # fmt: skip


def test_the_average_says_the_same_to_everybody_and_counts_people(world, tables):
    survey = world[0]
    train = survey.people[survey.people["part"] == "train"]
    (said,) = set(said_by_group(tables["average"], "more").values())
    assert said[0] == pytest.approx((train["more"] == 0).mean())


def test_counts_are_each_seen_groups_own_training_answers(world, tables):
    train = world[0].people.query("part == 'train' and often >= 0")
    for group, said in said_by_group(tables["counts"], "often").items():
        answers = train.loc[train["group"] == group, "often"]
        np.testing.assert_allclose(said, np.bincount(answers, minlength=3) / len(answers), atol=1e-6)


def test_a_group_that_gave_no_training_answer_falls_back_on_the_average(world):
    survey = world[0]
    group = next(group.id for group in survey.groups if group.role == "seen")
    people = survey.people.copy()
    people.loc[(people["group"] == group) & (people["part"] == "train"), "often"] = -1
    silent = replace(survey, people=people)
    said = said_by_group(anchor_predictions("counts", silent), "often")[group]
    assert said == pytest.approx(next(iter(said_by_group(anchor_predictions("average", silent), "often").values())))


def test_regressions_carry_over_to_unseen_combinations(tables):
    found = score_many(tables, QUESTIONS, draws=0)["scores"]
    average = found["average"]["unseen"]["soft_emd"]["value"]
    for name in (*REGRESSIONS, *READ):
        assert found[name]["unseen"]["soft_emd"]["value"] < 0.6 * average, name
        assert found[name]["unseen"]["alignment"]["value"] > 0.8, name
    assert found["average"]["seen"]["spread"]["value"] == 0
    assert found["counts"]["seen"]["spread"]["value"] == pytest.approx(1, abs=0.3)


def test_pairs_of_fields_see_what_does_not_add_up():
    survey = with_interaction(additive_world(seed=8, people=400)[0])
    tables = {name: anchor_predictions(name, survey) for name in ("logistic", "pairs", "mrp")}
    found = score_many(tables, survey.questions, draws=0)["scores"]
    emd = {name: scores["unseen"]["soft_emd"]["value"] for name, scores in found.items()}
    assert max(emd["pairs"], emd["mrp"]) < 0.1 < emd["logistic"]


def with_interaction(survey: Survey) -> Survey:
    """The survey with one question, whose answer is for one sex and the other the opposite function of church."""
    rng = np.random.default_rng(2)
    of = {group.id: group.profile.fields for group in survey.groups}
    sign = survey.people["group"].map(
        lambda label: (1 if of[label]["sex"] == "Male" else -1) * (CHURCH.index(of[label]["church_activity"]) - 1)
    )
    people = survey.people.assign(more=(rng.random(len(sign)) > expit(1.5 * sign)).astype("int64")).drop(
        columns="often"
    )
    return replace(survey, people=people, questions=QUESTIONS[:1])


def test_shuffled_embeddings_mislead_the_ridge(world, tables):
    survey, embeddings = world
    shuffled = anchor_predictions("ridge", survey, np.random.default_rng(1).permutation(embeddings))
    both = score_many({"own": tables["ridge"], "shuffled": shuffled}, QUESTIONS, draws=0)["scores"]
    emds = {name: scores["unseen"]["soft_emd"]["value"] for name, scores in both.items()}
    assert emds["shuffled"] > 1.5 * emds["own"]


def test_test_answers_are_never_looked_at(world, tables):
    survey, embeddings = world
    people = survey.people.copy()
    people.loc[people["part"] == "test", "more"] = 1 - people.loc[people["part"] == "test", "more"]
    for name in ANCHORS:
        again = anchor_predictions(name, replace(survey, people=people), embeddings, bag_of_words)
        assert said_by_group(again, "more") == said_by_group(tables[name], "more"), name


def test_answers_to_items_that_are_held_out_are_never_looked_at(world):
    survey, embeddings = world
    items = (*QUESTIONS, Question("new", "More, and how often?", ("Yes", "No"), False, "test"))
    answers = survey.people["more"].where(survey.people["often"] != 1, 1)
    for name in ANCHORS:
        said = [
            anchor_predictions(
                name, replace(survey, questions=items, people=survey.people.assign(new=new)), embeddings, bag_of_words
            )
            for new in (answers, 1 - answers)
        ]
        silent = name in ("counts", *REGRESSIONS)
        for item in ("more", "often", "new"):
            one, two = (said_by_group(table, item) for table in said)
            assert one == two
            assert bool(one) != (silent and item == "new"), (name, item)
        assert (said[0]["item_seen"] == (said[0]["question_id"] != "new")).all()


def test_validation_answers_choose_the_penalty_and_nothing_else(world, tables):
    survey, embeddings = world
    validation = survey.people["part"] == "validation"
    for name in ("average", "counts", "mrp"):
        fewer = replace(survey, people=survey.people.assign(more=survey.people["more"].where(~validation, -1)))
        assert said_by_group(anchor_predictions(name, fewer), "more") == said_by_group(tables[name], "more")
    silent = survey.people.assign(**{item.id: survey.people[item.id].where(~validation, -1) for item in QUESTIONS})
    for name in ("ridge", "low_rank", "ridge_items"):  # a fifth of the training answers then choose the penalty
        by_lot = anchor_predictions(name, replace(survey, people=silent), embeddings, bag_of_words)
        found = score_many({"average": tables["average"], name: by_lot}, QUESTIONS, draws=0)["scores"]
        assert found[name]["unseen"]["soft_emd"]["value"] < found["average"]["unseen"]["soft_emd"]["value"]


def test_a_profile_of_unseen_values_only_gets_the_intercept():
    groups = tuple(
        Group(f"country {index}", Profile(country=f"Land {index}"), role)
        for index, role in enumerate(["seen"] * 6 + ["validation"] * 2 + ["test"] * 2)
    )
    rng = np.random.default_rng(0)
    rows = []
    for index, group in enumerate(groups):
        for number in range(80):
            part = ("train" if number < 40 else "test") if group.role == "seen" else group.role
            rows.append((group.id, part, int(rng.random() < 0.1 + 0.08 * index)))
    people = pd.DataFrame(rows, columns=["group", "part", "more"])
    people.insert(0, "person", np.arange(len(people)))
    survey = Survey("lands", QUESTIONS[:1], groups, people, card={})
    for name in ("logistic", "pairs", "process", "mrp"):
        said = said_by_group(anchor_predictions(name, survey), "more")
        assert said["country 8"] == pytest.approx(said["country 9"])
    assert not one_hot_fields(survey.groups)[8:].any()


def test_row_order_of_people_does_not_matter(world, tables):
    survey, embeddings = world
    shuffled = replace(survey, people=survey.people.sample(frac=1, random_state=0))
    for name in ANCHORS:
        again = anchor_predictions(name, shuffled, embeddings, bag_of_words)
        said, before = said_by_group(again, "often"), said_by_group(tables[name], "often")
        assert said.keys() == before.keys()
        assert all(said[group] == pytest.approx(before[group], abs=1e-6) for group in said)


def test_wrong_input_is_named(world):
    survey, embeddings = world
    with pytest.raises(BenchmarkError, match="Did you mean 'ridge'"):
        anchor_predictions("rigde", survey, embeddings)
    for name in ("ridge", *READ):
        with pytest.raises(ProfileError, match="got none"):
            anchor_predictions(name, survey)
    with pytest.raises(ProfileError, match=r"\[18, D\]"):
        anchor_predictions("ridge", survey, embeddings[:-1])
    untrained = survey.people.assign(more=survey.people["more"].where(survey.people["part"] != "train", -1))
    with pytest.raises(BenchmarkError, match="no training person answered more"):
        anchor_predictions("average", replace(survey, people=untrained))


def test_on_the_general_social_survey_the_logistic_regression_beats_the_average_on_unseen_groups():
    survey = load_benchmark("gss")
    tables = {name: anchor_predictions(name, survey) for name in ("average", "counts", "logistic")}
    found = score_many(tables, survey.questions, reference="average", draws=1000)
    assert found["differences"]["logistic"]["seen"]["soft_emd"]["high"] < 0
    assert found["differences"]["logistic"]["unseen"]["soft_emd"]["high"] < 0
    assert (
        found["scores"]["counts"]["seen"]["soft_emd"]["value"] < found["scores"]["average"]["seen"]["soft_emd"]["value"]
    )
    assert found["scores"]["counts"]["n"]["seen"]["groups"] == 50


def test_anchors_do_not_load_torch():
    code = "import sys, cuma.evaluation.anchors; assert not {'torch', 'peft', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- beside a model's predictions -----------------------------------------------------------------------------------


ITEMS = (
    question("a", "Yes No", ordinal=False, text="tax the rich"),
    question("b", "low middle high", text="tax the poor"),
    question("new", "Yes No", ordinal=False, role="test", text="help the poor"),
    question("other", "cold warm", role="test", text="help the rich"),
)


def told(groups=None, items=ITEMS, counted=True, seen=4):
    """What is known of six groups, four of them seen, a third of their cells missing; and a perfect model's
    predictions of all cells, in the form that shares have."""
    rng = np.random.default_rng(0)
    said = {one.id: rng.dirichlet(np.ones(len(one.options)), size=6) for one in items}
    groups = groups or people(6, seen)
    trained = [(g, q) for g in range(seen) for q in range(len(items)) if items[q].role == "seen" and (g + q) % 3]
    of = known(items, groups, lambda g, q: list(said[items[q].id][g]), training=trained, counted=counted)
    rows = [
        {"group": groups[g].id, "seen": g < seen, "item_seen": items[q].role == "seen", "question_id": items[q].id,
         "shares": said[items[q].id][g], "probabilities": said[items[q].id][g], "option_mass": 0.5}
        for g, q in zip(*of.asked, strict=True)
    ]  # fmt: skip
    return of, pd.DataFrame(rows)


def test_every_anchor_has_its_figures_where_it_says_something_and_those_are_a_models_that_says_the_same():
    of, model = told()
    rows, found = beside(of, model, ITEMS)
    assert list(found) == list(ANCHORS)
    assert set(rows["anchor"]) == set(ANCHORS)
    for name, entry in found.items():
        corners = set(entry["corners"])
        new_items = {corner for corner in corners if corner.startswith("unseen items")}
        assert bool(new_items) == (name not in ("counts", *REGRESSIONS)), name
        assert ("unseen" in entry) == bool(new_items)  # the sides are of new items
        for figure in (part["soft_emd"] for part in entry["corners"].values()):
            assert figure["low"] <= figure["value"] <= figure["high"]
    assert "seen items · unseen groups" not in found["counts"]["corners"]
    table = rows[rows["anchor"] == "position"].set_index(["group", "question_id"])["probabilities"]
    said = model.assign(probabilities=[table[g, q] for g, q in zip(model["group"], model["question_id"], strict=True)])
    wanted = score(said, ITEMS)
    assert found["position"]["seen"]["soft_emd"] == wanted["seen"]["soft_emd"]
    for corner, part in found["position"]["corners"].items():
        assert part["soft_emd"] == wanted["corners"][corner]["soft_emd"]


def test_an_anchor_that_says_nothing_of_what_is_asked_has_no_row_and_no_figure():
    of, model = told()
    new = model[~model["seen"]]  # of new groups a group's own answers say nothing
    rows, found = beside(of, new, ITEMS)
    assert "counts" not in set(rows["anchor"])
    assert found["counts"]["corners"] == {}
    assert not {"seen", "unseen", "absent"} & set(found["counts"])
    assert set(found["average"]["corners"]) == {"seen items · unseen groups", "unseen items · unseen groups"}


def test_a_part_of_which_an_anchor_knows_some_cells_only_is_left_out():
    of, model = told()
    untrained = replace(of, training=of.training.where(of.training.question == 0))  # "b" is held to be seen, and is not
    rows, found = beside(untrained, model, ITEMS)
    assert "process" not in set(rows["anchor"])
    assert found["process"]["corners"] == {}
    assert len(found["average"]["corners"]) == 4


def test_an_anchor_that_cannot_speak_says_why():
    of, model = told(counted=False)
    silent = replace(of, texts=None, profile_embeds=None, no_encoder="model 'x' is not here.")
    found = beside(silent, model, ITEMS)[1]
    assert {name for name, entry in found.items() if "absent" in entry} == {"process", "mrp", "ridge", *READ}
    assert found["process_texts"]["absent"] == "the sentence encoder is missing: model 'x' is not here."
    assert "how many people" in found["mrp"]["absent"]
    apart = replace(of, asked=tuple(places[~np.isin(of.asked[0], of.training.group)] for places in of.asked))
    assert absent(apart, "counts") == "no cell that is asked was trained on"
    old, rest = told(items=ITEMS[:2])
    assert beside(old, rest, ITEMS[:2])[1]["position"]["absent"] == "no item is held out"
    many = tuple(question(f"q{k}", "Yes No") for k in range(13))
    assert "each of 13 questions" in absent(told(items=many)[0], "logistic")


def test_one_training_item_and_nothing_else_still_gives_every_figure_that_there_can_be():
    of, model = told(seen=2, items=ITEMS[1:])
    one = replace(of, training=of.training.where(np.arange(len(of.training)) == 0))
    rows, found = beside(one, model, ITEMS[1:])
    too_few = {name for name, entry in found.items() if "too few" in entry.get("absent", "")}
    assert too_few == {"logistic", "pairs", "ridge", "low_rank", "ridge_items"}
    for shares in rows["probabilities"]:
        assert np.isfinite(shares).all()
        assert shares.sum() == pytest.approx(1)
    nothing = replace(of, training=of.training.where(np.zeros(len(of.training), dtype=bool)))
    found = beside(nothing, model, ITEMS[1:])[1]
    assert {name for name, entry in found.items() if "absent" not in entry} == {"uniform", "average"}


def test_groups_without_fields_and_items_of_many_sizes_are_no_trouble():
    items = tuple(question(f"q{k}", " ".join("abcdefg"[: k + 2]), text=f"item {k}") for k in range(5))
    items += (question("new", "a b c d e f g h", role="test", text="item 9"),)
    of, model = told(people(6, 4, fields=False), items)
    found = beside(of, model, items)[1]
    assert not any("absent" in entry for entry in found.values())
    assert all(len(found[name]["corners"]) == 4 for name in ("average", "position", "low_rank", *READ))


def test_groups_of_which_nothing_is_known_silence_what_reads_fields_alone():
    nobody = tuple(replace(group, profile=Profile()) for group in people(6, 4))
    of, model = told(nobody)
    rows, found = beside(of, model, ITEMS)
    silent = {name for name, entry in found.items() if "absent" in entry}
    assert silent == {"logistic", "pairs", "process"}
    assert {found[name]["absent"] for name in silent} == {"no group that was trained on has a profile field"}
    assert set(rows["anchor"]) == set(ANCHORS) - silent


def test_on_the_benchmark_of_many_questions_every_anchor_finds_its_people():
    survey = load_benchmark("us")
    table = anchor_predictions("average", survey)
    asked = survey.with_roles(("seen", "test"))
    answers = survey.people.loc[survey.people["part"] == "test", [one.id for one in asked]] >= 0
    assert len(table) == int(answers.to_numpy().sum())
    assert set(table["question_id"]) == {one.id for one in asked}
    assert (table["item_seen"] == table["question_id"].isin({one.id for one in asked if one.role == "seen"})).all()
