"""Who serves this token: the router, its gates, and the loss that keeps experts in use."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cuma.tuner.config import CumaConfig


class Routing(NamedTuple):
    """What a router decided."""

    logits: Tensor
    """[B, T, E] (or [..., E]) fp32."""
    gates: Tensor
    """Same shape, fp32: at most K of E non-zero, summing to 1."""


def top_k_mask(logits: Tensor, top_k: int) -> Tensor:
    """The K largest logits of each token, ties going to the lowest index.

    `torch.topk` does not say which of equal logits it takes (in bf16 exact ties are common), so sort stably.

    Args:
        logits: [..., E].
        top_k: K.

    Returns:
        bool [..., E], K true per token.
    """
    chosen = logits.sort(dim=-1, descending=True, stable=True).indices[..., :top_k]
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, chosen, True)


def top_k_gates(logits: Tensor, top_k: int) -> Tensor:
    """One softmax over the selected logits: g_i = exp(s_i)·1[i ∈ Top-k(s)] / Σ_j exp(s_j)·1[j ∈ Top-k(s)].

    Paper (arXiv 2601.04885), the gating equation; computed in fp32 whatever the input's dtype.

    Args:
        logits: [..., E] router logits s.
        top_k: K, 1 ≤ K ≤ E.

    Returns:
        gates [..., E] fp32, non-negative, at most K non-zero, summing to 1.
    """
    logits = logits.float()
    return logits.masked_fill(~top_k_mask(logits, top_k), float("-inf")).softmax(dim=-1)


def released_gates(logits: Tensor, top_k: int) -> Tensor:
    """The authors' released code: softmax over all experts, top-k, and softmax again over the selected probabilities.

    With K = 2 a gate then lies in [0.27, 0.73] whatever the logits. For reading adapters trained with that code.

    Args:
        logits: [..., E].
        top_k: K.

    Returns:
        gates [..., E] fp32.
    """
    return top_k_gates(logits.float().softmax(dim=-1), top_k)


def load_balancing_loss(logits: Tensor, top_k: int, mask: Tensor | None = None) -> Tensor:
    """L_lb = E Σ_i f_i P_i of one router (Switch / Mixtral form): 1 when balanced, up to E when all go to one.

    f_i is expert i's share of the top-k slots, P_i its mean probability under the full softmax, over real tokens only.

    Args:
        logits: [..., E] router logits.
        top_k: K.
        mask: [...] with 1 for real tokens; None: all are real.

    Returns:
        fp32 scalar; 0 if there is no real token.
    """
    logits = logits.float()
    weight = torch.ones(logits.shape[:-1], device=logits.device) if mask is None else mask.to(logits)
    weight = weight.expand(logits.shape[:-1]).unsqueeze(-1)
    tokens = weight.sum().clamp(min=1)
    every_dim_but_last = tuple(range(logits.dim() - 1))
    share = (top_k_mask(logits, top_k) * weight).sum(every_dim_but_last) / (tokens * top_k)
    probability = (logits.softmax(dim=-1) * weight).sum(every_dim_but_last) / tokens
    return logits.shape[-1] * (share * probability).sum()


class Router(nn.Module):
    """s = W_r [h ⊕ e_d]: the paper's router; by default a two-layer perceptron (ReLU, biases) as in the authors' code.

    The product with [h ⊕ e_d] is computed as W_h h + W_e e_d, so that the profile part is done once per person and not
    once per token. Everything runs in fp32 with autocast off: rounding to bf16 changes which experts are chosen.
    """

    def __init__(self, in_features: int, config: CumaConfig, device: torch.device | str | None = None) -> None:
        """Args:
        in_features: H, the width of the hidden state.
        config: the adapter's configuration.
        device: where the parameters are made.
        """
        super().__init__()
        self.top_k = config.top_k
        self.gating = config.gating
        self.hidden_width = in_features if config.router_input != "profile" else 0
        width = self.hidden_width + config.router_profile_dim
        hidden, experts = config.router_hidden_dim, config.num_experts
        self.input = nn.Linear(width, hidden or experts, bias=hidden is not None, device=device, dtype=torch.float32)
        self.output: nn.Linear | None = None
        if hidden is not None:
            self.output = nn.Linear(hidden, experts, device=device, dtype=torch.float32)

    def forward(self, hidden: Tensor, profile: Tensor | None) -> Routing:
        """Route every token.

        Args:
            hidden: [B, T, H] or [..., H], the adapted layer's input.
            profile: [B, D'] standardised profiles, one a row of `hidden`; None for a semantic router.

        Returns:
            logits and gates, [..., E]; for router_input="profile" they are the same for all tokens of a row.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            logits = self._logits(hidden, profile)
            choose = released_gates if self.gating == "released" else top_k_gates
            gates = choose(logits, self.top_k)
            every_token = (*hidden.shape[:-1], -1)
            return Routing(logits.expand(every_token), gates.expand(every_token))

    def _logits(self, hidden: Tensor, profile: Tensor | None) -> Tensor:
        """[..., E], or [B, 1, E] when the person alone decides: then it is computed once and not for every token."""
        parts = []
        weight = self.input.weight.float()
        if self.hidden_width:
            parts.append(functional.linear(hidden.float(), weight[:, : self.hidden_width]))
        if profile is not None:
            person = functional.linear(profile.float(), weight[:, self.hidden_width :])
            parts.append(person.view(person.shape[0], *[1] * (hidden.dim() - 2), person.shape[-1]))
        activation = sum(parts[1:], start=parts[0])
        if self.output is None:
            return activation
        activation = (activation + self.input.bias.float()).relu()
        return functional.linear(activation, self.output.weight.float(), self.output.bias.float())
