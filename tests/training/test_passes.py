"""Passes over the rows: in order, each without its share of the items, drawn with the seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset

from cuma.answering.materials import Materials
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.training.passes import in_passes, without_items
from cuma.training.stages import require_rows, sft_config, stage_rows
from cuma.training.train import train_run
from helpers.folders import tiny_materials

ITEMS, COPIES = [f"q{number}" for number in range(10)], 3
ROWS = Dataset.from_list([{"question_id": item, "copy": copy} for item in ITEMS for copy in range(COPIES)])


def recipe(share: float, steps: int = 50, *more: str) -> Recipe:
    options = (f"training.item_dropout={share}", f"training.max_steps={steps}", "training.warmup_steps=0")
    return load_recipe("quickstart/gss/cuma", (*options, "training.per_device_train_batch_size=4", *more))


def passes(rows: Dataset, length: int) -> list[list[str]]:
    return [rows["question_id"][start : start + length] for start in range(0, len(rows), length)]


def test_every_pass_leaves_out_other_items_whole_and_keeps_every_row_of_the_others() -> None:
    rows = without_items(ROWS, lambda: ROWS, recipe(0.3))
    made = passes(rows, 7 * COPIES)
    assert len(rows) >= 50 * 4 > len(rows) - 7 * COPIES
    left_out = [frozenset(ITEMS) - set(one) for one in made]
    for one, missing in zip(made, left_out, strict=True):
        assert len(missing) == 3
        assert set(Counter(one).values()) == {COPIES}
    assert len(set(left_out)) > len(left_out) / 2
    assert made[0] != sorted(made[0])  # in an order of its own
    again = without_items(ROWS, lambda: ROWS, recipe(0.3))
    assert again["question_id"][:] == rows["question_id"][:]
    other = without_items(ROWS, lambda: ROWS, recipe(0.3, 50, "seed=1"))
    assert other["question_id"][:] != rows["question_id"][:]


@pytest.mark.parametrize(("share", "items", "kept"), [(0.05, 10, 9.5), (0.5, 3, 1.5), (0.99, 4, 1)])
def test_the_share_holds_on_average_and_one_item_is_always_kept(share: float, items: int, kept: float) -> None:
    few, passes = ROWS.select(range(items * COPIES)), [1]

    def cells() -> Dataset:
        passes.append(1)
        return few

    rows = without_items(few, cells, recipe(share, 250))
    assert set(rows["question_id"]) == set(ITEMS[:items])
    assert len(rows) / COPIES / len(passes) == pytest.approx(kept, rel=0.05)


def test_off_is_the_very_rows_and_the_trainer_keeps_the_order_of_passes_only(tmp_path: Path) -> None:
    off = recipe(0.0)
    assert in_passes(lambda: ROWS, off) is ROWS
    assert sft_config(off, tmp_path).train_sampling_strategy == "random"
    assert sft_config(recipe(0.3), tmp_path).train_sampling_strategy == "sequential"


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Materials:
    """A tiny random model's."""
    return tiny_materials(recipe(0.5), tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("loss", ["counts", "letter"])
def test_a_survey_s_rows_come_pass_by_pass(loss: str, materials: Materials) -> None:
    more = (f"training.loss={loss}", "data.max_train=200")
    rows = stage_rows("sft", recipe(0.5, 80, *more), materials)
    plain = stage_rows("sft", recipe(0.0, 80, *more), materials)
    assert set(rows.column_names) == set(plain.column_names)
    assert 80 * 4 <= len(rows) < 80 * 4 + len(plain)


def test_fields_are_left_out_anew_in_every_pass(materials: Materials) -> None:
    both = recipe(0.5, 100, "training.profile_dropout=0.5", "data.max_train=60")
    rows = stage_rows("sft", both, materials)
    told = Counter((tuple(row["input_ids"]), len(Profile.parse(row["profile"]).fields)) for row in rows)
    assert len(told) > 4 * len({prompt for prompt, _ in told})  # the same prompt with more and with fewer fields


def test_an_interrupted_run_with_item_dropout_ends_with_the_same_weights(materials: Materials, tmp_path: Path) -> None:
    short = ("adapter.last_layers=1", "training.save_steps=2", "training.curve_steps=[3]", "data.max_train=40")
    wanted = recipe(0.5, 4, *short)

    def interrupt(_: object) -> dict[str, object]:
        raise KeyboardInterrupt

    whole = train_run(wanted, tmp_path / "whole", materials)
    with pytest.raises(KeyboardInterrupt):
        train_run(wanted, tmp_path / "run", materials, lambda *_: interrupt)
    resumed = train_run(wanted, tmp_path / "run", materials)
    assert resumed.info["resumed"] is True
    files = [run.adapter / "adapter_model.safetensors" for run in (whole, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_conversations_have_no_items_to_leave_out() -> None:
    corpus = SimpleNamespace(training_rows=lambda _: ROWS, training_shares=lambda: None)
    given: Any = SimpleNamespace(survey=SimpleNamespace(questions=()), corpus=corpus)
    require_rows("sft", recipe(0.0), given)
    require_rows("dpo", recipe(0.5), given)
    with pytest.raises(BenchmarkError, match="takes the conversations of gss"):
        require_rows("sft", recipe(0.5), given)
