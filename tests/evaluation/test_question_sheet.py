"""Shares of countries and choices among replies: asked of a real model, and of servers that know the answers; what
stands beside."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon
from typer.testing import CliRunner

from cuma.answering.materials import load_survey
from cuma.cli import app
from cuma.cli.measurements import MEASUREMENTS
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.corpus import Corpus, Shares
from cuma.data.surveys.survey import Survey
from cuma.errors import BackboneError, BenchmarkError, EndpointRequestError
from cuma.evaluation.anchor_data import known_of_survey
from cuma.evaluation.evaluate_server import Server, evaluate_server, subject_of_server
from cuma.evaluation.kinds import require_kind
from cuma.evaluation.question_sheet import _read, sheet_of
from cuma.evaluation.subject import subject_of_model
from cuma.metrics.breakdown import INEQUALITY
from cuma.metrics.corners import CORNERS
from cuma.recipes.load import load_recipe
from cuma.reports import write_report
from cuma.runs.folder import Run, read_json
from helpers.anchored import people, question
from helpers.judging import Server as HttpServer
from helpers.judging import completion, running
from helpers.make_opinions import write_opinions
from helpers.make_preferences import community_rows, write_community


class Knows(HttpServer):
    """Gives the letters of a question the probabilities that `knows` says, given the system's and the user's text."""

    def __init__(self, knows: Callable[[str, list[str]], list[float]]) -> None:
        super().__init__(lambda *_: "")
        self.knows = knows
        self.fail_after: int | None = None
        self.failed = 0

    def respond(self, body: dict[str, Any], text: str, key: str) -> tuple[int, str, dict[str, str]]:
        if self.fail_after is not None and len(self.bodies) > self.fail_after:
            self.failed += 1
            return 401, json.dumps({"error": {"message": text}}), {}
        said = " ".join(message["content"] for message in body["messages"][:-1])
        user = body["messages"][-1]["content"]
        shown = re.findall(r"^[A-J]\. (.*)$", user, flags=re.MULTILINE)
        shares = self.knows(f"{said}\n{user.splitlines()[0]}", shown)
        tops = [
            {"token": letter, "logprob": math.log(max(share, 1e-9)), "bytes": None}
            for letter, share in zip("ABCDEFGHIJ", shares, strict=False)
        ]
        return 200, json.dumps(completion(["A"], {"content": [{**tops[0], "top_logprobs": tops}], "refusal": None})), {}


@pytest.fixture(scope="module")
def opinions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four countries, Japan held out, and two test questions."""
    countries = ("Britain", "Egypt", "Japan", "S. Korea")
    home = tmp_path_factory.mktemp("opinions")
    options = Options(holdout=(("country", "Japan"),))
    build("global_opinions", write_opinions(home / "data.csv", 20, countries), home / "built", options)
    return home / "built"


def published(folder: Path) -> Shares:
    shares = Corpus.open(folder).shares()
    assert shares is not None
    return shares


def knows_shares(shares: Shares) -> Callable[[str, list[str]], list[float]]:
    """Answers for the country that the prompt names as its people did; for nobody, evenly."""
    questions = {question.id: question for question in shares.questions}

    def knows(text: str, shown: list[str]) -> list[float]:
        for row in shares.table.itertuples():
            question = questions[row.question_id]
            if row.group in text and question.text in text:
                return [row.shares[question.options.index(option)] for option in shown]
        return [1 / len(shown)] * len(shown)

    return knows


def test_all_four_corners_are_asked_and_nothing_that_was_trained_on(opinions: Path) -> None:
    table = published(opinions).table
    splits = Corpus.open(opinions).rows("distribution")
    assert splits is not None
    trained = set(zip(splits["train"]["question_id"], splits["train"]["group"], strict=True))
    assert not trained & set(zip(table["question_id"], table["group"], strict=True))
    assert set(table.loc[~table["seen"], "group"]) == {"Japan"}
    assert (table["item_seen"] == table["question_id"].isin({item for item, _ in trained})).all()
    assert table.groupby(["item_seen", "seen"]).size().to_dict() == {
        (False, False): 2, (False, True): 6, (True, False): 16, (True, True): 5,
    }  # fmt: skip
    chosen_by = set(zip(splits["validation"]["question_id"], splits["validation"]["group"], strict=True))
    assert not chosen_by & set(zip(table["question_id"], table["group"], strict=True))


def test_a_server_that_knows_the_shares_is_found_perfect_and_goes_on_after_a_failure(
    opinions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cuma.models.endpoint.RETRIES", 0)
    shares = published(opinions)
    with running(Knows(knows_shares(shares))) as server:
        asked = Server(server.url, "m", workers=1, max_requests=10_000)
        subject = subject_of_server(asked, str(opinions), "persona", tmp_path / "run")
        server.fail_after = 20
        with pytest.raises(EndpointRequestError):
            evaluate_server(asked, subject)
        server.fail_after = None
        folder = evaluate_server(asked, subject)
        orders = {question.id: len(question.options) for question in shares.questions}
        rows = int(shares.table["question_id"].map(orders).sum()) + sum(orders.values())
        assert len(server.bodies) - server.failed == rows + 2  # asked twice whether it gives log-probabilities
        asked_for = len(server.bodies)
        assert evaluate_server(asked, subject) == folder
        assert len(server.bodies) == asked_for  # a finished evaluation is left alone
    scores = read_json(folder / "scores.json")
    for side in ("seen", "unseen"):
        assert scores[side]["soft_emd"]["value"] == pytest.approx(0, abs=1e-6)
        assert scores[side]["js_similarity"]["value"] == pytest.approx(1, abs=1e-4)
        assert scores[side]["steerability"]["value"] > 0.02
    assert scores["seen"]["spread"]["value"] == pytest.approx(1, abs=1e-4)
    assert scores["seen"]["alignment"]["value"] == pytest.approx(1, abs=1e-6)
    assert scores["n"]["seen"] == {"groups": 3, "questions": 2, "cells": 6}
    assert scores["asked"]["answers"] == "logprobs"
    assert "accuracy" not in scores["seen"]
    corners = scores["corners"]
    assert corners["unseen items · seen groups"] == {"n": scores["n"]["seen"], **without_inequality(scores["seen"])}
    assert corners["seen items · unseen groups"]["n"] == {"groups": 1, "questions": 16, "cells": 16}
    assert corners["seen items · seen groups"]["soft_emd"]["value"] == pytest.approx(0, abs=1e-6)
    anchors = scores["anchors"]
    assert anchors["average"]["corners"]["seen items · seen groups"]["soft_emd"]["value"] > 0.02
    assert anchors["uniform"]["seen"]["soft_emd"]["value"] > 0.02
    with pytest.raises(BenchmarkError, match=r"--collapse needs survey answers of single people, and .* has published"):
        require_kind("--collapse", MEASUREMENTS["--collapse"].kinds, "opinions", *load_survey(subject.recipe))
    few = subject_of_server(asked, str(opinions), "few_shot", tmp_path / "few")
    with pytest.raises(BenchmarkError, match="--prompting persona or none"):
        evaluate_server(asked, few)


def without_inequality(side: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in side.items() if name not in INEQUALITY}


def test_a_real_model_is_asked_for_shares_from_the_command_line_and_reported(opinions: Path, tmp_path: Path) -> None:
    words = ["evaluate", "smollm2-135m", "--benchmark", str(opinions), "--output-dir", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*words, "--prompting", "none"])
    assert done.exit_code == 0, done.output
    assert "js_similarity" in done.output
    subject = subject_of_model("smollm2-135m", str(opinions), "none", tmp_path / "run")
    table = pd.read_parquet(subject.folder / "predictions.parquet")
    assert set(table) == {"group", "seen", "item_seen", "question_id", "shares", "probabilities", "option_mass"}
    told = published(opinions).table.set_index(["group", "question_id"])["shares"]
    wanted = []
    for row in table.itertuples():
        np.testing.assert_allclose(row.shares, told[row.group, row.question_id])
        assert sum(row.probabilities) == pytest.approx(1)
        wanted.append(1 - jensenshannon(row.shares, row.probabilities))
    seen = (table["seen"] & ~table["item_seen"]).to_numpy()
    scores = read_json(subject.folder / "scores.json")
    assert scores["seen"]["js_similarity"]["value"] == pytest.approx(np.mean(np.array(wanted)[seen]))
    assert scores["seen"]["spread"]["value"] == pytest.approx(0, abs=1e-12)  # told nothing, it says one thing to all
    page = write_report([tmp_path / "run"], tmp_path / "report.html", draws=50).read_text(encoding="utf-8")
    assert "Seen groups: 3 groups, 2 new questions" in page
    assert "There are no single people" in page
    assert page.index("Seen items · seen groups") < page.index("Seen groups: 3 groups")
    assert "training average" in page
    for name, figures in (("Cells", ["5", "6", "16", "2"]), ("Items × groups", ["4 × 2", "2 × 3", "16 × 1", "2 × 1"])):
        row = re.search(rf"{name}</th>(.*?)</tr>", page, flags=re.DOTALL)
        assert row is not None
        assert re.findall(r"<td>(.*?)</td>", row[1]) == figures
    assert "Seen groups: 3 groups, 2 new questions" in (tmp_path / "report.md").read_text(encoding="utf-8")


# ---- choices among replies, of a server -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def community(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty people with two choices each; twelve live in India and are held out, as are all test people's choices."""
    home = tmp_path_factory.mktemp("community")
    rows = community_rows(60, 60)
    for number, row in enumerate(rows):
        row["annotator_country"] = "india" if number < 12 else "france"
    build("community", write_community(home / "ca.csv", rows), home / "built", Options(holdout=(("country", "India"),)))
    return home / "built"


def prefers(_: str, shown: list[str]) -> list[float]:
    """The reply that was preferred in `community_rows`, except by conversations 0 to 2."""
    marks = [re.fullmatch(r"Reply (\d+) \d ([a-d])", option) for option in shown]
    found = [(int(mark[1]), mark[2]) for mark in marks if mark]
    right = [letter == "abcd"[(number + (number < 3)) % 4] for number, letter in found]
    return [0.85 if one else 0.05 for one in right]


def test_a_server_is_asked_which_reply_is_preferred_and_goes_on_after_a_failure(
    community: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cuma.models.endpoint.RETRIES", 0)
    with running(Knows(prefers)) as server:
        asked = Server(server.url, "m", workers=1)
        subject = subject_of_server(asked, str(community), "persona", tmp_path / "run")
        server.fail_after = 30
        with pytest.raises(EndpointRequestError):
            evaluate_server(asked, subject)
        server.fail_after = None
        folder = evaluate_server(asked, subject)
        table = pd.read_parquet(folder / "discrimination.parquet")
        assert len(server.bodies) - server.failed == 4 * len(table) + 2
        systems = {body["messages"][0]["content"] for body in server.bodies}
        assert all("India" in text or "France" in text for text in systems)
        assert evaluate_server(asked, subject) == folder
        assert len(server.bodies) - server.failed == 4 * len(table) + 2
    found = read_json(folder / "discrimination.json")
    assert found["unseen"]["accuracy"]["value"] == pytest.approx(18 / 24)  # of India's 24, six are of conversations 0-2
    assert found["seen"]["accuracy"]["value"] == 1
    assert found["asked"] == {
        "prompting": "persona", "answers": "logprobs", "host": "127.0.0.1", "samples": None, "silent": 0,
        "sampled_rows": 0, "beyond_top": 0,
    }  # fmt: skip
    assert Run.open(tmp_path / "run").info["status"] == "evaluated"
    assert 0 < Run.open(tmp_path / "run").info["requests"]["sent"] < 4 * len(table) + 2  # not what was said already
    page = write_report([tmp_path / "run"], tmp_path / "report.html", draws=50).read_text(encoding="utf-8")
    assert "On unseen groups m (persona) names the reply that the person preferred in 75.0 % of cases" in page
    assert re.search(r'<th scope="row">India</th><td>unseen</td><td>12</td><td>0\.75\b', page)
    assert "France" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)  # six test people: too few
    for suffix in (".md", ".tex"):
        assert "Preferred replies" in (tmp_path / f"report{suffix}").read_text(encoding="utf-8")


def test_ones_own_shares_may_say_of_how_many_people_they_are(tmp_path: Path) -> None:
    rows = [
        {"question": f"Is {q} good?", "options": ["yes", "no"], "distribution": [0.4, 0.6], "country": country, "n": n}
        for q in range(40)
        for country, n in (("Peru", 500), ("Kenya", 30 + q), ("Japan", 8))
    ]
    rows[0]["n"] = "many"
    source = tmp_path / "mine.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    build("own", source, tmp_path / "built", Options())
    shares = published(tmp_path / "built")
    assert set(shares.table["group"]) == {"Peru", "Kenya", "Japan"}
    assert set(shares.table["item_seen"]) == {True, False}
    assert (shares.table.loc[shares.table["group"] == "Peru", "n"] == 500).all()
    assert read_json(tmp_path / "built" / "card.json")["rows_kept"] == len(rows) - 1


# ---- people's answers where items are held out: what anchors say beside them ----------------------------------------


def survey_with_new_items() -> Survey:
    """Twelve groups of 24 people, of which eight are seen; six items, of which the last two are held out."""
    groups = people(12, 8)
    items = tuple(question(f"q{k}", "Yes No", False, "seen" if k < 4 else "test", f"tax number {k}") for k in range(6))
    rng = np.random.default_rng(0)
    rows = [
        {"group": group.id, "part": ("train", "validation", "test")[k % 3] if group.role == "seen" else "test"}
        | {item.id: int(rng.random() < 0.3 + 0.05 * place) for item in items}
        for place, group in enumerate(groups)
        for k in range(24)
    ]
    table = pd.DataFrame(rows)
    table.insert(0, "person", np.arange(len(table)))
    return Survey("made", items, groups, table, card={})


def test_anchors_stand_beside_peoples_answers_to_new_items_and_are_worked_out_once(tmp_path: Path) -> None:
    recipe = load_recipe("questions/lora")
    kept: dict[str, Any] = {}
    sheet = sheet_of(recipe, survey_with_new_items(), None, kept)
    predicted = [np.array([0.4, 0.4]) for _ in sheet.rows]
    for name in ("one", "two"):
        sheet.write(tmp_path / name, predicted, None, {"prompting": "persona", "answers": "logits"})
        kept |= {key: (rows, {**anchors, "again": {}}) for key, (rows, anchors) in kept.items()}
    one, two = (read_json(tmp_path / name / "scores.json")["anchors"] for name in ("one", "two"))
    assert {**one, "again": {}} == two  # the second evaluation takes what the first one left
    assert not [name for name, entry in one.items() if "absent" in entry]
    assert set(one["process_texts"]["corners"]) == set(one["average"]["corners"]) == set(CORNERS)
    assert set(one["counts"]["corners"]) == {"seen items · seen groups"}
    figure = one["process_texts"]["unseen"]["soft_emd"]
    assert figure["low"] < figure["value"] < figure["high"]


def test_only_a_missing_encoder_leaves_out_the_anchors_that_read(tmp_path: Path) -> None:
    of = known_of_survey(survey_with_new_items())
    missing = _read(of, load_recipe("questions/lora", ["encoder.model_name_or_path=nobody/nothing"]))
    assert missing.texts is None
    assert "model 'nobody/nothing' is not here" in missing.no_encoder
    with pytest.raises(BackboneError, match=r"modules\.json"):  # a folder that holds something else
        _read(of, load_recipe("questions/lora", [f"encoder.model_name_or_path={tmp_path}"]))
    read = _read(of, load_recipe("questions/lora", ["encoder.fields=true"]))
    assert read.texts is not None
    assert read.profile_embeds is not None
    assert read.profile_embeds.shape[1] == read.texts.profiles.shape[1] + 10  # three countries, two sexes, five ages
