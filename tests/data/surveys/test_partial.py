"""Profiles with fields left out: nothing is invented, and what is left is drawn as asked."""

from __future__ import annotations

import pytest

from cuma.data.catalog import load_benchmark
from cuma.data.surveys import Survey, survey_cells
from cuma.data.surveys.partial import FieldDropout, keep_fields


@pytest.fixture(scope="module")
def survey() -> Survey:
    return load_benchmark("gss")


def test_dropout_leaves_out_the_asked_share_and_changes_no_value(survey: Survey) -> None:
    dropout = FieldDropout(0.3, seed=1)
    kept = total = 0
    for _ in range(20):
        for group in survey.groups:
            fields = dropout(group).fields
            assert fields.items() <= group.profile.fields.items()
            kept, total = kept + len(fields), total + len(group.profile.fields)
    assert kept / total == pytest.approx(0.7, abs=0.02)  # 7,500 draws: a standard error of 0.005


def test_dropout_is_seeded_and_its_ends_are_all_and_nothing(survey: Survey) -> None:
    group = survey.groups[0]
    assert FieldDropout(0, seed=1)(group) == group.profile
    assert not FieldDropout(1, seed=1)(group)
    draws = [[dropout(group) for dropout in [FieldDropout(0.5, seed=1)] for _ in range(5)] for _ in range(2)]
    assert draws[0] == draws[1]
    one = FieldDropout(0.5, seed=1)
    assert len({one(group) for _ in range(30)}) > 5


def test_cells_ask_for_each_rows_profile_anew(survey: Survey) -> None:
    cells = survey_cells(
        survey, "train", ("seen",), profile_in_prompt=True, profile_of=FieldDropout(0.5, seed=0)
    ).to_pandas()
    per_group = cells.groupby("group")["profile"].agg(lambda rows: len({repr(row) for row in rows}))
    assert (per_group > 1).mean() > 0.9
    for prompt, profile in zip(cells["prompt"][:40], cells["profile"][:40], strict=True):
        told = [value for value in profile.values() if value]
        assert told or "You are" not in prompt[0]["content"]


def test_a_share_of_the_fields_is_kept_for_evaluation(survey: Survey) -> None:
    counts = {}
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        partial = keep_fields(survey, share, seed=3)
        assert partial.people is survey.people
        for whole, part in zip(survey.groups, partial.groups, strict=True):
            assert (part.id, part.role) == (whole.id, whole.role)
            assert len(part.profile.fields) == round(share * len(whole.profile.fields))
        counts[share] = [set(group.profile.fields) for group in partial.groups]
    for small, large in ((0.25, 0.5), (0.5, 0.75)):
        assert all(less <= more for less, more in zip(counts[small], counts[large], strict=True))
    assert len({frozenset(fields) for fields in counts[0.5]}) > 3
