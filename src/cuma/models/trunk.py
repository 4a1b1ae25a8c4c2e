"""Run the frozen layers below the first adapter once per distinct prompt.

When only the last layers are adapted, everything below them is a fixed function of the tokens. A survey asks the same
few questions of everybody, so those layers would compute the same numbers in every step. `FrozenTrunk` keeps what
enters the first adapted layer, by token row, and starts the model there. Each row is computed alone, so the result is
the model's own up to rounding (1e-6) and does not depend on the batch. Only what is frozen is kept.

At the other end, nobody reads the last layer's feed-forward block where no logits are asked for: it is computed at the
positions of `logits_to_keep` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import TracebackType
from typing import Any

import torch
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn

from cuma.errors import UnsupportedError

DEFAULT_MAX_BYTES = 4 * 2**30


class _Given(nn.Module):
    """Stands in for the trunk: returns what was kept."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return self.hidden


class _Passed(nn.Module):
    """Stands in for a trunk layer that need not run (the list keeps its length: models index it)."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states


class _At(nn.Module):
    """A feed-forward block, computed at some positions only; zeros elsewhere."""

    def __init__(self, block: nn.Module, positions: Tensor | slice) -> None:
        super().__init__()
        self.block = block
        self.positions = positions

    def forward(self, hidden_states: Tensor) -> Tensor:
        computed = self.block(hidden_states[:, self.positions])
        out = computed.new_zeros(hidden_states.shape)
        out[:, self.positions] = computed
        return out


class FrozenTrunk:
    """A context in which a decoder's frozen lower layers are computed once per distinct row of tokens.

    Args:
        model: a transformers causal LM, bare or inside a PeftModel.
        store: depth → where to keep the rows, shared by models over the same backbone; None: a store of its own.
        max_bytes: what may be kept; rows beyond that are computed anew each time.
        max_depth: how many layers at most to take for the trunk, so that a model without adapters can share what is
            kept for others.

    Raises:
        UnsupportedError: the model has no list of decoder layers.
    """

    def __init__(
        self,
        model: nn.Module,
        store: Callable[[int], dict[bytes, Tensor]] | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_depth: int | None = None,
    ) -> None:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.lm = base
        self.decoder = base.get_decoder()
        layers = getattr(self.decoder, "layers", None)
        if not isinstance(layers, nn.ModuleList):
            raise UnsupportedError(f"{type(self.decoder).__name__} has no list of layers: its trunk cannot be kept.")
        frozen = next((i for i, layer in enumerate(layers) if _is_adapted(layer)), len(layers))
        self.depth = frozen if max_depth is None else min(frozen, max_depth)
        self.max_bytes = max_bytes
        self._kept: dict[bytes, Tensor] = {} if store is None else store(self.depth)
        self.bytes = sum(_size(hidden) for hidden in self._kept.values())
        self._original = self.decoder.forward
        self._original_lm = self.lm.forward
        self._positions: Tensor | slice | None = None
        self._nested = False

    def __enter__(self) -> FrozenTrunk:
        # Inside another trunk's context (a learning curve measured while training) that one goes on serving.
        self._nested = isinstance(getattr(self.decoder.forward, "__self__", None), FrozenTrunk)
        if self.depth and not self._nested:
            self._original, self._original_lm = self.decoder.forward, self.lm.forward
            self.decoder.forward, self.lm.forward = self._forward, self._noting_positions(self._original_lm)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.depth and not self._nested:
            _give_back(self.decoder, self._original)
            _give_back(self.lm, self._original_lm)

    def _noting_positions(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The causal LM's own forward; notes for `_forward`, which it calls, where logits are asked for."""

        @wraps(forward)  # generate reads the signature
        def noting(*args: Any, **kwargs: Any) -> Any:
            kept = kwargs.get("logits_to_keep", 0)
            self._positions = kept if isinstance(kept, Tensor) else slice(-kept, None) if kept else None
            try:
                return forward(*args, **kwargs)
            finally:
                self._positions = None

        return noting

    def _forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        if input_ids is None or kwargs.get("use_cache", True) or kwargs.get("past_key_values") is not None:
            # Generation: each step is a new row, there is nothing to keep.
            return self._original(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden = self._hidden(input_ids, mask)
        upper = list(self.decoder.layers)[self.depth :]
        stand_ins = [_Given(hidden), *(_Passed() for _ in range(self.depth - 1))]
        with self._layers(stand_ins + upper), self._last_block_at(upper[-1:]):
            return self._original(input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    @torch.no_grad()
    def _hidden(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """[B, T, H] entering the first adapted layer; zeros at padded positions, which nobody attends to."""
        rows = [ids[real] for ids, real in zip(input_ids, mask.bool(), strict=True)]
        keys = [row.cpu().numpy().tobytes() for row in rows]
        fresh = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._kept}
        found = {key: self._compute(row) for key, row in fresh.items()}
        for key, hidden in found.items():
            if self.bytes + _size(hidden) <= self.max_bytes:
                self._kept[key] = hidden
                self.bytes += _size(hidden)
        first = found.get(keys[0], self._kept.get(keys[0]))
        assert first is not None
        out = first.new_zeros(*input_ids.shape, first.shape[-1])
        for row, (key, real) in enumerate(zip(keys, mask.bool(), strict=True)):
            out[row, real] = found[key] if key in found else self._kept[key]
        return out

    def _compute(self, row: Tensor) -> Tensor:
        """[n, H]: the trunk alone on one row, so that what is kept does not depend on who was in the batch."""
        norm, lower = self.decoder.norm, list(self.decoder.layers)[: self.depth]
        passed = [_Passed() for _ in range(len(self.decoder.layers) - self.depth)]
        try:
            self.decoder.norm = nn.Identity()
            with self._layers([*lower, *passed]):
                output = self._original(input_ids=row[None], attention_mask=torch.ones_like(row)[None], use_cache=False)
        finally:
            self.decoder.norm = norm
        return output.last_hidden_state[0]

    @contextmanager
    def _layers(self, layers: list[nn.Module]) -> Iterator[None]:
        own = self.decoder.layers
        try:
            self.decoder.layers = nn.ModuleList(layers)
            yield
        finally:
            self.decoder.layers = own

    @contextmanager
    def _last_block_at(self, layers: list[nn.Module]) -> Iterator[None]:
        """The last layer's feed-forward block at the wanted positions; an adapted one runs everywhere, as its router
        is balanced over all tokens."""
        layer = layers[0] if layers and not _is_copied(layers[0]) else None
        block = getattr(layer, "mlp", None)
        if layer is None or block is None or self._positions is None or _is_adapted(block):
            yield
            return
        try:
            layer.mlp = _At(block, self._positions)
            yield
        finally:
            layer.mlp = block


def _give_back(module: nn.Module, forward: Any) -> None:
    """Undo an assignment to `module.forward`; the class's own method needs no place on the instance."""
    if getattr(forward, "__func__", None) is type(module).forward:
        del module.forward
    else:
        module.forward = forward


def _size(hidden: Tensor) -> int:
    return hidden.numel() * hidden.element_size()


def _is_adapted(layer: nn.Module) -> bool:
    """True if anything in the layer is trainable or is an adapter's."""
    return (
        _is_copied(layer)
        or any(p.requires_grad for p in layer.parameters())
        or any("base_layer" in name for name, _ in layer.named_modules())
    )


def _is_copied(layer: nn.Module) -> bool:
    """True for PEFT's wrapper around a layer that is trained as a whole."""
    return isinstance(layer, ModulesToSaveWrapper)
