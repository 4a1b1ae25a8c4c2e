"""Who serves this token: the router, its gates, and the loss that keeps experts in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from cuma.tuner.config import CumaConfig
from cuma.tuner.precision import no_autocast


class Routing(NamedTuple):
    """What a router decided."""

    logits: Tensor
    """[B, T, E] (or [..., E]) fp32."""
    gates: Tensor
    """Same shape, fp32: at most K of E non-zero, summing to 1."""


def top_k_mask(logits: Tensor, top_k: int) -> Tensor:
    """The K largest logits of each token, ties going to the lowest index.

    `torch.topk` does not say which of equal logits it takes (in bf16 exact ties are common); `argmax` takes the first.
    So K rounds of it: fixed shapes, nothing to wait for, and for few experts less work than a stable sort.

    Args:
        logits: [..., E].
        top_k: K.

    Returns:
        bool [..., E], K true per token.
    """
    return _without_top_k(logits, top_k) != logits


def _without_top_k(logits: Tensor, top_k: int) -> Tensor:
    """[..., E]: a copy of `logits` without gradient, with −inf for the K largest."""
    left = logits.detach().clone()
    for _ in range(top_k):
        left.scatter_(-1, left.argmax(dim=-1, keepdim=True), float("-inf"))
    return left


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
    if top_k == logits.shape[-1]:
        return logits.softmax(dim=-1)
    return logits.masked_fill(_without_top_k(logits, top_k) == logits, float("-inf")).softmax(dim=-1)


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


GATES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "paper": top_k_gates,
    "released": released_gates,
}
"""Option `gating` → what makes gates [..., E] of logits [..., E] and K."""


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

    def forward(self, hidden: Tensor, profile: Tensor | None = None, part: Tensor | None = None) -> Routing:
        """Route every token.

        Args:
            hidden: [B, T, H] or [..., H], the adapted layer's input.
            profile: [B, D'] standardised profiles, one a row of `hidden` [B, T, H]; None for a semantic router.
            part: what `profile_part` says of the tokens' people instead, if it is known already: it broadcasts against
                [..., hidden width].

        Returns:
            logits and gates, [..., E]; for router_input="profile" they are the same for all tokens of a person.
        """
        with no_autocast(hidden.device.type):
            if part is None and profile is not None:
                part = self.profile_part(profile).unsqueeze(1)
            logits = self._logits(hidden, part)
            gates = GATES[self.gating](logits, self.top_k)
            if not self.hidden_width and gates.shape[:-1] != hidden.shape[:-1]:
                every_token = (*hidden.shape[:-1], -1)
                logits, gates = logits.expand(every_token), gates.expand(every_token)
            return Routing(logits, gates)

    def profile_part(self, profile: Tensor) -> Tensor:
        """W_e e_d + b, what the person adds in the router's first layer: [P, D'] → [P, hidden width, or E]."""
        with no_autocast(profile.device.type):
            weight = self.input.weight[:, self.hidden_width :]
            return functional.linear(profile.float(), weight.float(), self._bias())

    def _logits(self, hidden: Tensor, part: Tensor | None) -> Tensor:
        """[..., E], or [B, 1, E] when the person alone decides: then it is computed once and not for every token."""
        if self.hidden_width:
            activation = linear_fp32(hidden, self.input.weight[:, : self.hidden_width])
            constant = self._bias() if part is None else part
            if constant is not None:
                activation += constant
        else:
            assert part is not None
            activation = part
        if self.output is None:
            return activation
        activation = activation.relu_() if self.hidden_width else activation.relu()
        return functional.linear(activation, self.output.weight.float(), self.output.bias.float())

    def _bias(self) -> Tensor | None:
        return None if self.input.bias is None else self.input.bias.float()


def linear_fp32(hidden: Tensor, weight: Tensor) -> Tensor:
    """hidden [..., H] in any dtype, times weight [X, H]ᵀ, in fp32; a half-precision `hidden` is kept as it is for the
    backward and not as an fp32 copy."""
    if hidden.dtype == torch.float32 or not torch.is_grad_enabled():
        return functional.linear(hidden.float(), weight.float())
    return _WideLinear.apply(hidden, weight.float())


class _WideLinear(torch.autograd.Function):
    """fp32 product of a half-precision input, which is cast again in the backward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        return functional.linear(hidden.float(), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        hidden, weight = ctx.saved_tensors
        grad_hidden = grad_weight = None
        with no_autocast(hidden.device.type):
            if ctx.needs_input_grad[0]:
                grad_hidden = (grad @ weight).to(hidden.dtype)
            if ctx.needs_input_grad[1]:
                grad_weight = grad.flatten(0, -2).T @ hidden.flatten(0, -2).float()
        return grad_hidden, grad_weight
