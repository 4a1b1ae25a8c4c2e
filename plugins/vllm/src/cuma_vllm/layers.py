"""Mixtures on vLLM's linear layers: each gets a child and, in place, a class that also calls it.

Names, weights and quantisation stay vLLM's. vLLM fuses layers that transformers keeps apart (q, k, v; gate, up): which
columns of the output are whose is told by `packed_modules_mapping` and the layer's `output_sizes`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn
from vllm.model_executor.layers.fusion.quant_activation import get_input_quant_key
from vllm.model_executor.layers.linear import LinearBase

from cuma_vllm.adapter import Adapter
from cuma_vllm.errors import AdapterFileError, EngineOptionError
from cuma_vllm.mixture import Mixture, Part
from cuma_vllm.people import People

CHILD, TABLE = "cuma_mixtures", "cuma_people"


def put_on(model: nn.Module, adapter: Adapter, slots: int, tokens: int) -> People | None:
    """Put an adapter on a loaded model.

    Args:
        model: vLLM's, with its base weights.
        adapter: the mixture.
        slots: people in a batch, at most.
        tokens: tokens in a batch, at most.

    Returns:
        The table of people; None for an adapter that reads no profile.

    Raises:
        AdapterFileError: the adapter does not fit the model.
        EngineOptionError: a layer gets inputs that were already quantised.
    """
    device = next(model.parameters()).device
    mixtures: dict[str, list[Mixture]] = {}
    for name, parts in _placed(model, adapter).items():
        by_router: dict[str, list[Part]] = defaultdict(list)
        for part in parts:
            by_router[part.experts.router].append(part)
        mixtures[name] = [
            Mixture(adapter.config, adapter.routers[router], group, device) for router, group in by_router.items()
        ]
    people = None
    if adapter.config.needs_profile:
        people = People(adapter, [one for many in mixtures.values() for one in many], slots, tokens, device)
    for name, many in mixtures.items():
        _attach(name, model.get_submodule(name), many, people)
    return people


def _placed(model: nn.Module, adapter: Adapter) -> dict[str, list[Part]]:
    """vLLM's layer → the experts on it, each with its first column."""
    placed = defaultdict(list)
    for name, experts in adapter.layers.items():
        target, layer, start, width = _place_of(name, model)
        found = (experts.lora_A.shape[-1], experts.lora_B.shape[1])
        if found != (layer.input_size, width):
            raise AdapterFileError(
                f"The adapter's experts for {name} turn {found[0]} numbers into {found[1]}, and vLLM's layer "
                f"{layer.input_size} into {width}. Serve the base model that it was trained on."
            )
        placed[target].append(Part(start, experts))
    return placed


def _place_of(name: str, model: nn.Module) -> tuple[str, Any, int, int]:
    """Where vLLM has transformers' layer `name`: (its name, the layer, first column, columns)."""
    parent, _, last = name.rpartition(".")
    for whole, parts in _mapping(model).items():
        target = f"{parent}.{whole}"
        if last in parts and len(parts) > 1 and _linear(model, target) is not None:
            layer, place = _linear(model, target), parts.index(last)
            return target, layer, sum(layer.output_sizes[:place]), layer.output_sizes[place]
    layer = _linear(model, name)
    if layer is None:
        raise AdapterFileError(f"The adapter has experts for {name}, and vLLM's model has no such linear layer.")
    return name, layer, 0, layer.output_size


def _linear(model: nn.Module, name: str) -> Any:
    """The linear layer of that name; None if there is none."""
    try:
        found = model.get_submodule(name)
    except AttributeError:
        return None
    return found if isinstance(found, LinearBase) else None


def _mapping(model: nn.Module) -> Mapping[str, list[str]]:
    mapping = getattr(model, "packed_modules_mapping", None)
    return mapping if isinstance(mapping, Mapping) else {}


def _attach(name: str, layer: Any, mixtures: list[Mixture], people: People | None) -> None:
    layer.add_module(CHILD, nn.ModuleList(mixtures))
    layer.add_module(TABLE, people)
    layer.__class__ = _with_mixtures(layer.__class__)
    if get_input_quant_key(layer) is not None:
        raise EngineOptionError(f"{name} gets inputs that were quantised before; take a base without such a scheme.")


@cache
def _with_mixtures(kind: Any) -> type[nn.Module]:
    """The class of a layer of vLLM that also adds what its mixtures say."""

    def forward(self: Any, hidden: Tensor) -> Any:
        result = kind.forward(self, hidden)
        output = result if isinstance(result, Tensor) else result[0]
        rows, read = output.view(-1, output.shape[-1]), hidden.reshape(-1, hidden.shape[-1])  # OLMo's are [1, T, …]
        people = self.cuma_people
        for mixture in self.cuma_mixtures:
            mixture(rows, read, None if people is None else people.of(mixture, read.shape[0]))
        return result

    # vLLM asks this of layers whose input must come unquantised; so it does for its own LoRA.
    return type(f"Cuma{kind.__name__}", (kind,), {"forward": forward, "requires_unquantized_input": True})
