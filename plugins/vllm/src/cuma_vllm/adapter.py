"""An adapter's tensors, read strictly: exactly those that its configuration says, of fitting shapes, all finite."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cuma_vllm.adapter_config import MixtureConfig
from cuma_vllm.errors import AdapterFileError
from cuma_vllm.manifest import WEIGHTS, verify

SAME_INPUT = (
    frozenset({"q_proj", "k_proj", "v_proj"}),
    frozenset({"query", "key", "value"}),
    frozenset({"q", "k", "v"}),
    frozenset({"q_lin", "k_lin", "v_lin"}),
    frozenset({"gate_proj", "up_proj"}),
    frozenset({"w1", "w3"}),
    frozenset({"wi_0", "wi_1"}),
)
"""Names of sibling layers that read the same input, and so share a router if share_router is on. As in cuma."""
_PROFILE = "base_model.cuma_profile."
_KEY = re.compile(r"base_model\.model\.(.+)\.cuma_(experts|router)\.(lora_[AB]|(?:input|output)\.(?:weight|bias))")


@dataclass(frozen=True, eq=False)
class Router:
    """A router's weights, fp32. W [h ⊕ e_d] + b, and in the two-layer form ReLU and a second product."""

    hidden: Tensor | None
    """[W, H]; None: the person alone decides."""
    profile: Tensor | None
    """[W, D']; None for a semantic router."""
    bias: Tensor | None
    """[W], in the two-layer form."""
    output: tuple[Tensor, Tensor] | None
    """[E, W] and [E]; None: the linear form, W = E."""


@dataclass(frozen=True, eq=False)
class Experts:
    """One adapted linear layer's experts, fp32."""

    lora_A: Tensor
    """[E, R, H], or [R, H] shared by all experts."""
    lora_A_profile: Tensor | None
    """[E, R, D'] or [R, D'], if the experts read the profile."""
    lora_B: Tensor
    """[E, O, R]."""
    router: str
    """Name of the layer whose router weighs them: its own, or a sibling's with the same input."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """A mixture, whole."""

    config: MixtureConfig
    layers: Mapping[str, Experts]
    """By the layer's name in transformers' model."""
    routers: Mapping[str, Router]
    mean: Tensor | None
    """[D] of the training profiles; None for a semantic router."""
    scale: Tensor | None
    """[1]."""
    projection: Tensor | None
    """[D', D]."""
    digest: str
    """Of its files."""

    @classmethod
    def read(cls, folder: str | Path) -> Adapter:
        """From a folder that cuma wrote.

        Raises:
            AdapterFileError: a file is damaged, incomplete, another method's, or does not fit its configuration.
        """
        folder = Path(folder)
        digest = verify(folder)
        config = MixtureConfig.read(folder)
        try:
            tensors = load_file(folder / WEIGHTS)
        except SafetensorError as error:
            raise AdapterFileError(f"{folder / WEIGHTS} is no readable safetensors file. Copy it again.") from error
        broken = [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]
        if broken:
            raise AdapterFileError(f"{folder}: NaN or infinite values in {_listed(broken)}. Go back to an earlier one.")
        return _Reading(folder, config, {key: tensor.float() for key, tensor in tensors.items()}).adapter(digest)


class _Reading:
    """Takes tensors out of a file until none is left."""

    def __init__(self, folder: Path, config: MixtureConfig, left: dict[str, Tensor]) -> None:
        self._folder, self._config, self._left = folder, config, left
        found = [match for match in map(_KEY.fullmatch, left) if match]
        self._layers = sorted({match[1] for match in found})
        self._routed = {match[1] for match in found if match[2] == "router"}
        if not self._layers:
            raise AdapterFileError(f"{folder}: holds no tensor of a mixture. Is this another method's adapter?")

    def adapter(self, digest: str) -> Adapter:
        """Everything, or an AdapterFileError."""
        mean = scale = projection = None
        if self._config.needs_profile:
            mean = self._take(f"{_PROFILE}mean", (self._config.profile_dim,))
            scale = self._take(f"{_PROFILE}scale", (1,))
            if not scale:
                raise AdapterFileError(f"{self._folder}: its profile statistics were never set. Train it first.")
            if self._config.profile_projection_dim:
                shape = (self._config.profile_projection_dim, self._config.profile_dim)
                projection = self._take(f"{_PROFILE}projection.weight", shape)
        layers = {name: self._experts(name) for name in self._layers}
        widths = {name: experts.lora_A.shape[-1] for name, experts in layers.items()}
        routers = {name: self._router(name, widths[name]) for name in sorted(self._routed)}
        wrong = [name for name, experts in layers.items() if widths[experts.router] != widths[name]]
        if self._left or wrong:
            raise AdapterFileError(
                f"{self._folder}: {_listed(self._left or wrong)} unknown to its configuration. Copy it again, or serve "
                "it with the version of cuma-vllm that knows it."
            )
        return Adapter(self._config, layers, routers, mean, scale, projection, digest)

    def _experts(self, layer: str) -> Experts:
        config, key = self._config, f"base_model.model.{layer}.cuma_experts."
        experts, rank, person = config.num_experts, config.r, 0
        if config.profile_in_experts:
            person = config.router_profile_dim
        lead = (rank,) if config.share_a else (experts, rank)
        lora_A = self._take(f"{key}lora_A", (*lead, None))
        lora_B = self._take(f"{key}lora_B", (experts, None, rank))
        width = lora_A.shape[-1] - person
        if width < 1:
            raise AdapterFileError(f"{self._folder}: {key}lora_A is narrower than a profile. Copy the adapter again.")
        part = lora_A[..., width:] if person else None
        return Experts(lora_A[..., :width], part, lora_B, self._owner(layer))

    def _owner(self, layer: str) -> str:
        """The layer with the router: its own, or a sibling's with the same input."""
        if layer in self._routed:
            return layer
        parent, _, name = layer.rpartition(".")
        group = next((names for names in SAME_INPUT if name in names), frozenset()) if self._config.share_router else ()
        owners = [f"{parent}.{other}".lstrip(".") for other in sorted(group)]
        owner = next((other for other in owners if other in self._routed), None)
        if owner is None:
            raise AdapterFileError(f"{self._folder}: {layer} has no router. Copy the adapter again.")
        return owner

    def _router(self, layer: str, width: int) -> Router:
        config, key = self._config, f"base_model.model.{layer}.cuma_router."
        hidden = width if config.router_input != "profile" else 0
        inner, experts = config.router_hidden_dim, config.num_experts
        weight = self._take(f"{key}input.weight", (inner or experts, hidden + config.router_profile_dim))
        bias = output = None
        if inner is not None:
            bias = self._take(f"{key}input.bias", (inner,))
            output = self._take(f"{key}output.weight", (experts, inner)), self._take(f"{key}output.bias", (experts,))
        parts = weight[:, :hidden] if hidden else None, weight[:, hidden:] if config.needs_profile else None
        return Router(*parts, bias, output)

    def _take(self, key: str, shape: tuple[int | None, ...]) -> Tensor:
        if key not in self._left:
            raise AdapterFileError(f"{self._folder}: lacks {key}. Copy the adapter again.")
        tensor = self._left.pop(key)
        fits = tensor.dim() == len(shape) and all(
            want in (None, got) for want, got in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            wanted = ["any" if size is None else size for size in shape]
            raise AdapterFileError(
                f"{self._folder}: {key} is {list(tensor.shape)}, expected {wanted} by its configuration. Copy it again."
            )
        return tensor


def _listed(keys: Iterable[str]) -> str:
    names = sorted(keys)
    return f"{len(names)} tensor(s) ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
