"""Option distributions do not depend on padding side, batch size, row order, or a liking for a letter."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from cuma.answering.letters import SurveyTokens
from cuma.data.catalog import load_benchmark
from cuma.data.surveys.cells import survey_cells
from cuma.data.surveys.prompts import LETTERS
from cuma.data.surveys.survey import Question, Survey
from cuma.errors import BenchmarkError
from cuma.evaluation.predict import LocalModel, for_people, predict_cells
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.people.profile_table import ProfileTable
from helpers.tiny import adapted, llama


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_backbone("smollm2-135m").tokenizer


@pytest.fixture(scope="module")
def survey() -> Survey:
    whole = load_benchmark("gss")
    kept = whole.groups[:3] + tuple(group for group in whole.groups if group.role == "test")[:2]
    people = whole.people[whole.people["group"].isin([group.id for group in kept])]
    return Survey(whole.name, whole.questions, kept, people, whole.card)


@pytest.fixture(scope="module")
def table(survey: Survey) -> ProfileTable:
    encoder = ProfileEncoder.from_pretrained("minilm")
    return ProfileTable(encoder, [group.profile for group in survey.groups])


@pytest.fixture(scope="module")
def mixture(tokenizer: Any) -> Any:
    return adapted(llama(vocab_size=len(tokenizer), max_position_embeddings=256), profile_dim=384)


def predict(
    model: Any, tokenizer: Any, survey: Survey, side: str = "left", table: Any = None, batch_size: int = 32, **how: Any
) -> Any:
    cells = survey_cells(survey, "test", ("seen", "test"), profile_in_prompt=False)
    return predict_cells(LocalModel(model, SurveyTokens(tokenizer, side), table, batch_size), cells, **how)


def matrix(cells: pd.DataFrame) -> np.ndarray:
    return np.stack(cells.sort_values(["group", "question_id"])["probabilities"].tolist())


@pytest.mark.parametrize(("side", "batch_size"), [("right", 32), ("left", 1), ("right", 7)])
def test_padding_side_and_batch_size_change_nothing(
    mixture: Any, tokenizer: Any, survey: Survey, table: ProfileTable, side: str, batch_size: int
) -> None:
    reference = predict(mixture, tokenizer, survey, table=table)
    other = predict(mixture, tokenizer, survey, side, table=table, batch_size=batch_size)
    np.testing.assert_allclose(matrix(reference[0]), matrix(other[0]), atol=1e-5)
    keys = ["group", "layer", "expert"]
    a, b = (routing.sort_values(keys)["gate"].to_numpy() for routing in (reference[1], other[1]))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_people_differ_only_through_their_profile(
    mixture: Any, tokenizer: Any, survey: Survey, table: ProfileTable
) -> None:
    cells, routing = predict(mixture, tokenizer, survey, table=table)
    by_group = matrix(cells).reshape(len(survey.groups), -1)
    assert np.ptp(by_group, axis=0).max() > 1e-6
    np.testing.assert_allclose(routing.groupby(["group", "layer"])["gate"].sum(), 1, atol=1e-5)
    with mixture.disable_adapter():
        plain, _ = predict(mixture, tokenizer, survey, table=table, every_order=False)
    plain = plain[plain["group"].isin(plain["group"].unique()[::2])]  # groups that saw the same order
    np.testing.assert_allclose(np.ptp(matrix(plain).reshape(plain["group"].nunique(), -1), axis=0), 0, atol=1e-6)


class LikesOneLetter(torch.nn.Module):
    """Says the first letter with 90 % whatever it is asked."""

    def __init__(self, vocabulary: int, tokens: list[int]) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.full((vocabulary,), -30.0))
        self.logits.data[tokens] = torch.tensor([0.9, 0.1]).log()

    def forward(self, input_ids: torch.Tensor, logits_to_keep: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.logits.expand(len(input_ids), len(logits_to_keep), -1))


def test_a_liking_for_a_letter_is_averaged_out(tokenizer: Any, survey: Survey) -> None:
    model = LikesOneLetter(len(tokenizer), SurveyTokens(tokenizer).letters(2))
    cells, routing = predict(model, tokenizer, survey, table=None)
    np.testing.assert_allclose(matrix(cells), 0.5)
    np.testing.assert_allclose(cells["option_mass"], 1.0, atol=1e-6)
    assert routing.empty
    one, _ = predict(model, tokenizer, survey, table=None, every_order=False)
    assert len(one) == len(cells)
    assert set(np.round(matrix(one)[:, 0], 6)) == {0.9, 0.1}


def test_26_options_are_asked_under_every_letter(tokenizer: Any, survey: Survey) -> None:
    """A model that likes K and Z: over all 26 orders every option stood under each of them."""
    tokens = SurveyTokens(tokenizer).letters(26)
    question = Question("many", "Which?", tuple(f"Number {place}" for place in range(26)), ordinal=False)
    people = survey.people[["person", "group", "part"]].assign(many=np.arange(len(survey.people)) % 26)
    many = Survey("many", (question,), survey.groups, people, survey.card)
    cells, _ = predict(LikesOneLetter(len(tokenizer), [tokens[10], tokens[25]]), tokenizer, many, table=None)
    np.testing.assert_allclose(matrix(cells), 1 / 26)
    np.testing.assert_allclose(cells["option_mass"], 1.0, atol=1e-6)
    one, _ = predict(LikesOneLetter(len(tokenizer), [tokens[10], tokens[25]]), tokenizer, many, every_order=False)
    np.testing.assert_allclose(np.sort(matrix(one))[:, -3:], [[0, 0.1, 0.9]] * len(one), atol=1e-6)


def test_a_tokenizer_that_does_not_tell_letters_apart_is_refused(tokenizer: Any) -> None:
    vocabulary = {letter: place for place, letter in enumerate(LETTERS[:10])} | {"<unk>": 10}
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(vocabulary, "<unk>")), unk_token="<unk>")
    words.pad_token = "<unk>"
    assert SurveyTokens(words).letters(10) == list(range(10))
    with pytest.raises(BenchmarkError, match="each of the 12 answer letters to L as one token of its own"):
        SurveyTokens(words).letters(12)
    assert len(set(SurveyTokens(tokenizer).letters(26))) == 26


def test_people_get_their_groups_answer_once_per_question(
    mixture: Any, tokenizer: Any, survey: Survey, table: ProfileTable
) -> None:
    cells, _ = predict(mixture, tokenizer, survey, table=table)
    rows = for_people(cells, survey, "test")
    test_people = survey.people[survey.people["part"] == "test"]
    answered = int((test_people[[q.id for q in survey.questions]] >= 0).sum().sum())
    assert len(rows) == answered
    assert not rows.duplicated(["person", "question_id"]).any()
    seen = {group.id: group.role == "seen" for group in survey.groups}
    assert (rows["seen"] == rows["group"].map(seen)).all()
