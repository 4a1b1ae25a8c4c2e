"""One adapted layer: frozen base, PEFT's LoRA of rank k·r, the double loop, and ours; one factor changed at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.double_loop import double_loop, loops_in_every_layer
from bench.pairs import AGAIN, ROUTED
from bench.parity import EXACT, KINKED, assert_same
from cuma.models.quantization import stay_differentiable
from cuma.tuner.config import CumaConfig
from cuma.tuner.context import Conditioning, conditioned
from cuma.tuner.layer import CumaLinear
from cuma.tuner.router import top_k_gates

Rival = Callable[[Tensor], Tensor]
E, K, PROFILE = 8, 2, 384
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SAME = {"ours": "double loop", ROUTED: "double loop, with router"}
"""Who computes the same function as whom."""


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
    compiled: bool = False
    train: bool = True

    @property
    def name(self) -> str:
        """What differs from the centre, or "centre"."""
        centre = replace(Layer(), train=self.train)
        changed = [key if value is True else f"{key} {value}" for key, value in vars(self).items()
                   if value != getattr(centre, key)]  # fmt: skip
        return ", ".join(changed) or "centre"


CENTRE = Layer()
CELLS = [
    CENTRE,
    replace(CENTRE, width=576),
    replace(CENTRE, width=4096),
    replace(CENTRE, r=64),
    replace(CENTRE, share_a=True),
    replace(CENTRE, r=64, share_a=True),
    replace(CENTRE, tokens=8),
    replace(CENTRE, tokens=64),
    replace(CENTRE, tokens=4096),
    replace(CENTRE, routing="skewed"),
    replace(CENTRE, routing="all to one"),
    replace(CENTRE, r=64, routing="all to one"),
    replace(CENTRE, checkpointing=True),
    replace(CENTRE, tokens=8, dtype="bf16"),  # 512 take too long where the processor has no bf16
    replace(CENTRE, dtype="4bit"),
    replace(CENTRE, tokens=1, train=False),
    replace(CENTRE, tokens=8, train=False),
    replace(CENTRE, tokens=8, train=False, compiled=True),
    replace(CENTRE, tokens=64, train=False),
    replace(CENTRE, tokens=8, dtype="bf16", train=False),
]
GPU_CENTRE = replace(CENTRE, tokens=4096, dtype="bf16")
"""On GPUs a base is in bf16, and there are enough tokens to fill it."""
GPU_CELLS = [
    GPU_CENTRE,
    replace(GPU_CENTRE, width=4096),
    replace(GPU_CENTRE, r=64),
    replace(GPU_CENTRE, r=64, share_a=True),
    replace(GPU_CENTRE, width=4096, r=64),
    replace(GPU_CENTRE, tokens=512),
    replace(GPU_CENTRE, tokens=16384),
    replace(GPU_CENTRE, routing="all to one"),
    replace(GPU_CENTRE, checkpointing=True),
    replace(GPU_CENTRE, dtype="4bit"),
    replace(GPU_CENTRE, tokens=8, train=False),
    replace(GPU_CENTRE, tokens=8, train=False, compiled=True),
    replace(GPU_CENTRE, tokens=64, train=False),
    replace(GPU_CENTRE, tokens=4096, train=False),
    replace(GPU_CENTRE, tokens=4096, train=False, compiled=True),
]


def layer_runs(cell: Layer, seed: int = 0) -> dict[str, Callable[[], Any]]:
    """The rivals of one cell, after those that compute the same were found to have the same output and gradients.

    Ours and the double loop are given their gates, which get a gradient too, or have a router ("…, with router").
    """
    torch.manual_seed(seed)
    base = _base(cell)
    hidden = torch.randn(1, cell.tokens, cell.width, dtype=DTYPES.get(cell.dtype)).requires_grad_(cell.train)
    gates = _gates(cell).requires_grad_(cell.train)
    person = torch.randn(1, PROFILE) * 6 / PROFILE**0.5
    joint = _mixture(base, cell)
    loras = {"lora": _lora(base, cell, autocast=True)}
    if cell.dtype == "bf16":
        loras["lora in base dtype"] = _lora(base, cell, autocast=False)
    trained = [p for module in (joint, *loras.values()) for p in module.parameters() if p.requires_grad]
    leaves = [hidden, gates, *trained]
    rivals: dict[str, Rival] = {"base": base, **loras, **_mixtures(joint, gates, person, cell)}
    for mine, other in SAME.items():
        _assert_parity(rivals[mine], rivals[other], leaves, cell, routed=mine == ROUTED)
    if cell.compiled:
        rivals = _compiled(rivals, joint, person, hidden)
    rivals[AGAIN] = rivals["ours"]
    return {name: _step(rival, leaves, cell) for name, rival in rivals.items()}


def _mixtures(joint: CumaLinear, gates: Tensor, person: Tensor, cell: Layer) -> dict[str, Rival]:
    """Ours and the double loop, with these gates, and with a router."""
    base, experts = joint.base_layer, joint.cuma_experts["default"]
    who = Conditioning(profile=person, expands=not cell.train)

    def given(hidden: Tensor) -> Tensor:
        return experts(base(hidden), hidden, gates, once=partial(who.once, "B"))

    def loop(hidden: Tensor) -> Tensor:
        out = base(hidden)
        return out + double_loop(hidden, gates, K, experts.lora_A, experts.lora_B, experts.scaling).to(out)

    def routed_loop(hidden: Tensor) -> Tensor:
        with loops_in_every_layer():
            return routed(joint, who, hidden)

    found: dict[str, Rival] = {"ours": given, "double loop": loop, "double loop, with router": routed_loop}
    return {**found, ROUTED: partial(routed, joint, who)}


def routed(layer: Rival, who: Conditioning, hidden: Tensor) -> Tensor:
    """The layer, its router included, asked by this person."""
    with conditioned(who):
        return layer(hidden)


def seeded(draw: Callable[..., Tensor], *args: Any, seed: int) -> Tensor:
    """Random numbers that are the same on every device: drawn on the CPU, put on the default device."""
    drawn = draw(*args, generator=torch.Generator().manual_seed(seed), device="cpu")
    return drawn.to(torch.get_default_device())


def _compiled(plain: dict[str, Rival], joint: CumaLinear, person: Tensor, hidden: Tensor) -> dict[str, Rival]:
    """Inductor's graphs of all but the loops, which are none, after each was found to say what its plain form says."""
    fast = {name: torch.compile(plain[name], fullgraph=True) for name in ("base", "lora", "ours")}
    fast[ROUTED] = partial(routed, torch.compile(joint, fullgraph=True), Conditioning(profile=person, expands=True))
    for name, rival in fast.items():
        with torch.no_grad():
            tolerance = EXACT if hidden.dtype == torch.float32 else KINKED
            assert_same([rival(hidden)], [plain[name](hidden)], tolerance, name)
    return fast


def _base(cell: Layer) -> nn.Module:
    if cell.dtype == "4bit":
        from bitsandbytes.nn import Linear4bit

        here = torch.get_default_device()
        computes_in = torch.float32 if here.type == "cpu" else torch.bfloat16
        with torch.device("cpu"):  # it is quantised on its way to a device
            made = Linear4bit(cell.width, cell.width, bias=False, compute_dtype=computes_in, quant_type="nf4")
        stay_differentiable(made)
        return made.to(here).requires_grad_(False)
    return nn.Linear(cell.width, cell.width, bias=False, dtype=DTYPES[cell.dtype]).requires_grad_(False)


def _mixture(base: nn.Module, cell: Layer) -> CumaLinear:
    options = {"num_experts": E, "top_k": K, "profile_dim": PROFILE, "share_a": cell.share_a}
    config = CumaConfig(r=cell.r, lora_alpha=2 * cell.r, init_weights=False, **options)
    layer = CumaLinear(base, "default")
    layer.update_layer("default", config, None, "proj")
    return layer


def _lora(base: nn.Module, cell: Layer, autocast: bool) -> nn.Module:
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


def _step(rival: Rival, leaves: list[Tensor], cell: Layer) -> Callable[[], Any]:
    hidden = leaves[0]
    if not cell.train:

        def answer() -> Tensor:
            with torch.no_grad():
                return rival(hidden)

        return answer
    grad = torch.randn(hidden.shape, dtype=hidden.dtype)

    def train() -> None:
        for leaf in leaves:
            leaf.grad = None  # a first gradient is stored, later ones are added: the same for all
        out = checkpoint(rival, hidden, use_reentrant=False) if cell.checkpointing else rival(hidden)
        out.backward(grad)

    return train


def _assert_parity(ours: Rival, loop: Rival, leaves: list[Tensor], cell: Layer, routed: bool) -> None:
    """The same output, and the same gradient of the input, of the gates that chose somebody, and of every parameter."""
    found, (hidden, gates) = [], leaves[:2]
    for rival in (ours, loop):
        with torch.set_grad_enabled(cell.train):
            out = rival(hidden)
        results = [out.detach()]
        if cell.train:
            out.backward(seeded(torch.randn, out.shape, seed=1).to(out))
            for leaf in leaves:
                gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
                results.append(gradient * (gates != 0) if leaf is gates else gradient)
                leaf.grad = None
        found.append(results)
    exact = cell.dtype != "bf16" and not routed and not torch.is_autocast_enabled(hidden.device.type)
    assert_same(*found, EXACT if exact else KINKED, cell.name)
