"""CumaConfig: every option of the method, checked at construction."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, get_args

from peft.config import PeftConfig
from peft.utils import TaskType

from cuma.errors import ConfigError
from cuma.options.mixture import Gating, MixtureOptions, RouterInput
from cuma.tuner import manifest
from cuma.tuner.encoder_spec import ENCODER_KEYS, is_encoder_spec
from cuma.tuner.peft_type import add_peft_type

PROFILE_TASKS = (TaskType.CAUSAL_LM, TaskType.SEQ_CLS)
"""Tasks whose PEFT classes hand keyword arguments on to the tuner, so that `profile_embeds` can reach the routers."""


@dataclass
class CumaConfig(MixtureOptions, PeftConfig):
    """Configuration of a Cultural Mixture of Adapters: `MixtureOptions`, and what PEFT needs beside them.

    Raises:
        ConfigError: a value is not allowed; the text lists what is.
    """

    task_type: TaskType | str | None = field(default=TaskType.CAUSAL_LM)
    """CAUSAL_LM, SEQ_CLS, or, with `router_input="semantic"`, any PEFT task and None (any `nn.Module`)."""
    target_modules: list[str] | str | None = field(default=None)
    """Names, a regex, or "all-linear", as in PEFT. None: PEFT's own LoRA targets for the architecture."""
    exclude_modules: list[str] | str | None = field(default=None)
    """Names or a regex of modules to leave alone, as in PEFT."""
    layers_to_transform: list[int] | int | None = field(default=None)
    """Indices of the layers to adapt, as in PEFT. None: all."""
    layers_pattern: list[str] | str | None = field(default=None)
    """Name of the list of layers if it is not one PEFT knows."""
    modules_to_save: list[str] | None = field(default=None)
    """Modules trained and saved in full beside the adapter (a classifier head)."""
    profile_dim: int = field(default=1024)
    """D, the width of `profile_embeds` (Qwen3-Embedding-0.6B: 1024; all-MiniLM-L6-v2: 384)."""
    init_weights: bool = field(default=True)
    """B starts at zero, so that a fresh adapter changes nothing. False: B is random too (for tests)."""
    profile_encoder: dict[str, Any] | None = field(default=None)
    """Which sentence encoder made the profile embeddings: {"id", "revision", "template"}, and "fields" if it says
    the profile's named fields too; see `ProfileEncoder.spec`."""

    # Set by from_pretrained: the weights that belong to this configuration are still to be loaded.
    _awaits_weights = False

    def __post_init__(self) -> None:
        tasks = _one_of(task.value for task in TaskType)
        _require(self.task_type is None or self.task_type in list(TaskType), "task_type", self.task_type, tasks)
        super().__post_init__()
        self.peft_type = add_peft_type()
        self._check_modules()
        self._check_numbers()
        self._check_choices()

    def _check_modules(self) -> None:
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            known = value is None or isinstance(value, str) or _are_names(value)
            _require(known, name, value, "None, a list of names, or a regex")
            setattr(self, name, set(value) if isinstance(value, list | tuple) else value)
        value = self.modules_to_save
        _require(value is None or _are_names(value), "modules_to_save", value, "None or a list of names")
        if self.layers_pattern is not None and self.layers_to_transform is None:
            raise ConfigError("CumaConfig: layers_pattern is set without layers_to_transform. Set both, or neither.")
        if self.layers_to_transform is not None and isinstance(self.target_modules, str):
            raise ConfigError(
                "CumaConfig: layers_to_transform needs target_modules as a list of names; got "
                f"{self.target_modules!r}. Name the modules in a list, or put the layers into the regex."
            )

    def _check_numbers(self) -> None:
        for name in ("r", "num_experts", "top_k", "profile_dim"):
            _require(_is_count(getattr(self, name)), name, getattr(self, name), "a whole number of at least 1")
        for name in ("router_hidden_dim", "profile_projection_dim"):
            value = getattr(self, name)
            _require(value is None or _is_count(value), name, value, "None or a whole number of at least 1")
        top_k_range = f"1 to num_experts ({self.num_experts})"
        _require(self.top_k <= self.num_experts, "top_k", self.top_k, top_k_range)
        alpha, dropout, coef = self.lora_alpha, self.lora_dropout, self.router_aux_loss_coef
        _require(_is_number(alpha) and alpha > 0, "lora_alpha", alpha, "a number above 0")
        _require(_is_number(dropout) and 0 <= dropout < 1, "lora_dropout", dropout, "at least 0 and below 1")
        _require(_is_number(coef) and coef >= 0, "router_aux_loss_coef", coef, "a number of at least 0")
        scale = self.profile_scale
        _require(scale is None or (_is_number(scale) and scale > 0), "profile_scale", scale, "None or a number above 0")

    def _check_choices(self) -> None:
        for name, allowed in (("router_input", get_args(RouterInput)), ("gating", get_args(Gating))):
            _require(getattr(self, name) in allowed, name, getattr(self, name), _one_of(allowed))
        for name in ("share_a", "share_router", "init_weights", "profile_in_experts"):
            _require(isinstance(getattr(self, name), bool), name, getattr(self, name), "True or False")
        if self.profile_in_experts and not self.needs_profile:
            raise ConfigError(
                'CumaConfig: profile_in_experts=True with router_input="semantic", which reads no profile. Set '
                'router_input="profile" or "joint".'
            )
        if self.needs_profile and self.task_type not in PROFILE_TASKS:
            raise ConfigError(
                f"CumaConfig: router_input={self.router_input!r} needs a task type that hands the profile on: "
                f"{_one_of(task.value for task in PROFILE_TASKS)}; got task_type={self.task_type!r}. "
                'For other tasks, and for any nn.Module with task_type=None, use router_input="semantic".'
            )
        encoder = self.profile_encoder
        known = encoder is None or is_encoder_spec(encoder)
        _require(
            known, "profile_encoder", encoder, f"None or a dict with the keys {', '.join(map(repr, ENCODER_KEYS))}"
        )

    @property
    def needs_profile(self) -> bool:
        """True if the router reads the person: the model then has to be called with `profile_embeds`."""
        return self.router_input != "semantic"

    @property
    def router_profile_dim(self) -> int:
        """Width of the profile as the router sees it: after the projection; 0 for a semantic router."""
        if not self.needs_profile:
            return 0
        return self.profile_projection_dim or self.profile_dim

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Save the configuration, then the manifest: PEFT calls this last, when the weights lie there already.

        Raises:
            UnsupportedError: the weights were saved as a pickle (`safe_serialization=False`).
        """
        manifest.refuse_pickle(save_directory)
        super().save_pretrained(save_directory, **kwargs)
        manifest.write(save_directory)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, subfolder: str | None = None, **kwargs: Any
    ) -> CumaConfig:
        """Load the configuration and verify the folder's files against their manifest.

        Raises:
            AdapterError: a file is damaged or missing, or the weights are a pickle.
        """
        manifest.verify(pretrained_model_name_or_path, subfolder, **kwargs)
        config = super().from_pretrained(pretrained_model_name_or_path, subfolder=subfolder, **kwargs)
        config._awaits_weights = True
        return config

    def take_awaits_weights(self) -> bool:
        """True once after `from_pretrained`: a load that fails then takes the whole adapter out again."""
        awaits, self._awaits_weights = self._awaits_weights, False
        return awaits


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, list | tuple | set) and all(isinstance(name, str) for name in value)


def _one_of(allowed: Iterable[Any]) -> str:
    return "one of " + ", ".join(repr(value) for value in allowed)


def _require(ok: bool, name: str, got: Any, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"CumaConfig: {name} is {got!r}; allowed: {allowed}.")
