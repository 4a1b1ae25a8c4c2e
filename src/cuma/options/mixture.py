"""The options of a mixture. Recipes (`adapter`) and `cuma.CumaConfig` inherit them: a new one is added here alone."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal, TypeVar

from pydantic import Field

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Options = TypeVar("Options")
RouterInput = Literal["joint", "profile", "semantic"]
Gating = Literal[
    "paper",
    "released",
]
"""How logits become gates: the names in `cuma.tuner.router.GATES`."""


@dataclass
class MixtureOptions:
    """Method and symbols: docs/method.md. The words are PEFT's where PEFT has one."""

    r: Count = 8
    """Rank R (of each expert)."""
    lora_alpha: Positive = 16
    """The update is scaled by lora_alpha / r."""
    lora_dropout: Share = 0.0
    """Dropout on the adapter's input. A router always sees the input as it is."""
    num_experts: Count = 8
    """E, the experts of each adapted layer."""
    top_k: Count = 2
    """K, the experts used for a token; equal to num_experts: soft routing."""
    router_input: RouterInput = "joint"
    """What the router sees. "joint": hidden state and profile (CuMA); "profile": the person alone; "semantic": the
    hidden state alone (MixLoRA; with share_a HydraLoRA)."""
    share_a: bool = False
    """One A for all experts of a layer, instead of one each."""
    profile_in_experts: bool = False
    """The experts too read [h ⊕ e_d]. With num_experts 1 that is a dense LoRA that knows who asks: the rival that shows
    what routing adds."""
    share_router: bool = True
    """One routing for all adapted layers with the same input (q, k, v; gate, up), instead of one for each."""
    router_hidden_dim: Count | None = 256
    """Width of the router's hidden layer (ReLU); null: the linear router of the paper's equation."""
    profile_projection_dim: Count | None = None
    """Width of a trainable linear map of the standardised profile; null: none."""
    profile_scale: Positive | None = None
    """RMS norm of the standardised profile; null: sqrt(H) / 4, which is 6 for a 576-wide model. Taken literally,
    [h ⊕ e_d] gives a unit-norm profile almost no weight beside h."""
    router_aux_loss_coef: NonNegative = 0.01
    """λ, the weight of the load-balancing loss (averaged over routers)."""
    gating: Gating = "paper"
    """"paper": one softmax over the selected logits; "released": the authors' code, which applies softmax twice."""


def frozen(options: type[Options]) -> type[Options]:
    """The same options as values that do not change. PEFT writes into its configurations; nothing writes into a recipe,
    and a dataclass that is frozen cannot inherit one that is not."""
    names = {"__module__": options.__module__, "__annotations__": options.__annotations__}
    defaults = {field.name: field.default for field in fields(options)}  # type: ignore[arg-type]
    return dataclass(frozen=True)(type(options.__name__, (), {**names, **defaults}))
