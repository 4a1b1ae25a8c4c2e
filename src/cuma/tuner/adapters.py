"""Putting adapters into a model, switching between them, and taking them out again: PEFT's side of the tuner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from peft.tuners.tuners_utils import BaseTuner, delete_adapter
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn
from transformers import PreTrainedModel

from cuma.errors import AdapterError, UnsupportedError
from cuma.tuner import state
from cuma.tuner.config import CumaConfig
from cuma.tuner.devices import fetch, refuse_absent_weights
from cuma.tuner.layer import CumaLinear, refuse_merge
from cuma.tuner.layouts import refuse_other_products, refuse_unknown_tokens
from cuma.tuner.standardise import Standardiser

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


class AdapterConfigs(dict[str, CumaConfig]):
    """The configurations by adapter name. PEFT asks this before it activates an adapter, so it refuses a list here."""

    def __contains__(self, name: object) -> bool:
        if isinstance(name, list):
            refuse_several(name)
        return super().__contains__(name)


class CumaAdapters(BaseTuner):
    """What PEFT asks of a tuner, apart from running it (that is `CumaModel`).

    An injection or a load that fails leaves the model as it was.
    """

    prefix: str = "cuma_"
    tuner_layer_cls = CumaLinear
    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    uses_shared_state: bool = True

    def _pre_injection_hook(self, model: nn.Module, config: CumaConfig, adapter_name: str) -> None:
        self.peft_config: dict[str, CumaConfig] = AdapterConfigs({adapter_name: config})
        self.cuma_profile = nn.ModuleDict()
        self._undo: dict[str, Callable[[], None]] = {}
        self._router_owners: dict[tuple[str, str], CumaLinear] = {}
        self.register_load_state_dict_pre_hook(_check_load)

    # ---- putting in -----------------------------------------------------------------------------------------------

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Put an adapter into the target layers, and its profile statistics beside them (PEFT calls this)."""
        config: CumaConfig = self.peft_config[adapter_name]
        refuse_absent_weights(model)
        undo = self._undo_of(adapter_name)
        self._router_owners = {}
        trainable = [name for name in self.cuma_profile if self._projects(name, trainable=True)]
        try:
            super().inject_adapter(model, adapter_name, *args, **kwargs)
            self._add_statistics(adapter_name)
        except Exception:
            undo()
            raise
        # PEFT restores what its set_adapter did to the other adapters' layers, but knows nothing of projections.
        self._set_projection_grad(list(self.cuma_profile), False)
        active = adapter_name in self.active_adapters and not config.inference_mode
        self._set_projection_grad([*trainable, adapter_name] if active else trainable, True)
        if config.take_awaits_weights():
            self._undo[adapter_name] = undo

    def _add_statistics(self, adapter_name: str) -> None:
        config: CumaConfig = self.peft_config[adapter_name]
        if config.needs_profile:
            first = next(layer for layer in self._layers() if adapter_name in layer.cuma_experts)
            device = first.cuma_experts[adapter_name].lora_B.device
            self.cuma_profile[adapter_name] = Standardiser(first.in_features, config, device)

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
        if peft_config.needs_profile or peft_config.router_aux_loss_coef:
            refuse_unknown_tokens(self.model, current_key)
        if not isinstance(target, CumaLinear):
            refuse_other_products(target, current_key)
        layer = target if isinstance(target, CumaLinear) else CumaLinear(target, adapter_name)
        owner = self._router_owner(peft_config, layer, target_name, current_key)
        layer.update_layer(adapter_name, peft_config, owner, current_key, inference_mode=peft_config.inference_mode)
        if layer is not target:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        """Without PEFT's look at `child.weight`: the base layer is a black box, and ours is made on its device."""
        setattr(parent, child_name, new_module)

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
        head = self.model.get_output_embeddings() if isinstance(self.model, PreTrainedModel) else None
        if head is not None and target is head:
            raise UnsupportedError(
                f"an adapter on the output head ({name!r}) is not supported: trainers read its weight directly, so it "
                f"would never be trained. Take {name.rpartition('.')[2]!r} out of target_modules, or put it into "
                "exclude_modules."
            )

    def _layers(self) -> Iterator[CumaLinear]:
        return (module for module in self.model.modules() if isinstance(module, CumaLinear))

    # ---- taking out -----------------------------------------------------------------------------------------------

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter with its routers and statistics."""
        was_active = adapter_name in self.active_adapters
        super().delete_adapter(adapter_name)
        self._forget(adapter_name)
        if was_active:
            self._set_projection_grad(self.active_adapters, True)

    def _undo_of(self, adapter_name: str) -> Callable[[], None]:
        """What takes an adapter that is now going to be put in out again, whole or half, and restores requires_grad."""
        before = [(parameter, parameter.requires_grad) for parameter in self.parameters()]

        def undo() -> None:
            delete_adapter(self.model, adapter_name, prefix=self.prefix, layer_cls=CumaLinear)
            self._forget(adapter_name)
            self.peft_config.pop(adapter_name, None)
            if not self.peft_config:
                self.unload()
            for name, layer in list(self.model.named_modules()):
                if isinstance(layer, CumaLinear) and not layer.cuma_experts:
                    parent, _, child = name.rpartition(".")
                    setattr(self.model.get_submodule(parent), child, layer.base_layer)
            for parameter, requires_grad in before:
                parameter.requires_grad_(requires_grad)

        return undo

    def _forget(self, adapter_name: str) -> None:
        self._undo.pop(adapter_name, None)
        if adapter_name in self.cuma_profile:
            del self.cuma_profile[adapter_name]

    # ---- switching ------------------------------------------------------------------------------------------------

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Make one adapter the active one.

        Raises:
            UnsupportedError: several adapters were given.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        if len(names) > 1:
            refuse_several(names)
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
            if self._projects(name):
                self.cuma_profile[name].projection.requires_grad_(requires_grad)

    def _projects(self, adapter_name: str, trainable: bool = False) -> bool:
        """True if the adapter has a projection (and, if asked, a trainable one)."""
        projection = self.cuma_profile[adapter_name].projection if adapter_name in self.cuma_profile else None
        return projection is not None and (projection.weight.requires_grad or not trainable)

    # ---- files ----------------------------------------------------------------------------------------------------

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        return state.without_adapter_name(key, adapter_name)

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: CumaConfig,
        adapter_name: str,
        state_dict: dict[str, Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Tensor]:
        """The adapter's tensors, also those that PEFT's filter lost.

        PEFT drops every key that contains another adapter's name between dots, so an adapter called "q_proj" would
        cost all others their q_proj layers.
        """
        for name, module in model.named_modules():
            if state.adapter_of(f"{name}.") == adapter_name:
                fetch(module)
        own = state.adapter_tensors(model)
        wanted = [key for key in own if state.adapter_of(key) == adapter_name]
        given = {key: tensor for key, tensor in state_dict.items() if not tensor.is_meta}
        return {key: given.get(key, own[key].detach()) for key in wanted}

    # ---- what a mixture cannot do -----------------------------------------------------------------------------------

    def add_weighted_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Always raises: routers cannot be averaged."""
        raise UnsupportedError(
            "add_weighted_adapter is not supported: mixtures with different routers have no weighted sum. "
            "`cuma export` writes a person's adapter as an ordinary LoRA, and LoRAs can be combined."
        )

    def _check_merge_allowed(self) -> None:
        refuse_merge()

    def unmerge_adapter(self) -> None:
        """Always raises: a mixture is never merged."""
        refuse_merge()


def refuse_several(names: Sequence[str]) -> None:
    """Raise the error of everything that would activate several adapters."""
    raise UnsupportedError(
        f"several active adapters are not supported, got {len(names)}: each has a router of its own. Activate one, "
        'set_adapter("name"); to serve several kinds of people at once, train one mixture on all of them.'
    )


def _check_load(tuner: CumaAdapters, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Load pre-hook: refuse a damaged adapter, and take it out again if it was only put in to be loaded."""
    try:
        loaded = state.check_loaded(tuner, state_dict, prefix)
    except AdapterError:
        for undo in list(tuner._undo.values()):
            undo()
        raise
    for name in loaded:
        tuner._undo.pop(name, None)
