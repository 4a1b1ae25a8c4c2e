"""With which weights a stage ends: averages and best points, exact, and the same after an interruption."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from transformers import TrainerControl

from cuma.answering.materials import Materials
from cuma.errors import RecipeError, UnsupportedError
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.runs.folder import Run
from cuma.training import final_weights
from cuma.training.final_weights import BestPoint, FinalWeights, WeightAverage, curve_error
from cuma.training.progress import Measure
from cuma.training.train import _measure, train_run
from helpers.folders import tiny_materials

SMALL = (
    "adapter.last_layers=1", "training.max_steps=6", "training.save_steps=2", "training.logging_steps=1",
    "training.per_device_train_batch_size=4", "data.max_train=24", "training.curve_steps=[0, 1, 2, 3, 4, 5, 6]",
)  # fmt: skip


def recipe(*overrides: str) -> Recipe:
    return load_recipe("quickstart/gss/cuma", (*SMALL, *overrides))


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Materials:
    """A tiny random model's."""
    return tiny_materials(recipe(), tmp_path_factory.mktemp("base"))


def weights(model: Any) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters() if p.requires_grad}


class Curve:
    """Gives a run these errors as its points, and keeps the weights at each of them."""

    def __init__(self, *errors: float, die_at: int | None = None) -> None:
        self.errors = errors
        self.die_at = die_at
        self.seen: list[dict[str, np.ndarray]] = []

    def __call__(self, _: Recipe, __: Materials) -> Measure:
        def measure(model: Any) -> dict[str, Any]:
            if self.die_at == len(self.seen):
                raise KeyboardInterrupt
            self.seen.append(weights(model))
            return {"seen": {"soft_emd": self.errors[len(self.seen) - 1], "spread": 1.0}}

        return measure


def saved(run: Run) -> dict[str, np.ndarray]:
    return dict(load_file(run.adapter / "adapter_model.safetensors"))


def same(run: Run, expected: dict[str, np.ndarray]) -> bool:
    """Whether a run's adapter has exactly these weights (files leave the adapter's name out)."""
    found = saved(run)
    return all(np.array_equal(found[name.replace(".default", "")], value) for name, value in expected.items())


def test_the_average_is_the_formula_s_to_the_last_weight() -> None:
    parameter = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
    average = WeightAverage([parameter], 0.5)
    expected = np.zeros(2)
    for n in range(1, 30):
        with torch.no_grad():
            parameter.copy_(torch.tensor([n**2, -1.0 / n]))
        average.on_step_end(None, None, None)
        decay = 0.0 if n == 1 else min(0.5, n / (n + 9))
        expected = decay * expected + (1 - decay) * parameter.detach().numpy()
        with average.in_place():
            np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-12)
        assert parameter[0].item() == n**2
    assert min(0.5, 9 / 18) == 0.5  # the warm-up ended on the way


def test_before_the_first_step_the_average_is_the_weights_and_gradients_still_flow_in_its_place() -> None:
    parameter = nn.Parameter(torch.tensor([3.0]))
    average = WeightAverage([parameter], 0.9)
    with average.in_place():
        assert parameter.item() == 3.0
        (parameter * 2).sum().backward()
    assert parameter.grad is not None


def test_a_count_that_is_read_again_goes_on_with_the_warm_up(tmp_path: Path) -> None:
    def averages(stop: int | None) -> torch.Tensor:
        parameter = nn.Parameter(torch.zeros(3))
        average = WeightAverage([parameter], 0.99)
        for n in range(20):
            with torch.no_grad():
                parameter.copy_(torch.tensor([n, n**2, math.sin(n)]))
            average.on_step_end(None, None, None)
            if n == stop:
                average.write(tmp_path)
                average = WeightAverage([parameter], 0.99)
                average.read(tmp_path)
        with average.in_place():
            return parameter.detach().clone()

    assert torch.equal(averages(None), averages(7))


def test_weights_in_parts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(final_weights, "is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(UnsupportedError, match="ZeRO-2"):
        WeightAverage([nn.Parameter(torch.zeros(1))], 0.9)


@pytest.mark.parametrize(
    ("point", "error"),
    [
        ({"seen": {"soft_emd": 0.1}, "unseen": {"soft_emd": 0.3}}, 0.2),
        ({"seen": {"soft_emd": 0.1}}, 0.1),
        ({"seen": {"soft_emd": 9.0}, "corners": {"a": {"soft_emd": 0.1}, "b": {"soft_emd": 0.2}}}, 0.15),
        ({"seen": {"soft_emd": None}, "unseen": {"soft_emd": 0.3}}, math.nan),
        ({}, math.nan),
    ],
)
def test_a_point_s_error_is_the_mean_of_its_corners_or_else_of_its_sides(point: Any, error: float) -> None:
    assert curve_error(point) == pytest.approx(error, nan_ok=True)


def stopped(errors: list[float], patience: int) -> BestPoint:
    """A point at each step; the parameter is the step."""
    parameter = nn.Parameter(torch.zeros(1))
    best, control = BestPoint([parameter], patience), TrainerControl()
    for step, error in enumerate(errors):
        with torch.no_grad():
            parameter.fill_(step)
        best.see(error)
        best.on_step_end(None, SimpleNamespace(global_step=step), control)
        if control.should_training_stop:
            break
    return best


@pytest.mark.parametrize(
    ("errors", "patience", "kept", "at"),
    [
        ([3, 2, 1, 2, 2, 0], 2, 2, 4),
        ([3, 2, 1, 2, 0.5, 2], 2, 4, None),
        ([1, 1, 1], 2, 0, 2),  # equal is not better
        ([math.nan, 1, math.nan, math.nan], 2, 1, 3),
        ([math.nan, math.nan], 2, None, 1),
        ([2, 1], 5, 1, None),
    ],
)
def test_it_stops_behind_so_many_points_without_a_better_one(
    errors: list[float], patience: int, kept: int | None, at: int | None
) -> None:
    best = stopped(errors, patience)
    assert (best.entry()["kept_step"], best.entry()["stopped_at"]) == (kept, at)
    assert [weight.item() for weight in best.weights] == ([] if kept is None else [kept])
    assert best.entry()["soft_emd"] == (None if kept is None else errors[kept])


@pytest.mark.parametrize("errors", [[3.0, 2, 1, 2], [math.nan]])
def test_what_was_best_is_read_again(errors: list[float], tmp_path: Path) -> None:
    best = stopped(errors, 3)
    best.write(tmp_path)
    again = BestPoint([nn.Parameter(torch.zeros(1))], 3)
    again.read(tmp_path)
    assert again.entry() == best.entry()
    assert again.since == best.since
    assert [weight.item() for weight in again.weights] == [weight.item() for weight in best.weights]


def test_without_options_nothing_is_kept_and_the_curve_measures_the_model() -> None:
    model = nn.Linear(2, 2)
    off = FinalWeights(model, recipe().training, lambda _: {"seen": {"soft_emd": 1.0}})
    assert (off.average, off.best, off.parts) == (None, None, [])
    before = model.weight.detach().clone()
    with off.in_place():
        assert torch.equal(model.weight, before)


def test_a_run_s_adapter_is_the_average_and_its_curve_is_of_it(materials: Materials, tmp_path: Path) -> None:
    plain, curve = Curve(*[0.5] * 7), Curve(*[0.5] * 7)
    raw = train_run(recipe(), tmp_path / "raw", materials, plain)
    run = train_run(recipe("training.ema_decay=0.9"), tmp_path / "average", materials, curve)
    expected = plain.seen[1]
    for n, now in enumerate(plain.seen[2:], 2):
        decay = n / (n + 9)
        expected = {name: decay * expected[name] + (1 - decay) * now[name] for name in now}
        for name, value in expected.items():
            np.testing.assert_allclose(curve.seen[n][name], value, atol=1e-6, err_msg=name)
    assert same(run, curve.seen[6])
    assert same(raw, plain.seen[6])
    assert not same(run, plain.seen[6])
    assert "early_stopping" not in run.info


def test_the_average_is_handed_to_the_next_stage(materials: Materials, tmp_path: Path) -> None:
    options = ("training.ema_decay=0.5", "pipeline=[sft, dpo]", "dpo.max_steps=1")
    curve = Curve(*[0.5] * 7)
    run = train_run(recipe(*options, "dpo.learning_rate=1e-9"), tmp_path / "run", materials, curve)
    first = load_file(run.stage("01-sft").adapter / "adapter_model.safetensors")
    for name, value in saved(run).items():
        np.testing.assert_allclose(value, first[name], atol=1e-6)
    assert all(np.array_equal(first[n.replace(".default", "")], value) for n, value in curve.seen[6].items())


ERRORS = (0.9, 0.5, 0.3, 0.2, 0.4, 0.4, 0.1)


def test_a_run_that_stops_early_keeps_its_best_point_and_says_so(materials: Materials, tmp_path: Path) -> None:
    curve = Curve(*ERRORS)
    run = train_run(recipe("training.early_stopping_patience=2"), tmp_path / "run", materials, curve)
    assert run.info["early_stopping"] == {"patience": 2, "stopped_at": 5, "kept_step": 3, "soft_emd": 0.2}
    assert same(run, curve.seen[3])
    assert [row["step"] for row in run.stage("01-sft").read_log() if "loss" in row] == [1, 2, 3, 4, 5]
    whole = Curve(*ERRORS)
    run = train_run(recipe("training.early_stopping_patience=3"), tmp_path / "whole", materials, whole)
    assert run.info["early_stopping"]["stopped_at"] is None
    assert same(run, whole.seen[6])


BOTH = ("training.early_stopping_patience=2", "training.ema_decay=0.9")


@pytest.fixture(scope="module")
def whole(materials: Materials, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Curve]:
    """A run with both options that nobody interrupted."""
    curve = Curve(*ERRORS)
    return train_run(recipe(*BOTH), tmp_path_factory.mktemp("whole"), materials, curve), curve


@pytest.mark.parametrize("die_at", [2, 4, 5])
def test_an_interrupted_run_ends_with_the_same_weights(
    die_at: int, materials: Materials, whole: tuple[Run, Curve], tmp_path: Path
) -> None:
    """With both options: the best point's average. Checkpoints are at steps 2 and 4; point 5 is the one that stops."""
    both = recipe(*BOTH)
    with pytest.raises(KeyboardInterrupt):
        train_run(both, tmp_path / "run", materials, Curve(*ERRORS, die_at=die_at))
    reached = {2: 0, 4: 2, 5: 4}[die_at]
    begin = 0 if reached == 0 else reached + 1
    resumed = train_run(both, tmp_path / "run", materials, Curve(*ERRORS[begin:]))
    assert resumed.info["resumed"] is (reached > 0)
    assert resumed.info["early_stopping"] == whole[0].info["early_stopping"]
    assert json.loads((resumed.path / "run.json").read_text())["early_stopping"]["kept_step"] == 3
    assert same(resumed, whole[1].seen[3])


def test_a_run_that_was_killed_behind_its_stop_does_not_train_on(
    materials: Materials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe("training.early_stopping_patience=1")
    errors = (0.9, 0.3, 0.4)  # stops at step 2, where there is a checkpoint
    with monkeypatch.context() as patched:
        patched.setattr("cuma.training.train.save_adapter", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_run(wanted, tmp_path / "run", materials, Curve(*errors))
    resumed = train_run(wanted, tmp_path / "run", materials, Curve())  # a further point would be an IndexError
    assert resumed.info["early_stopping"] == {"patience": 1, "stopped_at": 2, "kept_step": 1, "soft_emd": 0.3}
    assert [row["step"] for row in resumed.stage("01-sft").read_log() if "loss" in row] == [1, 2]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("training.early_stopping_patience=2", "training.curve_steps=[]"), "Name the steps at which"),
        (("training.ema_decay=1.0",), "less than 1"),
        (("training.early_stopping_patience=0",), "greater than or equal to 1"),
        (("training.item_dropout=0.5", "training.max_steps=null", "training.num_train_epochs=1.0",
          "training.lr_scheduler_type=constant"), "set max_steps"),
    ],
)  # fmt: skip
def test_options_that_cannot_work_are_refused(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(*overrides)


def test_stopping_without_a_curve_to_stop_by_is_refused(materials: Materials) -> None:
    wanted = recipe("training.early_stopping_patience=2")
    for curve in (None, lambda *_: None):
        with pytest.raises(RecipeError, match="no learning curve to stop by"):
            _measure(wanted, materials, curve)


def test_at_their_old_values_the_options_leave_the_digest_as_it_was() -> None:
    off = ("training.ema_decay=0", "training.item_dropout=0.0", "training.early_stopping_patience=null")
    assert recipe(*off[1:]).digest == recipe().digest
    for on in ("training.ema_decay=0.9", "training.item_dropout=0.5", "training.early_stopping_patience=1"):
        assert recipe(on).digest != recipe().digest
