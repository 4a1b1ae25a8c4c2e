"""Batches: the loss on a cell is the loss on its people, and every row keeps its own person."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from cuma.training.batches import ProfileCollator, survey_loss


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
