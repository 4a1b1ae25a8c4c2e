"""CumaModel: the tuner that PEFT wraps around a base model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn

from cuma.errors import ProfileError, UnsupportedError
from cuma.tuner import state
from cuma.tuner.config import CumaConfig
from cuma.tuner.context import Conditioning, carry_through_checkpoints, conditioned
from cuma.tuner.layer import CumaLinear, refuse_merge
from cuma.tuner.standardise import Standardiser, check_embeds

SAME_INPUT = (
    frozenset({"q_proj", "k_proj", "v_proj"}),
    frozenset({"query", "key", "value"}),
    frozenset({"q", "k", "v"}),
    frozenset({"q_lin", "k_lin", "v_lin"}),
    frozenset({"gate_proj", "up_proj"}),
    frozenset({"w1", "w3"}),
    frozenset({"wi_0", "wi_1"}),
)
"""Names of sibling layers that read the same input, and so share a router if share_router is on."""


class CumaModel(BaseTuner):
    """A base model with a mixture of LoRA experts in its target layers, routed by token and person.

    Made by `get_peft_model(base, CumaConfig(…))`. `profile_embeds` [B, D], the raw output of the sentence encoder, is
    a keyword of `forward` and `generate`.
    """

    prefix: str = "cuma_"
    tuner_layer_cls = CumaLinear
    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    uses_shared_state: bool = True

    def _pre_injection_hook(self, model: nn.Module, config: CumaConfig, adapter_name: str) -> None:
        self.cuma_profile = nn.ModuleDict()
        self._record_next = False
        self._recorded: dict[str, Tensor] = {}
        self.register_load_state_dict_pre_hook(state.check_loaded)

    # ---- building -------------------------------------------------------------------------------------------------

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Put an adapter into the target layers, and its profile statistics beside them (PEFT calls this)."""
        self._router_owners: dict[tuple[str, str], CumaLinear] = {}
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        config: CumaConfig = self.peft_config[adapter_name]
        if config.needs_profile:
            first = next(layer for layer in self._layers() if adapter_name in layer.cuma_experts)
            device = first.cuma_experts[adapter_name].lora_B.device
            self.cuma_profile[adapter_name] = Standardiser(first.in_features, config, device)
            trainable = adapter_name in self.active_adapters and not config.inference_mode
            self._set_projection_grad([adapter_name], trainable)

    def _create_and_replace(
        self,
        peft_config: CumaConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        self._refuse_head(target, current_key)
        layer = target if isinstance(target, CumaLinear) else CumaLinear(target, adapter_name)
        owner = self._router_owner(peft_config, layer, target_name, current_key)
        layer.update_layer(adapter_name, peft_config, owner, current_key, inference_mode=peft_config.inference_mode)
        if layer is not target:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)

    def _router_owner(
        self, config: CumaConfig, layer: CumaLinear, target_name: str, current_key: str
    ) -> CumaLinear | None:
        """The earlier layer with the same input whose router this layer shares; None if it gets its own."""
        group = next((names for names in SAME_INPUT if target_name in names), None)
        if not config.share_router or group is None:
            return None
        key = (current_key.rpartition(".")[0], min(group))
        owner = self._router_owners.setdefault(key, layer)
        return None if owner is layer or owner.in_features != layer.in_features else owner

    def _refuse_head(self, target: nn.Module, name: str) -> None:
        head = self.model.get_output_embeddings() if hasattr(self.model, "get_output_embeddings") else None
        if head is not None and target is head:
            raise UnsupportedError(
                f"an adapter on the output head ({name!r}) is not supported: trainers read its weight directly, so it "
                f"would never be trained. Take {name.rpartition('.')[2]!r} out of target_modules, or put it into "
                "exclude_modules."
            )

    def _layers(self) -> Iterator[CumaLinear]:
        return (module for module in self.model.modules() if isinstance(module, CumaLinear))

    # ---- calling --------------------------------------------------------------------------------------------------

    def forward(
        self,
        *args: Any,
        profile_embeds: Tensor | None = None,
        output_router_logits: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """The base model's forward, each row answered for its own person.

        While training, the output gets `aux_loss`, the load-balancing loss averaged over routers, and its `loss`, if
        there is one, includes router_aux_loss_coef · aux_loss, as in transformers' mixture-of-experts models.

        Args:
            profile_embeds: [B, D] raw output of the profile encoder, one row per sequence; a row of zeros is an empty
                profile. Not needed, and ignored, by semantic routers.
            output_router_logits: True asks for `aux_loss` outside of training too (TRL's convention).

        Raises:
            ProfileError: profile_embeds are missing, of the wrong size or not finite; training before `fit_profiles`.
        """
        config = self._active_config()
        if config is None:
            return self.model(*args, **kwargs)
        rows = _rows(args, kwargs)
        call = self._conditioning(config, profile_embeds, rows)
        call.mask = kwargs.get("attention_mask")
        call.balanced = self.model.training or bool(output_router_logits)
        if self.model.training:
            carry_through_checkpoints(self.model)
        with conditioned(call):
            output = self.model(*args, **kwargs)
        call.closed = True
        return self._with_balance_loss(output, call, config)

    def generate(self, *args: Any, profile_embeds: Tensor | None = None, **kwargs: Any) -> Any:
        """The base model's generate; rows repeated for beams or num_return_sequences keep their person.

        Args:
            profile_embeds: [B, D], one row per prompt, as in `forward`.

        Raises:
            ProfileError: as in `forward`.
        """
        config = self._active_config()
        if config is None:
            return self.model.generate(*args, **kwargs)
        call = self._conditioning(config, profile_embeds, _rows(args, kwargs))
        call.expands = True
        with conditioned(call):
            return self.model.generate(*args, **kwargs)

    def _active_config(self) -> CumaConfig | None:
        """The active adapter's configuration; None if adapters are disabled or none is left."""
        layer = next(self._layers(), None)
        if layer is None or layer.disable_adapters or not self.active_adapters:
            return None
        return self.peft_config[self.active_adapters[0]]

    def _conditioning(self, config: CumaConfig, profile_embeds: Tensor | None, rows: int | None) -> Conditioning:
        call = Conditioning(record={} if self._record_next else None)
        if call.record is not None:
            self._recorded = call.record
        if not config.needs_profile:
            return call
        if profile_embeds is None:
            raise ProfileError(
                f"profile_embeds is missing: the adapter's router (router_input={config.router_input!r}) reads who "
                "asks. Pass profile_embeds=encoder(profiles), one row per sequence; an empty profile is legal."
            )
        check_embeds(profile_embeds, config.profile_dim)
        if rows is not None and rows != profile_embeds.shape[0]:
            raise ProfileError(
                f"profile_embeds has {profile_embeds.shape[0]} rows but the batch has {rows}. Give one row per "
                "sequence, in the same order."
            )
        standardiser = self.cuma_profile[self.active_adapters[0]]
        if self.model.training and torch.is_grad_enabled() and not standardiser.fitted:
            raise ProfileError(
                "the adapter's profile statistics are not set. Call model.fit_profiles(encoder(training_profiles)) "
                "once before training."
            )
        call.profile = standardiser(profile_embeds.to(standardiser.mean.device))
        return call

    @staticmethod
    def _with_balance_loss(output: Any, call: Conditioning, config: CumaConfig) -> Any:
        balance = call.balance_loss()
        if balance is None or not hasattr(output, "keys"):
            return output
        if output.get("loss") is not None and call.balanced and torch.is_grad_enabled():
            output["loss"] = output["loss"] + config.router_aux_loss_coef * balance.to(output["loss"].device)
        output["aux_loss"] = balance
        return output

    @contextmanager
    def _enable_peft_forward_hooks(self, *_: Any, **kwargs: Any) -> Iterator[None]:
        """PEFT strips `adapter_names` before it calls us; this is where it can still be seen, and refused."""
        if kwargs.get("adapter_names") is not None:
            raise UnsupportedError(
                "per-row adapter_names are not supported. A mixture serves many people in one batch as it is: give each "
                "row its profile_embeds. For different adapters, run one batch for each."
            )
        yield

    # ---- profiles and routing ---------------------------------------------------------------------------------------

    def fit_profiles(self, embeds: Tensor, adapter_name: str | None = None) -> None:
        """Set the adapter's profile statistics (mean, scale) from the distinct training profiles. Not trained later.

        Args:
            embeds: [N, D] raw output of the profile encoder.
            adapter_name: None: the active adapter.

        Raises:
            ProfileError: wrong width, non-finite, fewer than two different profiles, or a semantic router.
        """
        name = adapter_name or self.active_adapters[0]
        if name not in self.cuma_profile:
            raise ProfileError(f"adapter {name!r} has a semantic router, which reads no profiles: nothing to fit.")
        self.cuma_profile[name].fit(embeds)

    @contextmanager
    def record_routing(self) -> Iterator[None]:
        """Within this context every forward records its gates; `routing()` returns those of the last one."""
        before, self._record_next = self._record_next, True
        try:
            yield
        finally:
            self._record_next = before

    def routing(self) -> dict[str, Tensor]:
        """Gates [B, T, E] of the last recorded forward, by name of the layer that owns the router.

        Raises:
            UnsupportedError: nothing was recorded.
        """
        if not self._recorded:
            raise UnsupportedError("no routing was recorded: run a forward inside `with model.record_routing():`.")
        return dict(self._recorded)

    # ---- PEFT's adapter management ----------------------------------------------------------------------------------

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Make one adapter the active one.

        Raises:
            UnsupportedError: several adapters were given.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        if len(names) > 1:
            raise UnsupportedError(
                f"several active adapters are not supported, got {len(names)}: each has a router of its own. Activate "
                "one; to serve several kinds of people at once, train one mixture on all of them."
            )
        super().set_adapter(adapter_name, inference_mode=inference_mode)
        self._set_projection_grad(list(self.cuma_profile), False)
        self._set_projection_grad(names, not inference_mode)

    def set_requires_grad(self, adapter_names: str | Sequence[str], requires_grad: bool = True) -> None:
        """Freeze or unfreeze adapters; the profile statistics stay frozen."""
        super().set_requires_grad(adapter_names, requires_grad)
        self._set_projection_grad([adapter_names] if isinstance(adapter_names, str) else adapter_names, requires_grad)

    def _enable_adapter_layers(self, enabled: bool = True) -> None:
        super()._enable_adapter_layers(enabled)
        self._set_projection_grad(self.active_adapters, enabled)

    def _set_projection_grad(self, adapter_names: Sequence[str], requires_grad: bool) -> None:
        for name in adapter_names:
            if name in self.cuma_profile and self.cuma_profile[name].projection is not None:
                self.cuma_profile[name].projection.requires_grad_(requires_grad)

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter with its routers and statistics."""
        super().delete_adapter(adapter_name)
        if adapter_name in self.cuma_profile:
            del self.cuma_profile[adapter_name]

    def add_weighted_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Always raises: routers cannot be averaged."""
        raise UnsupportedError(
            "add_weighted_adapter is not supported: mixtures with different routers have no weighted sum. `cuma export` "
            "writes a person's adapter as an ordinary LoRA, and LoRAs can be combined."
        )

    def _check_merge_allowed(self) -> None:
        refuse_merge()

    def unmerge_adapter(self) -> None:
        """Always raises: a mixture is never merged."""
        refuse_merge()

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        return state.without_adapter_name(key, adapter_name)


def _rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """B of the call, from whichever input it was given; None if it has none of the usual ones."""
    candidates = [kwargs.get(name) for name in ("input_ids", "inputs_embeds", "inputs")]
    for value in [*candidates, *args[:1]]:
        if isinstance(value, Tensor):
            return value.shape[0]
    return None
