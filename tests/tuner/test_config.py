"""Every wrong option is refused at construction, in words that list the right ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import PeftConfig
from peft.utils import PeftType

from cuma.errors import ConfigError
from cuma.tuner.config import CumaConfig

WHOLE = "whole number of at least 1"
WRONG: list[tuple[dict[str, Any], str]] = [
    *(({name: value}, WHOLE) for name in ("r", "num_experts", "top_k", "profile_dim") for value in (0, -1, 1.5, True)),
    *(({name: 0}, WHOLE) for name in ("router_hidden_dim", "profile_projection_dim")),
    ({"r": "8"}, WHOLE),
    ({"top_k": 9}, r"1 to num_experts \(8\)"),
    ({"lora_alpha": 0}, "above 0"),
    ({"lora_alpha": float("nan")}, "above 0"),
    ({"lora_alpha": float("inf")}, "above 0"),
    ({"lora_dropout": 1.0}, "below 1"),
    ({"lora_dropout": -0.1}, "at least 0"),
    ({"lora_dropout": "0.1"}, "at least 0"),
    ({"router_aux_loss_coef": -1}, "at least 0"),
    ({"router_aux_loss_coef": float("inf")}, "at least 0"),
    ({"profile_scale": 0}, "None or a number above 0"),
    ({"router_input": "both"}, "'joint', 'profile', 'semantic'"),
    ({"gating": "softmax"}, "'paper', 'released'"),
    ({"share_a": 1}, "True or False"),
    ({"share_router": "yes"}, "True or False"),
    ({"init_weights": "gaussian"}, "True or False"),
    ({"task_type": "CAUSAL"}, "'SEQ_CLS'"),
    ({"target_modules": 3}, "list of names"),
    ({"target_modules": ["q_proj", 3]}, "list of names"),
    ({"exclude_modules": 3}, "list of names"),
    ({"modules_to_save": "score"}, "list of names"),
    ({"layers_pattern": "h"}, "layers_to_transform"),
    ({"layers_to_transform": [0], "target_modules": "all-linear"}, "list of names"),
    ({"profile_encoder": "minilm"}, "'id', 'revision', 'template'"),
    ({"profile_encoder": {"name": "minilm"}}, "'id', 'revision', 'template', 'fields'"),
    ({"profile_encoder": {"id": "minilm", "fields": ["sex"]}}, "'fields'"),
    ({"profile_encoder": {"id": "minilm", "fields": {"sex": "man"}}}, "'fields'"),
]


@pytest.mark.parametrize(("options", "allowed"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_value_names_the_allowed_ones(options: dict[str, Any], allowed: str) -> None:
    with pytest.raises(ConfigError, match=allowed) as raised:
        CumaConfig(**options)
    assert any(name in str(raised.value) for name in options)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("task", [None, "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"])
def test_profile_router_needs_a_task_that_hands_the_profile_on(task: str | None) -> None:
    for router_input in ("joint", "profile"):
        with pytest.raises(ConfigError, match="semantic") as raised:
            CumaConfig(task_type=task, router_input=router_input)
        assert "'CAUSAL_LM', 'SEQ_CLS'" in str(raised.value)
    assert not CumaConfig(task_type=task, router_input="semantic").needs_profile


def test_defaults_are_the_documented_ones() -> None:
    made = CumaConfig()
    assert made.peft_type is PeftType("CUMA")
    assert made.peft_type.value == "CUMA"
    assert made.task_type == "CAUSAL_LM"
    assert (made.r, made.lora_alpha, made.lora_dropout, made.num_experts, made.top_k) == (8, 16, 0.0, 8, 2)
    assert (made.router_input, made.share_a, made.share_router, made.gating) == ("joint", False, True, "paper")
    assert (made.router_hidden_dim, made.profile_dim, made.router_aux_loss_coef) == (256, 1024, 0.01)


@pytest.mark.parametrize("projected", [None, 5])
def test_router_width(projected: int | None) -> None:
    made = CumaConfig(profile_dim=7, profile_projection_dim=projected)
    assert made.router_profile_dim == (projected or 7)
    assert CumaConfig(profile_dim=7, profile_projection_dim=projected, router_input="semantic").router_profile_dim == 0


def test_round_trip_through_peft(tmp_path: Path) -> None:
    encoder = {"id": "minilm", "revision": None, "template": "{profile}"}
    made = CumaConfig(target_modules=["v_proj", "q_proj"], r=3, profile_encoder=encoder, layers_to_transform=[1])
    made.save_pretrained(str(tmp_path))
    loaded = PeftConfig.from_pretrained(str(tmp_path))
    assert isinstance(loaded, CumaConfig)
    assert loaded == made
    assert CumaConfig.from_pretrained(str(tmp_path)) == made
