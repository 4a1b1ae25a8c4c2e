"""Tiny random models and adapters: everything runs for real, in milliseconds."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from cuma import CumaConfig

HIDDEN, PROFILE, VOCAB = 32, 6, 99
PAD = 0


def llama_config(**options: Any) -> LlamaConfig:
    defaults: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "pad_token_id": PAD,
        "eos_token_id": None,
        "bos_token_id": 1,
        # Real models have such weights; with the default 0.02 nothing a tiny model says depends on its input.
        "initializer_range": 0.3,
    }
    return LlamaConfig(**(defaults | options))


def llama(seed: int = 0, **options: Any) -> LlamaForCausalLM:
    """A random causal LM; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(llama_config(**options)).eval()


def classifier(seed: int = 0) -> LlamaForSequenceClassification:
    torch.manual_seed(seed)
    return LlamaForSequenceClassification(llama_config(num_labels=3)).eval()


def gpt2(seed: int = 0) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=64, n_embd=HIDDEN, n_layer=1, n_head=4)).eval()


class Opaque(nn.Module):
    """A linear layer of unknown make, without a `weight`: stands for every quantised layer."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("packed", torch.randint(-127, 127, (out_features, in_features), dtype=torch.int8))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden @ (self.packed.to(hidden.dtype) / 127).T


class CrossAttention(nn.Module):
    """q reads one input, k and v another: they share a router, but never a routing."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(HIDDEN, HIDDEN) for _ in range(3))

    def forward(self, asked: Tensor, told: Tensor) -> Tensor:
        weights = (self.q_proj(asked) @ self.k_proj(told).transpose(-1, -2)).softmax(-1)
        return weights @ self.v_proj(told)


def config(**options: Any) -> CumaConfig:
    """CumaConfig for the tiny models. B is random unless init_weights=True is given: a fresh B hides everything."""
    defaults: dict[str, Any] = {
        "r": 4,
        "num_experts": 4,
        "profile_dim": PROFILE,
        "router_hidden_dim": 16,
        "target_modules": ["q_proj", "v_proj"],
        "init_weights": False,
    }
    return CumaConfig(**(defaults | options))


def people(n: int, seed: int = 0, dim: int = PROFILE) -> Tensor:
    """[n, dim] embeddings of n people, of unit norm like a sentence encoder's."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return nn.functional.normalize(torch.randn(n, dim, generator=generator), dim=-1)


def tokens(rows: int, length: int = 7, seed: int = 0) -> Tensor:
    """[rows, length] token ids without padding."""
    return torch.randint(3, VOCAB, (rows, length), generator=torch.Generator().manual_seed(2000 + seed))


def adapted(base: nn.Module | None = None, seed: int = 1, **options: Any) -> PeftModel:
    """A tiny model with a fitted adapter, in eval mode."""
    torch.manual_seed(seed)
    made = config(**options)
    model = get_peft_model(llama() if base is None else base, made)
    if made.needs_profile:
        model.fit_profiles(people(20, dim=made.profile_dim))
    return model.eval()


def logits(model: nn.Module, rows: int = 3, **inputs: Any) -> Tensor:
    """Logits for a fixed batch of people and tokens."""
    with torch.no_grad():
        return model(**({"input_ids": tokens(rows), "profile_embeds": people(rows)} | inputs)).logits


def base_logits(model: nn.Module, rows: int = 3) -> Tensor:
    with torch.no_grad():
        return model(input_ids=tokens(rows)).logits


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter and buffer."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def step(model: nn.Module, rate: float = 0.05, **inputs: Any) -> None:
    """One SGD step on the language-model loss, in training mode."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train()
    ids = tokens(3)
    model(**({"input_ids": ids, "labels": ids, "profile_embeds": people(3)} | inputs)).loss.backward()
    torch.optim.SGD(trained, lr=rate).step()
    model.zero_grad()
    model.eval()


def fresh_python(code: str, *arguments: str) -> str:
    """Run code in a new interpreter; its output. Asserts in it fail the test."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
