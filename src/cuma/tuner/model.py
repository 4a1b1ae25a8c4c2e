"""CumaModel: the tuner that PEFT wraps around a base model, and how it is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cuma.errors import ProfileError, UnsupportedError
from cuma.tuner.adapters import CumaAdapters
from cuma.tuner.config import CumaConfig
from cuma.tuner.context import Conditioning, carry_through_checkpoints, conditioned, current
from cuma.tuner.devices import bring_back
from cuma.tuner.standardise import Standardiser, check_embeds, check_rows


class CumaModel(CumaAdapters):
    """A base model with a mixture of LoRA experts in its target layers, routed by token and person.

    Made by `get_peft_model(base, CumaConfig(…))`. `profile_embeds` [B, D], the raw output of the sentence encoder, is
    a keyword of `forward` and `generate`.
    """

    def _pre_injection_hook(self, model: nn.Module, config: CumaConfig, adapter_name: str) -> None:
        super()._pre_injection_hook(model, config, adapter_name)
        self._record_next = False
        self._recorded: dict[str, Tensor] = {}
        self._noting = model.register_forward_pre_hook(_note_shape, with_kwargs=True)

    def unload(self) -> nn.Module:
        """The base model as it was, without adapters."""
        self._noting.remove()
        return super().unload()

    # ---- calling --------------------------------------------------------------------------------------------------

    def forward(
        self,
        *args: Any,
        profile_embeds: Tensor | None = None,
        profile_rows: Tensor | None = None,
        output_router_logits: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """The base model's forward, each row answered for its own person.

        While training, the output gets `aux_loss`, the load-balancing loss averaged over routers, and its `loss`, if
        there is one, includes router_aux_loss_coef · aux_loss, as in transformers' mixture-of-experts models.

        Args:
            profile_embeds: [B, D] raw output of the profile encoder, one row per sequence; a row of zeros is an empty
                profile. Not needed, and ignored, by semantic routers.
            profile_rows: for packed rows, which hold several people: [B, T], each token's row of `profile_embeds`
                [P, D]; −1 for padding, which counts for nobody.
            output_router_logits: True asks for `aux_loss` outside of training too (TRL's convention).

        Raises:
            ProfileError: profile_embeds are missing, of the wrong size or not finite; profile_rows do not fit them;
                training before `fit_profiles`.
            UnsupportedError: training with return_dict=False, where the load-balancing loss would be lost.
        """
        config = self._active_config()
        if config is None:
            return self.model(*args, **kwargs)
        shape = _shape(args, kwargs)
        call = self._conditioning(config, profile_embeds, None if profile_rows is not None else shape)
        if profile_rows is not None and config.needs_profile:
            check_rows(profile_rows, call.profile)
            call.rows = profile_rows
        call.mask = self._mask(kwargs)
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
        call = self._conditioning(config, profile_embeds, _shape(args, kwargs))
        call.expands = True
        with conditioned(call):
            return self.model.generate(*args, **kwargs)

    def _active_config(self) -> CumaConfig | None:
        """The active adapter's configuration; None if adapters are disabled or none is left."""
        layer = next(self._layers(), None)
        if layer is None or layer.disable_adapters or not self.active_adapters:
            return None
        return self.peft_config[self.active_adapters[0]]

    def _conditioning(
        self, config: CumaConfig, profile_embeds: Tensor | None, shape: tuple[int, ...] | None
    ) -> Conditioning:
        self._undo.clear()  # an adapter that was used is never rolled back
        call = Conditioning(record={} if self._record_next else None)
        if call.record is not None:
            self._recorded = call.record
        if config.needs_profile:
            call.profile = self._standardised(config, profile_embeds, shape[0] if shape else None)
        return call

    def _standardised(self, config: CumaConfig, profile_embeds: Tensor | None, rows: int | None) -> Tensor:
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
        standardiser: Standardiser = self.cuma_profile[self.active_adapters[0]]
        bring_back(standardiser, standardiser.mean, profile_embeds)
        looks = self.model.training and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if looks and not standardiser.fitted:
            raise ProfileError(
                "the adapter's profile statistics are not set. Call model.fit_profiles(encoder(training_profiles)) "
                "once before training."
            )
        return standardiser(profile_embeds.to(standardiser.mean.device))

    def _mask(self, kwargs: dict[str, Any]) -> Tensor | None:
        """[B, T] of the tokens that the layers see; None in an encoder-decoder, whose halves see different ones."""
        if isinstance(self.model, PreTrainedModel) and self.model.config.is_encoder_decoder:
            return None
        return kwargs.get("attention_mask")

    @staticmethod
    def _with_balance_loss(output: Any, call: Conditioning, config: CumaConfig) -> Any:
        balance = call.balance_loss()
        if balance is None:
            return output
        if not isinstance(output, dict):
            if config.router_aux_loss_coef == 0:
                return output
            raise UnsupportedError(
                f"the base model returned a {type(output).__name__}, which has no place for the load-balancing loss: "
                "it would be lost. Leave out return_dict=False, or train with CumaConfig(router_aux_loss_coef=0)."
            )
        if output.get("loss") is not None and torch.is_grad_enabled():
            output["loss"] = output["loss"] + config.router_aux_loss_coef * balance.to(output["loss"].device)
        output["aux_loss"] = balance
        return output

    @contextmanager
    def _enable_peft_forward_hooks(self, *_: Any, **kwargs: Any) -> Iterator[None]:
        """PEFT opens this around every call, and with task_type=None instead of calling `forward`.

        It strips `adapter_names` before it calls us; this is where it can still be seen, and refused.
        """
        if kwargs.get("adapter_names") is not None:
            raise UnsupportedError(
                "per-row adapter_names are not supported. A mixture serves many people in one batch as it is: give "
                "each row its profile_embeds. For different adapters, run one batch for each."
            )
        config = self._active_config()
        if config is None or config.task_type is not None:
            yield
            return
        with conditioned(self._conditioning(config, None, None)):
            yield

    # ---- profiles and routing ---------------------------------------------------------------------------------------

    def fit_profiles(self, embeds: Tensor, adapter_name: str | None = None) -> None:
        """Set the adapter's profile statistics (mean, scale) from the distinct training profiles. Not trained later.

        Args:
            embeds: [N, D] raw output of the profile encoder.
            adapter_name: None: the active adapter.

        Raises:
            ProfileError: no such adapter, or it has a semantic router; wrong width, non-finite, fewer than two
                different profiles.
        """
        name = adapter_name or next(iter(self.active_adapters), None)
        if name is None or name not in self.peft_config:
            raise ProfileError(f"there is no adapter {name!r} to fit. Available: {', '.join(self.peft_config)}.")
        if name not in self.cuma_profile:
            raise ProfileError(f"adapter {name!r} has a semantic router, which reads no profiles: nothing to fit.")
        self._undo.clear()
        standardiser = self.cuma_profile[name]
        bring_back(standardiser, standardiser.mean, embeds)
        standardiser.fit(embeds)

    @contextmanager
    def record_routing(self) -> Iterator[None]:
        """Within this context every forward records its gates; `routing()` returns those of the last one."""
        before, self._record_next = self._record_next, True
        self._recorded = {}  # a forward with adapters disabled must not be answered with an older one's gates
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


def _shape(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...] | None:
    """(B, T) of a call, or (B,), from whichever input it was given; None if it has none of the usual ones."""
    candidates = [kwargs.get(name) for name in ("input_ids", "inputs_embeds", "inputs")]
    for value in [*candidates, *args[:1]]:
        if isinstance(value, Tensor):
            return tuple(value.shape[:2])
    return None


def _note_shape(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Forward pre-hook of the base model: `generate` calls it with other tokens at every step."""
    call, shape = current(), _shape(args, kwargs)
    if call is not None:
        call.shape = (shape[0], shape[1]) if shape is not None and len(shape) == 2 else None
