"""TRL's trainers for mixtures: who asks reaches the routers, and the balance loss is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from trl import SFTConfig, SFTTrainer

from cuma.benchmarks.tensors import SurveyTokens, answer_logits
from cuma.errors import ConfigError, ProfileError, UnsupportedError
from cuma.profile_table import ProfileTable
from cuma.training.batches import PROFILE, SURVEY_COLUMNS, ProfileCollator, SurveyCollator, survey_loss
from cuma.tuner.config import CumaConfig
from cuma.tuner.encoder import ProfileEncoder


class CumaSFTTrainer(SFTTrainer):
    """TRL's SFTTrainer, with TRL's own configuration and datasets, plus a `profile` column.

    Works for any model: with a profile-routed mixture the column becomes profile_embeds; with anything else it is
    ignored. A tokenised survey dataset (`tokenise_cells`) is trained on its whole answer distribution.

    Args:
        model: a PeftModel or a transformers model.
        args: TRL's SFTConfig.
        train_dataset: any form TRL knows with a column `profile` (object, sentence or null), or survey rows.
        profile_encoder: encodes the profiles, each distinct one once.
        profile_table: the embeddings, if they exist already (instead of profile_encoder).

    Raises:
        ConfigError: neither an encoder nor a table is given but the router reads profiles.
        ProfileError: the dataset has no profile column.
        UnsupportedError: packing or padding-free batches, which would mix people in one row.
    """

    def __init__(
        self,
        model: Any,
        args: SFTConfig | None = None,
        *,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        profile_encoder: ProfileEncoder | None = None,
        profile_table: ProfileTable | None = None,
        **kwargs: Any,
    ) -> None:
        args = args or SFTConfig()
        self._mixture = _mixture(model)
        table: ProfileTable | None = None
        if self._mixture is not None and self._mixture.needs_profile:
            _refuse_mixed_rows(args)
            table = profile_table or _table(profile_encoder, train_dataset, eval_dataset)
        survey = train_dataset is not None and set(SURVEY_COLUMNS) <= set(train_dataset.column_names)
        if survey:
            args.dataset_kwargs = {**(args.dataset_kwargs or {}), "skip_prepare_dataset": True}
            kwargs["data_collator"] = SurveyCollator(SurveyTokens(processing_class), table)
        super().__init__(
            model,
            args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        if table is not None and not survey:
            inner: Callable[[list[dict[str, Any]]], dict[str, Any]] = self.data_collator  # type: ignore[has-type]
            self.data_collator = ProfileCollator(inner, table)
        if table is not None and not self._standardiser.fitted:
            self.model.fit_profiles(table(_distinct(train_dataset[PROFILE])))
        self._keep_balance_loss()
        _train_in_fp32(self.model)

    @property
    def _standardiser(self) -> Any:
        return self.model.base_model.cuma_profile[self.model.active_adapter]

    def _keep_balance_loss(self) -> None:
        """TRL's own mixture-of-experts path: it asks for aux_loss, adds it with this weight, and logs it."""
        if self._mixture is not None:
            self.router_aux_loss_coef = self._mixture.router_aux_loss_coef
            self.aux_loss_enabled = self.router_aux_loss_coef > 0

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        for column in (PROFILE, *SURVEY_COLUMNS):
            if column not in self._signature_columns:
                self._signature_columns.append(column)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss, or for survey rows the loss on the people's answers; the balance loss is part of both."""
        if "answer_weights" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        conditioning = {"profile_embeds": inputs["profile_embeds"]} if "profile_embeds" in inputs else {}
        if self.aux_loss_enabled:
            conditioning["output_router_logits"] = True
        logits, outputs = answer_logits(model, inputs, **conditioning)
        loss = survey_loss(logits, inputs["answer_tokens"], inputs["answer_weights"])
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["option_mass"].append(_option_mass(logits, inputs["answer_tokens"]))
        if self.aux_loss_enabled:
            self._metrics[mode]["aux_loss"].append(outputs.aux_loss.item())
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss
        if num_items_in_batch is not None:
            # The loss is a mean over cells; with gradient accumulation Trainer leaves the division to us.
            loss = loss / self.current_gradient_accumulation_steps
        return (loss, outputs) if return_outputs else loss


def _mixture(model: Any) -> CumaConfig | None:
    if not isinstance(model, PeftModel):
        return None
    config = model.active_peft_config
    return config if isinstance(config, CumaConfig) else None


def _refuse_mixed_rows(args: SFTConfig) -> None:
    for option in ("packing", "padding_free"):
        if getattr(args, option):
            raise UnsupportedError(
                f"{option}=True is not supported with a router that reads profiles: one row would hold several people. "
                f"Set {option}=False."
            )


def _table(encoder: ProfileEncoder | None, *datasets: Any) -> ProfileTable:
    if encoder is None:
        raise ConfigError(
            "the adapter's router reads profiles: pass profile_encoder=ProfileEncoder.from_pretrained(…)."
        )
    profiles: list[Any] = []
    for dataset in datasets:
        for part in dataset.values() if isinstance(dataset, dict) else [dataset] if dataset is not None else []:
            if PROFILE not in part.column_names:
                raise ProfileError(
                    f"the dataset has no {PROFILE!r} column. Add one (an object of fields, a sentence, or null for "
                    'nobody in particular), or train with CumaConfig(router_input="semantic").'
                )
            profiles.extend(part[PROFILE])
    return ProfileTable(encoder, profiles)


def _distinct(profiles: Any) -> list[Any]:
    """Each distinct profile once: statistics are over kinds of people, not over how often they were asked."""
    return list({repr(profile): profile for profile in profiles}.values())


def _option_mass(logits: Tensor, answer_tokens: Tensor) -> float:
    probability = logits.detach().softmax(-1).gather(-1, answer_tokens.clamp(min=0))
    return (probability * (answer_tokens >= 0)).sum(-1).mean().item()


def _train_in_fp32(model: torch.nn.Module) -> None:
    """TRL casts adapters to bf16 on 4-bit bases; at small learning rates bf16 AdamW loses most updates."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()
