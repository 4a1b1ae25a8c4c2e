"""One adapted layer: frozen base, PEFT's LoRA of rank k·r, the double loop, and ours; one factor changed at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.double_loop import double_loop
from bench.pairs import AGAIN
from cuma.tuner.config import CumaConfig
from cuma.tuner.context import Conditioning, conditioned
from cuma.tuner.layer import CumaLinear
from cuma.tuner.router import top_k_gates

E, K, PROFILE = 8, 2, 384
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Layer:
    """One cell. The default is the centre that all others are one step from."""

    width: int = 2048
    r: int = 8
    share_a: bool = False
    tokens: int = 512
    routing: str = "uniform"
    checkpointing: bool = False
    dtype: str = "fp32"
    train: bool = True

    @property
    def name(self) -> str:
        """What differs from the centre, or "centre"."""
        centre = Layer()
        changed = [f"{key} {value}" for key, value in vars(self).items() if value != getattr(centre, key)]
        return ", ".join(changed) or "centre"


CENTRE = Layer()
CELLS = [
    CENTRE,
    replace(CENTRE, width=576),
    replace(CENTRE, width=4096),
    replace(CENTRE, r=64),
    replace(CENTRE, r=64, share_a=True),
    replace(CENTRE, share_a=True),
    replace(CENTRE, tokens=1, train=False),
    replace(CENTRE, tokens=8, train=False),
    replace(CENTRE, tokens=64),
    replace(CENTRE, tokens=4096),
    replace(CENTRE, routing="skewed"),
    replace(CENTRE, routing="all to one"),
    replace(CENTRE, r=64, routing="all to one"),
    replace(CENTRE, checkpointing=True),
    replace(CENTRE, dtype="bf16"),
    replace(CENTRE, dtype="4bit"),
]


def layer_runs(cell: Layer, seed: int = 0) -> dict[str, Callable[[], Any]]:
    """The rivals of one cell, after their outputs and all their gradients have been found equal."""
    torch.manual_seed(seed)
    base = _base(cell)
    dtype = DTYPES.get(cell.dtype, torch.float32)
    hidden = torch.randn(1, cell.tokens, cell.width, dtype=dtype).requires_grad_(cell.train)
    gates = _gates(cell)
    experts, joint = _mixture(base, cell)
    who = Conditioning(profile=torch.randn(1, PROFILE) * 6 / PROFILE**0.5)

    def loop(hidden: Tensor) -> Tensor:
        out = base(hidden)
        flat = hidden.flatten(0, 1).to(experts.lora_A.dtype)
        delta = double_loop(flat, gates[0], K, experts.lora_A, experts.lora_B, experts.scaling)
        return out + delta.view(out.shape).to(out.dtype)

    def routed(hidden: Tensor) -> Tensor:
        with conditioned(who):
            return joint(hidden)

    rivals: dict[str, Callable[[Tensor], Tensor]] = {
        "base": base,
        "lora": _lora(base, cell, autocast=True),
        "double loop": loop,
        "ours": lambda hidden: experts(base(hidden), hidden, gates),
        "ours, with router": routed,
        AGAIN: lambda hidden: experts(base(hidden), hidden, gates),
    }
    if cell.dtype == "bf16":
        rivals["lora in bf16"] = _lora(base, cell, autocast=False)
    _assert_parity(rivals["ours"], rivals["double loop"], hidden, list(experts.parameters()), cell)
    return {name: _step(rival, hidden, cell) for name, rival in rivals.items()}


def _base(cell: Layer) -> nn.Module:
    if cell.dtype == "4bit":
        from bitsandbytes.nn import Linear4bit

        made = Linear4bit(cell.width, cell.width, bias=False, compute_dtype=torch.float32, quant_type="nf4")
        return made.to("cpu").requires_grad_(False)
    return nn.Linear(cell.width, cell.width, bias=False, dtype=DTYPES[cell.dtype]).requires_grad_(False)


def _mixture(base: nn.Module, cell: Layer) -> tuple[nn.Module, CumaLinear]:
    options = {"num_experts": E, "top_k": K, "profile_dim": PROFILE, "share_a": cell.share_a}
    config = CumaConfig(r=cell.r, lora_alpha=2 * cell.r, init_weights=False, **options)
    layer = CumaLinear(base, "default")
    layer.update_layer("default", config, None, "proj")
    return layer.cuma_experts["default"], layer


def _lora(base: nn.Module, cell: Layer, autocast: bool) -> Callable[[Tensor], Tensor]:
    holder = nn.ModuleDict({"proj": base})
    config = LoraConfig(r=K * cell.r, lora_alpha=2 * K * cell.r, target_modules=["proj"], init_lora_weights=False)
    return get_peft_model(holder, config, autocast_adapter_dtype=autocast).base_model.model["proj"]


def _gates(cell: Layer) -> Tensor:
    """[1, T, E]: "uniform" spreads tokens evenly, "skewed" gives the first experts most, "all to one" the same two."""
    logits = torch.randn(1, cell.tokens, E)
    if cell.routing == "skewed":
        logits = logits + torch.linspace(2, -2, E)
    if cell.routing == "all to one":
        logits = logits + torch.tensor([50.0, 50.0] + [0.0] * (E - 2))
    return top_k_gates(logits, K)


def _step(rival: Callable[[Tensor], Tensor], hidden: Tensor, cell: Layer) -> Callable[[], Any]:
    if not cell.train:

        def answer() -> Tensor:
            with torch.no_grad():
                return rival(hidden)

        return answer
    grad = torch.randn(hidden.shape, dtype=hidden.dtype)

    def train() -> None:
        hidden.grad = None  # a first gradient is stored, later ones are added: the same for all
        out = checkpoint(rival, hidden, use_reentrant=False) if cell.checkpointing else rival(hidden)
        out.backward(grad)

    return train


def _assert_parity(ours: Any, loop: Any, hidden: Tensor, parameters: list[nn.Parameter], cell: Layer) -> None:
    """The same output, and the same gradient of the input and of every parameter."""
    found = []
    for rival in (ours, loop):
        hidden.grad = None
        with torch.set_grad_enabled(cell.train):
            out = rival(hidden)
        if cell.train:
            torch.manual_seed(1)
            out.backward(torch.randn_like(out))
            found.append([out.detach(), hidden.grad, *(p.grad for p in parameters)])
            for p in parameters:
                p.grad = None
        else:
            found.append([out])
    # fp32 sums of up to 4096 terms in another order; in bf16 the loop rounds once more.
    tolerance = 3e-2 if cell.dtype == "bf16" else 1e-4
    for mine, theirs in zip(*found, strict=True):
        scale = theirs.float().abs().max()
        assert (mine.float() - theirs.float()).abs().max() <= tolerance * scale, f"no parity in {cell.name}"
