"""The options of an adapter, as far as they matter to whoever only runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuma_vllm.errors import AdapterFileError
from cuma_vllm.manifest import CONFIG

KNOWN = frozenset(
    {"auto_mapping", "base_model_name_or_path", "exclude_modules", "gating", "inference_mode", "init_weights",
     "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "modules_to_save", "num_experts",
     "peft_type", "peft_version", "profile_dim", "profile_encoder", "profile_in_experts", "profile_projection_dim",
     "profile_scale", "r", "revision", "router_aux_loss_coef", "router_hidden_dim", "router_input", "share_a",
     "share_router", "target_modules", "task_type", "top_k"}
)  # fmt: skip
"""Every field of the configuration that cuma and PEFT write. One that is not here may change what an adapter computes,
so it is refused."""
ROUTER_INPUTS = ("joint", "profile", "semantic")
GATINGS = ("paper", "released")


@dataclass(frozen=True)
class MixtureConfig:
    """What an adapter computes; the words are `cuma.CumaConfig`'s."""

    r: int
    lora_alpha: float
    num_experts: int
    top_k: int
    router_input: str
    gating: str
    share_a: bool
    share_router: bool
    profile_in_experts: bool
    router_hidden_dim: int | None
    profile_dim: int
    profile_projection_dim: int | None
    base_model: str
    """Name of the base model that the adapter was trained on."""

    @property
    def scaling(self) -> float:
        """What the experts' sum is multiplied by."""
        return self.lora_alpha / self.r

    @property
    def needs_profile(self) -> bool:
        """False for a semantic router: then a request says nothing about who asks."""
        return self.router_input != "semantic"

    @property
    def router_profile_dim(self) -> int:
        """D', the width of the profile as routers see it: after the projection; 0 for a semantic router."""
        if not self.needs_profile:
            return 0
        return self.profile_projection_dim or self.profile_dim

    @classmethod
    def read(cls, folder: Path) -> MixtureConfig:
        """From an adapter's folder. Raises AdapterFileError."""
        try:
            fields = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        except ValueError as error:
            raise AdapterFileError(f"{folder / CONFIG} is not valid JSON. Copy the adapter again.") from error
        if not isinstance(fields, dict) or fields.get("peft_type") != "CUMA":
            method = fields.get("peft_type") if isinstance(fields, dict) else None
            raise AdapterFileError(
                f"{folder} holds an adapter of the method {method!r}; this plug-in serves CUMA's mixtures. Serve "
                "ordinary LoRAs with vLLM's own --enable-lora."
            )
        _refuse_unknown(folder, fields)
        return cls(**_checked(folder, fields))


def _refuse_unknown(folder: Path, fields: Mapping[str, Any]) -> None:
    unknown = sorted(set(fields) - KNOWN)
    if unknown:
        raise AdapterFileError(
            f"{folder / CONFIG} has the fields {', '.join(unknown[:5])}, which this version does not know: they may "
            "change what the adapter computes. Install a newer cuma-vllm."
        )
    if fields.get("modules_to_save"):
        raise AdapterFileError(
            f"{folder} also holds whole trained modules ({', '.join(map(str, fields['modules_to_save'][:3]))}), which "
            "this plug-in does not put into vLLM's model. Serve it with `cuma serve`."
        )
    if fields.get("task_type") != "CAUSAL_LM":
        raise AdapterFileError(f"{folder} was trained for {fields.get('task_type')!r}; served are causal LMs only.")


def _checked(folder: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `MixtureConfig`, each of its kind and within its range."""
    found = {
        **{name: _of(folder, fields, name, int, 1) for name in ("r", "num_experts", "top_k", "profile_dim")},
        **{name: _of(folder, fields, name, bool) for name in ("share_a", "share_router", "profile_in_experts")},
        "lora_alpha": float(_of(folder, fields, "lora_alpha", (int, float), 0)),
        "router_input": _one_of(folder, fields, "router_input", ROUTER_INPUTS),
        "gating": _one_of(folder, fields, "gating", GATINGS),
        "base_model": str(fields.get("base_model_name_or_path") or ""),
    }
    for name in ("router_hidden_dim", "profile_projection_dim"):
        found[name] = None if fields.get(name) is None else _of(folder, fields, name, int, 1)
    if found["top_k"] > found["num_experts"]:
        raise _wrong(folder, "top_k", f"at most num_experts ({found['num_experts']})")
    return found


def _of(folder: Path, fields: Mapping[str, Any], name: str, kind: Any, least: float | None = None) -> Any:
    value = fields.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(folder, name, "true or false" if kind is bool else "a number")
    if least is not None and not least <= value < float("inf"):
        raise _wrong(folder, name, f"at least {least}")
    return value


def _one_of(folder: Path, fields: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    if fields.get(name) not in allowed:
        raise _wrong(folder, name, f"one of {', '.join(allowed)}")
    return str(fields[name])


def _wrong(folder: Path, name: str, expected: str) -> AdapterFileError:
    return AdapterFileError(f"{folder / CONFIG}: {name} is missing or wrong; expected {expected}. Copy it again.")
