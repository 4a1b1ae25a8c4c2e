"""Trackers are checked before a run's folder is made."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from transformers.integrations.integration_utils import get_available_reporting_integrations

from cuma.errors import RecipeError
from cuma.recipes.load import load_recipe
from cuma.training import progress
from cuma.training.progress import TRACKERS, check_trackers
from cuma.training.stages import dpo_config, grpo_config, sft_config
from cuma.training.train import train_run

ABSENT = next(name for name in TRACKERS if name not in get_available_reporting_integrations())


@pytest.mark.parametrize(
    ("name", "message"), [(ABSENT, "pip install"), ("all", "Available: "), ("none", "Available: ")]
)
def test_a_tracker_that_cannot_be_used_is_refused_before_anything_is_made(
    name: str, message: str, tmp_path: Path
) -> None:
    recipe = load_recipe("quickstart/gss/cuma", [f"training.report_to=[{name}]"])
    with pytest.raises(RecipeError, match=message):
        train_run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_login_that_is_missing_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb is not among what the tests install: what it says without a key is repeated here."""

    class Error(Exception):
        pass

    def login(**_: Any) -> bool:
        if os.environ.get("WANDB_MODE") == "offline":
            return False
        raise Error("No API key configured. Use `wandb login` to log in.")

    wandb = ModuleType("wandb")
    vars(wandb).update(login=login, errors=SimpleNamespace(Error=Error))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(progress, "get_available_reporting_integrations", lambda: ["wandb"])
    recipe = load_recipe("quickstart/gss/cuma", ["training.report_to=[wandb]"])
    with pytest.raises(RecipeError, match=r"`wandb login` to log in.' Without an account: WANDB_MODE=offline"):
        train_run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_trackers(("wandb",))


def test_no_tracker_unless_one_is_named_and_every_stage_gets_it(tmp_path: Path) -> None:
    check_trackers(())
    alone = load_recipe("quickstart/gss/cuma")
    told = load_recipe("quickstart/gss/cuma", ["training.report_to=[tensorboard]", "training.run_name=mine"])
    for config, stage in ((sft_config, "01-sft"), (dpo_config, "02-dpo"), (grpo_config, "02-grpo")):
        folder = tmp_path / stage / "checkpoints"
        assert config(alone, folder).report_to == []
        assert config(alone, folder).run_name == f"quickstart/gss/cuma/{stage}"
        assert config(told, folder).report_to == ["tensorboard"]
        assert config(told, folder).run_name == f"mine/{stage}"
