"""Passes over the rows: in order, each without its share of the items, drawn with the seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset

from cuma.answering.materials import Materials
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.training.passes import in_passes, without_items
from cuma.training.stages import sft_config, stage_rows
from cuma.training.train import train_run

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


@pytest.mark.parametrize(("share", "items"), [(0.05, 10), (0.5, 3), (0.99, 4)])
def test_the_share_holds_on_average_and_one_item_is_always_kept(share: float, items: int) -> None:
    few = ROWS.select(range(items * COPIES))
    rows = without_items(few, lambda: few, recipe(share, 5000))
    kept = Counter(rows["question_id"])
    assert set(kept) == set(ITEMS[:items])
    rest = 1.0 if share == 0.99 else items * (1 - share)  # of 4 items with 0.99 one is always kept
    number = len(rows) / COPIES / rest
    assert len(rows) / COPIES / number == pytest.approx(rest)
    counts = [count / len(rows) for count in kept.values()]
    assert max(counts) - min(counts) < 0.1


def test_off_is_the_very_rows_and_the_trainer_keeps_the_order_of_passes_only(tmp_path: Path) -> None:
    off = recipe(0.0)
    assert in_passes(lambda: ROWS, off) is ROWS
    assert sft_config(off, tmp_path).train_sampling_strategy == "random"
    assert sft_config(recipe(0.3), tmp_path).train_sampling_strategy == "sequential"


@pytest.fixture(scope="module")
def materials() -> Materials:
    return Materials.load(recipe(0.5))


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
    assert len(told) > 100  # the same prompt with more and with fewer fields


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


def test_conversations_have_no_items_to_leave_out(tmp_path: Path) -> None:
    from helpers.folders import conversations_folder

    folder = conversations_folder(tmp_path)
    with pytest.raises(BenchmarkError, match="takes the conversations"):
        train_run(recipe(0.5, 2, f"data.benchmark={folder}"), tmp_path / "run")
