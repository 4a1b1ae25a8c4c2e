"""What the routers do while they are trained: a few figures for the log, and nothing about any one person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

PERMUTATIONS = 20
"""How often groups are dealt out anew to see what mutual information chance alone gives."""


class GateMeter:
    """Gathers the gates of training's forwards, and sums them up whenever the trainer logs.

    Only forwards with gradients count: neither generation nor the reference.
    """

    def __init__(self) -> None:
        # Everything stays on its device until the report: a step waits for nothing.
        self._tables: dict[str, list[Tensor]] = {}  # layer → [B, E] tokens of each row whose top expert is e
        self._usage: dict[str, Tensor] = {}  # layer → [E] summed gates
        self._chosen: dict[str, Tensor] = {}  # layer → [E] tokens among whose top k is e
        self._entropy = torch.zeros(())
        self._tokens = torch.zeros(())  # over layers
        self._embeds: list[Tensor] = []  # [B, D]; groups are told apart by their embeddings alone

    @contextmanager
    def watching(self, tuner: Any) -> Iterator[None]:
        """Within this context every forward of `tuner` (a CumaModel) that has gradients is counted."""

        def count(_: Any, __: Any, given: Mapping[str, Any], ___: Any) -> None:
            if torch.is_grad_enabled():
                people = {name: given.get(f"profile_{name}") for name in ("embeds", "rows")}
                self.add(tuner.routing(), given.get("attention_mask"), **people)

        handle = tuner.register_forward_hook(count, with_kwargs=True)
        try:
            with tuner.record_routing():
                yield
        finally:
            handle.remove()

    @torch.no_grad()
    def add(
        self, gates: Mapping[str, Tensor], mask: Tensor | None, embeds: Tensor | None, rows: Tensor | None = None
    ) -> None:
        """Count one forward.

        Args:
            gates: layer → [B, T, E].
            mask: [B, T], 1 for real tokens; None: all are.
            embeds: [B, D] of the rows' people; None: rows have no group.
            rows: [B, T], which of `embeds` [P, D] each token belongs to, if rows hold several people; −1 for padding.
        """
        if rows is not None and embeds is not None:
            mask = rows >= 0
        whole = {layer: gate for layer, gate in gates.items() if gate.dim() == 3}  # others see a part of the tokens
        for layer, gate in whole.items():
            real = torch.ones(gate.shape[:2], device=gate.device) if mask is None else mask.to(gate.device, gate.dtype)
            weight = real[..., None]
            empty = torch.zeros(gate.shape[-1], device=gate.device)
            self._tables.setdefault(layer, []).append(
                _top_experts(gate, real, len(gate) if embeds is None else len(embeds), rows)
            )
            self._usage[layer] = self._usage.get(layer, empty) + (gate * weight).sum((0, 1))
            self._chosen[layer] = self._chosen.get(layer, empty) + ((gate > 0) * weight).sum((0, 1))
            self._entropy = self._entropy.to(gate.device) + (torch.special.entr(gate).sum(-1) * real).sum()
            self._tokens = self._tokens.to(gate.device) + real.sum()
        if embeds is not None:
            self._embeds.append(embeds.detach())

    def report(self) -> dict[str, float]:
        """The figures since the last report, averaged over routers; nothing if there was no forward.

        gate_entropy (nats, of a token's gates), effective_experts (exp of the entropy of the mean gates),
        dead_experts (experts that no token chose), and, with profiles, expert_group_mi: the mutual information in nats
        between a token's top expert and who asks, less its mean when the people are dealt out to other rows.
        """
        if not self._tables:
            return {}
        figures = {
            "gate_entropy": float(self._entropy / self._tokens),
            "effective_experts": float(np.mean([np.exp(_entropy(_numpy(used))) for used in self._usage.values()])),
            "dead_experts": float(np.mean([int((chosen == 0).sum()) for chosen in self._chosen.values()])),
        }
        groups = self._groups()
        if len(set(groups)) > 1:
            rng = np.random.default_rng(0)
            shuffles = [rng.permutation(groups) for _ in range(PERMUTATIONS)]
            tables = [_numpy(torch.cat(rows)) for rows in self._tables.values()]
            found = [_information(t, groups) - np.mean([_information(t, s) for s in shuffles]) for t in tables]
            figures["expert_group_mi"] = float(np.mean(found))
        self.__init__()  # type: ignore[misc]
        return figures

    def _groups(self) -> np.ndarray:
        """[rows] a number for each row's person."""
        known: dict[bytes, int] = {}
        rows = [row.tobytes() for embeds in self._embeds for row in _numpy(embeds)]
        return np.array([known.setdefault(row, len(known)) for row in rows], dtype=int)


def _top_experts(gate: Tensor, real: Tensor, people: int, rows: Tensor | None) -> Tensor:
    """[P, E]: the tokens of each person whose top expert is e.

    Args:
        gate: [B, T, E].
        real: [B, T], 1 for real tokens.
        people: P.
        rows: [B, T] whose each token is; None: each row's are one person's.
    """
    if rows is None:
        rows = torch.arange(len(gate), device=gate.device).unsqueeze(1).expand(gate.shape[:2])
    experts = gate.shape[-1]
    pair = rows.to(gate.device).clamp(min=0) * experts + gate.argmax(-1)
    table = torch.zeros(people * experts, device=gate.device)
    return table.index_add_(0, pair.flatten(), real.flatten()).view(people, experts)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


def _entropy(weights: np.ndarray) -> float:
    """In nats, of weights that need not sum to 1."""
    p = weights[weights > 0] / weights.sum()
    return float(-(p * np.log(p)).sum())


def _information(table: np.ndarray, groups: np.ndarray) -> float:
    """Mutual information in nats between group and expert.

    Args:
        table: [rows, E] how many tokens of each row went to each expert.
        groups: [rows].
    """
    joint = np.zeros((groups.max() + 1, table.shape[1]))
    np.add.at(joint, groups, table)
    return _entropy(joint.sum(0)) + _entropy(joint.sum(1)) - _entropy(joint.ravel())
