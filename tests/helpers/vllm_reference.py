"""What vLLM's plug-in must say: tiny models and SmolLM2 with mixtures, and what transformers with cuma says for people.

    python -m helpers.vllm_reference DIR        # first half of `make vllm-test`; the second runs in vLLM's environment

Each case is a folder with `base/`, `adapter/` and `expected.safetensors`: prompts, people and, one by one,
greedy tokens, their log-probabilities, and by how much the likeliest token was ahead of the second.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import get_peft_model
from safetensors.torch import save_file
from torch import Tensor

from cuma import CumaConfig
from cuma.models.backbones import load_backbone
from helpers import vllm_served
from helpers.tiny import people

DIM = 16
NEW = 12
PROMPT = 90
"""Tokens: two blocks of vLLM's prefix cache on CPUs, a third that is nearly full, and a fourth for the reply."""
SEPARATE = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FUSED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
SIZES: dict[str, Any] = {
    "vocab_size": 256, "hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 256, "initializer_range": 0.2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GEMMA = {"query_pre_attn_scalar": 32, "sliding_window": 64}
BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "gemma": ("Gemma", {}),
    "gemma2": ("Gemma2", GEMMA),
    "gemma3": ("Gemma3", GEMMA | {"tie_word_embeddings": False}),
    "phi3": ("Phi3", {}),
    "granite": ("Granite", {"attention_multiplier": 32**-0.5}),
    "olmo": ("Olmo", {}),
    "olmo2": ("Olmo2", {}),
}
"""Name → transformers' family, and what its configuration needs beside `SIZES`."""
MIXTURES: dict[str, dict[str, Any]] = {
    "joint": {},
    "person_only": {"router_input": "profile"},
    "semantic": {"router_input": "semantic"},
    "own_routers": {"share_router": False, "target_modules": SEPARATE},
    "shared_a": {"share_a": True},
    "released": {"gating": "released"},
    "linear_projection": {"router_hidden_dim": None, "profile_projection_dim": 5},
    "experts_read": {"profile_in_experts": True, "target_modules": SEPARATE},
    "soft_one_layer": {"top_k": 4, "layers_to_transform": [1]},
    "person_only_experts_read": {"router_input": "profile", "profile_in_experts": True, "share_a": True},
}


def cases() -> dict[str, Callable[[], tuple[Any, dict[str, Any]]]]:
    """Name → what makes a base and its mixture's options: every mixture on Llama, every base with all linears."""
    made: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
        f"llama-{name}": lambda options=options: (base("llama"), options) for name, options in MIXTURES.items()
    }
    for name in BASES:
        if name != "llama":
            options = {"target_modules": FUSED if name == "phi3" else SEPARATE}
            made[name] = lambda name=name, options=options: (base(name), options)
    made["smollm2"] = lambda: (load_backbone("smollm2-135m").model, {"target_modules": SEPARATE, "num_experts": 8})
    return made


def base(name: str) -> Any:
    """A tiny random model; the same name gives the same weights."""
    family, options = BASES[name]
    config = "Gemma3TextConfig" if family == "Gemma3" else f"{family}Config"
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, config)(**(SIZES | options)))
    return model.eval()


def with_mixture(model: Any, options: dict[str, Any]) -> Any:
    """A random mixture that says a lot."""
    torch.manual_seed(1)
    defaults = {"r": 4, "num_experts": 4, "profile_dim": DIM, "router_hidden_dim": 16, "init_weights": False,
                "target_modules": ["q_proj", "v_proj"], "profile_scale": 8.0}  # fmt: skip
    adapted = get_peft_model(model, CumaConfig(**(defaults | options)))
    if adapted.peft_config["default"].needs_profile:
        adapted.fit_profiles(people(20, dim=DIM))
    return adapted.eval()


def asked(model: Any, prompts: Tensor, who: Tensor, new: int = NEW) -> dict[str, Tensor]:
    """What the model says to each, one by one. prompts: [N, T]; who: [N, D], without columns where nothing reads it."""
    tokens, logprobs, ahead = [], [], []
    needs = who.shape[1] > 0
    for prompt, person in zip(prompts, who, strict=True):
        extra = {"profile_embeds": person[None]} if needs else {}
        done = model.generate(
            input_ids=prompt[None], attention_mask=torch.ones_like(prompt[None]), do_sample=False, max_new_tokens=new,
            eos_token_id=None, output_logits=True, return_dict_in_generate=True, **extra,
        )  # fmt: skip
        scores = torch.cat(done.logits).float()
        best = scores.topk(2).values
        tokens.append(done.sequences[0, len(prompt) :])
        logprobs.append(scores.log_softmax(-1).gather(1, tokens[-1][:, None])[:, 0])
        ahead.append(best[:, 0] - best[:, 1])
    return {"tokens": torch.stack(tokens), "logprobs": torch.stack(logprobs), "ahead": torch.stack(ahead)}


def write(name: str, folder: Path) -> None:
    """One case."""
    model, options = cases()[name]()
    model.save_pretrained(folder / "base")
    adapted = with_mixture(model, options)
    adapted.save_pretrained(folder / "adapter")
    generator = torch.Generator().manual_seed(2)
    shared = torch.randint(3, 250, (PROMPT - 6,), generator=generator)
    prompts = torch.stack([torch.cat([shared, torch.randint(3, 250, (6,), generator=generator)]) for _ in range(2)])
    who = torch.cat([people(7, dim=DIM), torch.zeros(1, DIM)]).repeat_interleave(2, dim=0)  # everybody is asked both
    rows = prompts.repeat(len(who) // 2, 1)
    if not adapted.peft_config["default"].needs_profile:
        who = torch.zeros(len(rows), 0)
    found = asked(adapted, rows, who)
    save_file({"prompts": rows, "who": who, **found}, folder / "expected.safetensors")
    different = len({tuple(row.tolist()) for row in found["tokens"]})
    print(json.dumps({"case": name, "rows": len(rows), "different replies": different}), flush=True)


def main() -> None:
    folder = Path(sys.argv[1])
    for name in sys.argv[2:] or [*cases(), "server"]:
        if name == "server":
            vllm_served.write(folder / name)
        else:
            write(name, folder / name)


if __name__ == "__main__":
    main()
