"""One adapted linear layer: the frozen base layer plus the mixture."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, _get_in_out_features
from torch import Tensor, nn
from torch.nn import functional

from cuma.errors import ProfileError, UnsupportedError
from cuma.tuner.config import CumaConfig
from cuma.tuner.context import current
from cuma.tuner.devices import bring_back, device_of
from cuma.tuner.experts import add_mixture_of_lora_
from cuma.tuner.router import Router

NOT_LINEAR = (
    nn.Embedding,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.MultiheadAttention,
    nn.modules.linear.NonDynamicallyQuantizableLinear,
)
"""Layers for which PEFT reports two sizes but that are not called as W h (the last one's weight is read directly)."""


class Experts(nn.Module):
    """The expert matrices of one adapter in one layer. Always fp32: bf16 AdamW at small rates loses most updates."""

    def __init__(self, in_features: int, out_features: int, config: CumaConfig, device: torch.device | None) -> None:
        """Args:
        in_features: H.
        out_features: O.
        config: the adapter's configuration.
        device: where the parameters are made.
        """
        super().__init__()
        experts, rank = config.num_experts, config.r
        self.reads_profile = config.profile_in_experts
        width = in_features + (config.router_profile_dim if self.reads_profile else 0)
        a_shape = (rank, width) if config.share_a else (experts, rank, width)
        self.lora_A = nn.Parameter(torch.empty(a_shape, device=device, dtype=torch.float32))
        self.lora_B = nn.Parameter(torch.empty(experts, out_features, rank, device=device, dtype=torch.float32))
        self.dropout = nn.Dropout(config.lora_dropout)
        self.scaling = config.lora_alpha / config.r
        # Kaiming as nn.Linear does it, for each expert: a bound of 1/sqrt(H).
        nn.init.uniform_(self.lora_A, -1 / math.sqrt(width), 1 / math.sqrt(width))
        if config.init_weights:
            nn.init.zeros_(self.lora_B)
        else:
            nn.init.uniform_(self.lora_B, -1 / math.sqrt(rank), 1 / math.sqrt(rank))

    def extra_repr(self) -> str:
        """Shapes, as PEFT's and torch's layers print them."""
        return f"lora_A={list(self.lora_A.shape)}, lora_B={list(self.lora_B.shape)}"

    def forward(
        self,
        base_out: Tensor,
        hidden: Tensor,
        gates: Tensor,
        person: Tensor | None = None,
        once: Callable[[Callable[[], Tensor]], Tensor] | None = None,
    ) -> Tensor:
        """Add what the experts say to what the base layer says, in place.

        Args:
            base_out: [..., O], overwritten.
            hidden: [..., H].
            gates: [..., E].
            person: [..., D'], the standardised profile of every token (or broadcasting against that), if the experts
                read it.
            once: see `add_mixture_of_lora_`.

        Returns:
            base_out.
        """
        lora_A, offset = self.lora_A, None
        if self.reads_profile and person is not None:
            if self.dropout.p and self.training:  # the mask is drawn over [h ⊕ e_d] of each token
                hidden = torch.cat([hidden, person.to(hidden.dtype).expand(*hidden.shape[:-1], -1)], dim=-1)
            else:
                # A [h ⊕ e_d] = A_h h + A_e e_d, the second part once a person.
                width = hidden.shape[-1]
                offset = functional.linear(person.to(lora_A.dtype), lora_A[..., width:].flatten(0, -2))
                offset = offset.expand(*hidden.shape[:-1], -1)
                lora_A = lora_A[..., :width]
        if self.dropout.p:
            hidden = self.dropout(hidden)
        return add_mixture_of_lora_(base_out, hidden, gates, lora_A, self.lora_B, self.scaling, offset, once)


class CumaLinear(nn.Module, BaseTunerLayer):
    """h' = W_0 h + (α/r) Σ_i g_i B_i A_i h, with W_0 called as a black box (so quantised base layers work).

    Every parameter lives in a ModuleDict under its adapter's name: PEFT's and TRL's handling of trainability, copies
    and files then works unaided. A shared router lives on the first layer of its group; the others only refer to it.
    """

    adapter_layer_names = ("cuma_experts", "cuma_router")
    other_param_names = ("router_owner", "needs_profile")

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        """Args:
            base_layer: the layer to adapt.
            adapter_name: the adapter that will be active.

        Raises:
            UnsupportedError: the layer is not a linear one.
        """
        super().__init__()
        self.base_layer = base_layer
        self.in_features, self.out_features = linear_shape(self.get_base_layer())
        self.cuma_experts = nn.ModuleDict()
        self.cuma_router = nn.ModuleDict()
        self.router_owner: dict[str, CumaLinear] = {}
        self.needs_profile: dict[str, bool] = {}
        self.name = ""
        self._active_adapter = adapter_name
        self.merged_adapters: list[str] = []

    def update_layer(
        self, adapter_name: str, config: CumaConfig, owner: CumaLinear | None, name: str, inference_mode: bool = False
    ) -> None:
        """Add an adapter.

        Args:
            adapter_name: its name.
            config: its configuration.
            owner: the layer whose router this one uses; None: a router of its own.
            name: this layer's name in the model.
            inference_mode: True leaves the new parameters frozen.
        """
        device = device_of(self.get_base_layer())
        self.name = name
        self.cuma_experts[adapter_name] = Experts(self.in_features, self.out_features, config, device)
        if owner is None:
            self.cuma_router[adapter_name] = Router(self.in_features, config, device)
        else:
            self.router_owner[adapter_name] = owner
        self.needs_profile[adapter_name] = config.needs_profile
        self.set_adapter(self.active_adapters, inference_mode=inference_mode)

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """hidden [B, T, H] (or [..., H] for semantic routers) → [B, T, O] in the base layer's dtype."""
        result = self.base_layer(hidden, *args, **kwargs)
        active = self.active_adapters
        if self.disable_adapters or not active or active[0] not in self.cuma_experts:
            return result
        experts = self.cuma_experts[active[0]]
        bring_back(experts, experts.lora_A, hidden)
        gates, call = self._gates(hidden, active[0]), current()
        if call is None:
            return experts(result, hidden, gates)
        person = call.profile_of_tokens(hidden, self.name) if experts.reads_profile else None
        return experts(result, hidden, gates, person, partial(call.once, f"{self.name} B"))

    def _gates(self, hidden: Tensor, adapter_name: str) -> Tensor:
        owner = self.router_owner.get(adapter_name, self)
        router = owner.cuma_router[adapter_name]
        bring_back(router, router.input.weight, hidden)
        call = current()
        if call is not None:
            return call.route(router, hidden, owner.name)
        if self.needs_profile[adapter_name]:
            raise ProfileError(
                "an adapted layer ran without profile_embeds: the base model was called directly. Call the PeftModel: "
                "model(…, profile_embeds=encoder(profiles)), or generate(…, profile_embeds=…)."
            )
        return router(hidden, None).gates

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        """Without PEFT's cast to the base layer's dtype, which would cut a loaded adapter down to bf16."""
        target = device if device is not None else device_of(self.get_base_layer())
        if target is not None and target.type == "meta":  # no place to move anything to
            return
        for parts in (self.cuma_experts, self.cuma_router):
            if adapter_name in parts and not any(parameter.is_meta for parameter in parts[adapter_name].parameters()):
                parts[adapter_name].to(target)

    def merge(self, *args: Any, **kwargs: Any) -> None:
        """Always raises: the gates depend on the token and the person."""
        refuse_merge()

    def unmerge(self) -> None:
        """Always raises, see `merge`."""
        refuse_merge()

    def __repr__(self) -> str:
        return "cuma." + super().__repr__()


def refuse_merge() -> None:
    """Raise the error of everything that would fold a mixture into one weight."""
    raise UnsupportedError(
        "a mixture cannot be merged into the base weights: its gates depend on the token and the person. "
        "`cuma export` writes one person's adapter as an ordinary LoRA, which can be merged."
    )


def linear_shape(layer: nn.Module) -> tuple[int, int]:
    """(H, O) of a linear layer, quantised ones and GPT-2's Conv1D included.

    Raises:
        UnsupportedError: it is something else.
    """
    if not isinstance(layer, NOT_LINEAR):
        in_features, out_features = _get_in_out_features(layer)
        if in_features is not None and out_features is not None:
            return in_features, out_features
    raise UnsupportedError(
        f"target module of type {type(layer).__name__} is not supported: only linear layers are. "
        "Name linear layers in target_modules, or leave this one out with exclude_modules."
    )
