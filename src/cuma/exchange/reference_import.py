"""An adapter that the authors' released code saved, as one of ours that computes the same.

Their code applies softmax twice to the gates (`gating="released"`), gives the router the embedding as it comes, and
keeps all routers under the first adapted layer's `_router_manager`. Which tensor is which is read from names and
shapes; whatever cannot be placed is an error, so that nothing is imported in part.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cuma.answering.adapter_files import save_adapter, taken_off_after
from cuma.errors import AdapterError
from cuma.models.backbones import load_backbone
from cuma.tuner.config import CumaConfig
from cuma.tuner.layer import CumaLinear

PEFT_TYPE = "CuMA"
TOP_K_KEYS = ("top_k", "topk", "num_experts_per_tok", "num_selected_experts", "k")
"""Keys under which a configuration may say how many experts serve a token."""
MANAGER = "_router_manager"
PLAIN = {"weight", "default", "experts", "lora_A", "lora_B"}
"""Parts of an expert's key beside its number."""


@dataclass
class _Pieces:
    """The tensors of a file, sorted by what they are."""

    lora_A: dict[str, Tensor] = field(default_factory=dict)
    """Layer → [E, R, H], or [R, H] if all experts share one."""
    lora_B: dict[str, Tensor] = field(default_factory=dict)
    """Layer → [E, O, R]."""
    routers: dict[str, list[Tensor]] = field(default_factory=dict)
    """Router's own name → weight and bias of each of its linear layers, in order."""


def import_reference(
    source: str | Path, base: str | Path, output_dir: str | Path, *, top_k: int | None = None
) -> CumaConfig:
    """Read an adapter of the released code, write it as one of ours, and return its configuration.

    Args:
        source: folder with adapter_config.json (peft_type "CuMA") and adapter_model.safetensors.
        base: the backbone it was trained on: a name, a local folder or a Hub id.
        output_dir: where ours goes; must not hold an adapter yet.
        top_k: K, if the configuration does not say it.

    Raises:
        AdapterError: not such an adapter, for another base model, or with tensors that cannot be placed. In particular
            the released code does not save its projection of the profile: the imported router reads the projected
            embedding, and `profile_dim` of the result is that width.
    """
    source, output_dir = Path(source), Path(output_dir)
    settings = _settings(source)
    if (output_dir / CONFIG_NAME).exists():
        raise AdapterError(f"{output_dir} holds an adapter already. Choose another --output.")
    tensors = _tensors(source)
    backbone = load_backbone(str(base)).model
    linears = {name for name, module in backbone.named_modules() if isinstance(module, nn.Linear)}
    pieces = _sorted(tensors, linears)
    config = _config(settings, pieces, backbone, top_k)
    with taken_off_after(get_peft_model(backbone, config)) as model:
        _fill(model, pieces)
        save_adapter(model, output_dir)
    return config


def _settings(source: Path) -> dict[str, Any]:
    try:
        settings = json.loads((source / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{source}: {CONFIG_NAME} is missing or no JSON. Name the adapter's folder.") from error
    if not isinstance(settings, dict) or settings.get("peft_type") != PEFT_TYPE:
        raise AdapterError(
            f'{source}: not an adapter of the released code, whose {CONFIG_NAME} says peft_type "{PEFT_TYPE}". '
            "Our own adapters need no import."
        )
    return settings


def _tensors(source: Path) -> dict[str, Tensor]:
    path = source / SAFETENSORS_WEIGHTS_NAME
    if not path.is_file():
        raise AdapterError(f"{source}: {SAFETENSORS_WEIGHTS_NAME} is missing. Pickled weights (.bin) are never read.")
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise AdapterError(f"{path} is damaged. Copy it again.") from error


def _sorted(tensors: dict[str, Tensor], linears: set[str]) -> _Pieces:
    pieces, numbered = _Pieces(), _Numbered()
    unknown = []
    for key in sorted(tensors, key=_natural):
        layer, parts = _split(key, linears)
        if MANAGER in parts:
            pieces.routers.setdefault(".".join(parts[parts.index(MANAGER) + 1 : -2]), []).append(tensors[key])
        elif layer and not numbered.add(layer, parts, tensors[key]):
            layer = ""
        if not layer:
            unknown.append(key)
    if unknown:
        raise AdapterError(
            f"{len(unknown)} tensor(s) of the adapter cannot be placed in this base model ({unknown[0]}, …). Is --base "
            "the model it was trained on?"
        )
    pieces.lora_A, pieces.lora_B = numbered.stacked("lora_A"), numbered.stacked("lora_B")
    if not pieces.lora_A or pieces.lora_A.keys() != pieces.lora_B.keys():
        raise AdapterError("the adapter lacks lora_A or lora_B for some layers. Copy it again.")
    if not pieces.routers:
        raise AdapterError(f"the adapter has no router: no tensor is under {MANAGER!r}. Copy it again.")
    return pieces


def _split(key: str, linears: set[str]) -> tuple[str, list[str]]:
    """The adapted layer's name in the base model ("" if there is none such), and the parts of the key after it."""
    parts = key.split(".")
    for start in range(len(parts)):
        for end in range(len(parts), start, -1):
            if (name := ".".join(parts[start:end])) in linears:
                return name, parts[end:]
    return "", parts


class _Numbered:
    """Experts' matrices as they come: one tensor an expert, or one for all."""

    def __init__(self) -> None:
        self.matrices: dict[str, dict[str, dict[int | None, Tensor]]] = {"lora_A": {}, "lora_B": {}}

    def add(self, layer: str, parts: list[str], tensor: Tensor) -> bool:
        """Keep it; False if its name or shape is not that of an expert."""
        kind = next((part for part in parts if part in self.matrices), None)
        numbers = [int(part) for part in parts if part.isdigit()]
        other = [part for part in parts if not part.isdigit() and part not in PLAIN]
        if kind is None or other or len(numbers) > 1 or tensor.dim() != (2 if numbers else tensor.dim()):
            return False
        self.matrices[kind].setdefault(layer, {})[numbers[0] if numbers else None] = tensor
        return True

    def stacked(self, kind: str) -> dict[str, Tensor]:
        """Layer → one tensor."""
        result = {}
        for layer, by_number in self.matrices[kind].items():
            if None in by_number:
                result[layer] = by_number[None]
            elif sorted(number for number in by_number if number is not None) == list(range(len(by_number))):
                result[layer] = torch.stack([by_number[number] for number in range(len(by_number))])
            else:
                raise AdapterError(f"{layer}: the numbers of the experts have gaps. Copy the adapter again.")
        return result


def _config(settings: dict[str, Any], pieces: _Pieces, backbone: nn.Module, top_k: int | None) -> CumaConfig:
    layer, lora_b = next(iter(pieces.lora_B.items()))
    lora_a = pieces.lora_A[layer]
    if lora_b.dim() != 3 or lora_a.dim() not in (2, 3):
        raise AdapterError(f"{layer}: lora_B must be one matrix an expert. Is this a mixture?")
    top_k = top_k or next((settings[key] for key in TOP_K_KEYS if key in settings), None)
    if top_k is None:
        raise AdapterError("the adapter's configuration does not say how many experts serve a token. Give --top-k.")
    if "lora_alpha" not in settings:
        raise AdapterError(
            f"the adapter's configuration lacks lora_alpha, which scales its update. Write it into {CONFIG_NAME}."
        )
    first = next(iter(pieces.routers.values()))
    weights = [tensor for tensor in first if tensor.dim() == 2]
    hidden = backbone.get_submodule(layer).in_features
    width = weights[0].shape[1]
    blocks = {block for name in pieces.lora_B if (block := _block(name)) is not None}
    if len(weights) not in (1, 2) or len(first) != (4 if len(weights) == 2 else 1) or width <= hidden:
        raise AdapterError("the routers are not a linear map or a two-layer perceptron of [hidden state, profile].")
    return CumaConfig(
        r=lora_b.shape[2],
        lora_alpha=settings["lora_alpha"],
        target_modules=sorted({name.rpartition(".")[2] for name in pieces.lora_B}),
        layers_to_transform=sorted(blocks) or None,
        num_experts=lora_b.shape[0],
        top_k=top_k,
        share_a=lora_a.dim() == 2,
        share_router=len(pieces.routers) < len(pieces.lora_B),
        router_hidden_dim=weights[0].shape[0] if len(weights) == 2 else None,
        profile_dim=width - hidden,
        gating="released",
    )


def _fill(model: PeftModel, pieces: _Pieces) -> None:
    layers = {layer.name: layer for layer in model.modules() if isinstance(layer, CumaLinear)}
    if layers.keys() != pieces.lora_B.keys():
        raise AdapterError("the adapter does not cover the same layers in every block. Such a mixture has no import.")
    for name, layer in layers.items():
        experts = layer.cuma_experts["default"]
        _put({name: experts.lora_A}, [pieces.lora_A[name]])
        _put({name: experts.lora_B}, [pieces.lora_B[name]])
        if "default" in layer.cuma_router:
            _put(dict(layer.cuma_router["default"].named_parameters()), pieces.routers[_router_of(name, pieces)])
    for statistics in model.base_model.cuma_profile.values():
        statistics.mean.data.zero_()
        statistics.scale.data.fill_(1.0)  # their router reads the embedding as it comes


def _put(own: dict[str, nn.Parameter], given: list[Tensor]) -> None:
    """Weights before biases, layer by layer, whatever the file's order."""
    if sorted(map(tuple, (p.shape for p in own.values()))) != sorted(tuple(tensor.shape) for tensor in given):
        raise AdapterError(f"{next(iter(own))}: tensors of other shapes than the rest of the adapter. Copy it again.")
    for parameter in own.values():
        at = next(i for i, tensor in enumerate(given) if tensor.shape == parameter.shape)
        parameter.data.copy_(given[at])
        given = given[:at] + given[at + 1 :]


def _router_of(layer: str, pieces: _Pieces) -> str:
    """The name of the router that serves a layer: the only one, the one named after it, or after its block."""
    names = list(pieces.routers)
    if len(names) == 1:
        return names[0]
    own = [name for name in names if _letters(layer) in _letters(name)]
    block = _block(layer)
    same = own or [name for name in names if [int(n) for n in re.findall(r"\d+", name)] == [block]]
    if len(same) != 1:
        raise AdapterError(f"{len(same)} of {len(names)} routers could serve {layer}: their names do not tell.")
    return same[0]


def _letters(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", name)


def _block(layer: str) -> int | None:
    """The number of the decoder block in a layer's name."""
    numbers = re.findall(r"\.(\d+)\.", layer)
    return int(numbers[0]) if numbers else None


def _natural(key: str) -> list[Any]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", key)]
