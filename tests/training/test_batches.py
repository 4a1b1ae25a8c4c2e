"""Batches: the loss on a cell is the loss on its people, and every row keeps its own person."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from cuma.answering.letters import SurveyTokens, survey_loss
from cuma.data.catalog import load_benchmark
from cuma.data.surveys.answers import survey_answers
from cuma.data.surveys.cells import survey_cells
from cuma.models.backbones import load_backbone
from cuma.people.profiles import Profile
from cuma.training.batches import ProfileCollator, tokenise_answers, tokenise_cells


class Table:
    """Looks up made-up embeddings."""

    def __call__(self, profiles: list[str]) -> torch.Tensor:
        return torch.tensor([[float(profile), 1.0] for profile in profiles])


def test_a_cells_loss_is_the_mean_loss_of_its_people() -> None:
    torch.manual_seed(0)
    logits, letters = torch.randn(1, 20), [4, 9, 11]
    counts = [3, 0, 5]
    whole = survey_loss(logits, torch.tensor([letters]), torch.tensor([[float(c) for c in counts]]))
    answers = [letter for letter, count in zip(letters, counts, strict=True) for _ in range(count)]
    one_by_one = cross_entropy(logits.expand(len(answers), -1), torch.tensor(answers))
    torch.testing.assert_close(whole, one_by_one)


def test_padding_of_shorter_questions_changes_nothing() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 20)
    two = survey_loss(logits[:1], torch.tensor([[1, 2]]), torch.tensor([[0.25, 0.75]]))
    four = survey_loss(logits[1:], torch.tensor([[1, 2, 3, 4]]), torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    padded = survey_loss(
        logits,
        torch.tensor([[1, 2, -1, -1], [1, 2, 3, 4]]),
        torch.tensor([[0.25, 0.75, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]]),
    )
    torch.testing.assert_close(padded, (two + four) / 2)


def test_the_collator_adds_each_rows_person_in_order() -> None:
    collator = ProfileCollator(lambda rows: {"n": len(rows), "keys": sorted(rows[0])}, Table())
    batch = collator([{"input_ids": [1], "profile": "3"}, {"input_ids": [2], "profile": "7"}])
    assert batch["n"] == 2
    assert batch["keys"] == ["input_ids"]
    assert batch["profile_embeds"].tolist() == [[3.0, 1.0], [7.0, 1.0]]


def test_cells_count_alike_or_as_their_number_of_people() -> None:
    tokens = SurveyTokens(load_backbone("smollm2-135m").tokenizer)
    cells = survey_cells(load_benchmark("gss"), "train", ("seen",), profile_in_prompt=False).select(range(20))
    people = [sum(cell["answer_counts"]) for cell in cells]
    assert len(set(people)) > 1
    alike, counted = tokenise_cells(cells, tokens), tokenise_cells(cells, tokens, counts=True)
    assert [sum(row["answer_weights"]) for row in alike] == pytest.approx([1.0] * len(cells))
    for row, same, n in zip(counted, alike, people, strict=True):
        assert row["answer_weights"] == pytest.approx([n * share for share in same["answer_weights"]])


def test_a_letter_row_has_the_persons_own_letter_with_their_weight() -> None:
    tokens = SurveyTokens(load_backbone("smollm2-135m").tokenizer)
    survey = load_benchmark("gss")
    answers = survey_answers(survey, "validation", ("seen",), profile_in_prompt=False).select(range(60))
    answers = answers.map(lambda row, place: {"weight": 1.0 + place}, with_indices=True)
    rows = tokenise_answers(answers, tokens)
    assert len(rows) == len(answers)
    for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        assert row["input_ids"] == tokens.prompt(answer["prompt"])
        assert row["answer_tokens"][answer["answer"]] == tokens.letters(answer["options"])[answer["answer"]]
        assert row["answer_weights"][answer["answer"]] == 1.0 + place
        assert sum(row["answer_weights"]) == 1.0 + place
        assert Profile.parse(row["profile"]) == Profile.parse(answer["profile"])


def test_letter_rows_of_a_cell_have_the_cells_loss() -> None:
    """The two losses differ in whom they count alike: groups, or people. Within one cell they are the same."""
    torch.manual_seed(2)
    logits = torch.randn(1, 20).expand(4, -1)
    letters = torch.tensor([[5, 6]])
    rows = survey_loss(logits, letters.expand(4, -1), torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]]))
    torch.testing.assert_close(rows, survey_loss(logits[:1], letters, torch.tensor([[0.75, 0.25]])))
    heavy = survey_loss(logits, letters.expand(4, -1), torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 3]]))
    torch.testing.assert_close(heavy, survey_loss(logits[:1], letters, torch.tensor([[0.5, 0.5]])))
