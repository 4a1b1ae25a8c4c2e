"""The one seam into TRL: who asks reaches the routers, and the balance loss is kept, in every trainer alike."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel, get_peft_model
from transformers import set_seed
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from cuma.errors import CheckpointError, ConfigError, ProfileError, UnsupportedError
from cuma.people.encoder import ProfileEncoder
from cuma.people.profile_table import ProfileTable
from cuma.training.batches import PROFILE
from cuma.training.checkpoints import SealCheckpoints, newest_whole, require_whole, telling_write_errors
from cuma.training.compact_head import compact_head
from cuma.training.finite import FiniteGradients, check_loss
from cuma.training.gate_metrics import GateMeter
from cuma.tuner.config import CumaConfig

REFUSED = {
    "use_vllm": "vLLM knows no routers, and a mixture has no merged form to hand it",
    "use_liger_kernel": "its losses replace the forward that the balance loss comes from",
}
"""Options of TRL's configurations that no mixture can be right under, and why."""
MIXES_PEOPLE = {
    "use_transformers_continuous_batching": "it shares cached prefixes by their tokens alone, so that one person would "
    "be answered with what another's prefix became",
}
"""Refused as well with a router that reads profiles."""
PACKED = {"padding_free": "one row would hold several people"}
"""Refused as well, with such a router, by the trainers that have no collator which says whose each token is."""


class Routed:
    """What the three trainers share. Stands before TRL's trainer in their bases.

    With a mixture whose router reads profiles, the dataset's column `profile` becomes profile_embeds; with anything
    else (a dense adapter, a bare model) the column is ignored.
    """

    model: Any
    args: Any
    state: Any
    add_callback: Any
    _signature_columns: list[str] | None
    extra_columns: tuple[str, ...] = (PROFILE,)
    """Columns that TRL would drop."""
    refused: dict[str, str] = MIXES_PEOPLE | PACKED

    def _prepare_people(
        self, model: Any, args: Any, encoder: ProfileEncoder | None, table: ProfileTable | None, *datasets: Any
    ) -> ProfileTable | None:
        """Before TRL's own construction: check, encode every distinct profile once, fit a fresh adapter's statistics.

        Returns the embeddings of all people in the data; None if the model does not read them.
        """
        _on_one_gpu(args)
        self._came_in = [(p, p.data) for p in _trained(model)]
        self._mixture = _mixture(model)
        self._meter = GateMeter()
        if self._mixture is None:
            return None
        # TRL would refuse its own option for a model that it does not know as a mixture of experts.
        wanted, args.router_aux_loss_coef = args.router_aux_loss_coef, None
        self._balance_weight = self._mixture.router_aux_loss_coef if wanted is None else wanted
        _refuse(args, REFUSED, "a mixture")
        if args.gradient_checkpointing and is_deepspeed_zero3_enabled():
            raise UnsupportedError(
                "DeepSpeed ZeRO-3 with gradient_checkpointing is not supported: TRL forces the reentrant form there, "
                "under which the balance loss has no gradient. Use ZeRO-2 or FSDP2, or gradient_checkpointing=False."
            )
        if not self._mixture.needs_profile:
            return None
        _refuse(args, self.refused, "a router that reads profiles")
        table = table or _table(encoder, *datasets)
        standardiser = model.base_model.cuma_profile[model.active_adapter]
        if not standardiser.fitted:
            model.fit_profiles(table(_distinct(datasets[0][PROFILE])))
        return table

    def _finish(self) -> None:
        """After TRL's own construction: its mixture-of-experts path asks for aux_loss, weights it and logs it."""
        if self._mixture is not None:
            self.router_aux_loss_coef = self._balance_weight
            self.args.router_aux_loss_coef = self._balance_weight
            self.aux_loss_enabled = self._balance_weight > 0
        self.add_callback(FiniteGradients())
        self.add_callback(SealCheckpoints())
        self._train_in_fp32()

    def _train_in_fp32(self) -> None:
        """TRL rounds what is trained to bf16 on quantised bases: a stage would not start at its reference, and bf16
        AdamW loses most small updates."""
        for parameter, before in self._came_in:
            if parameter.dtype != before.dtype:
                parameter.data = before.to(parameter.device)
        for parameter in _trained(self.model):
            if parameter.dtype in (torch.float16, torch.bfloat16):
                parameter.data = parameter.data.float()
        del self._came_in

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """TRL's training. A checkpoint to resume from must be whole; True takes the newest whole one in output_dir.

        Raises:
            CheckpointError: the checkpoint is half written or damaged, or there is no whole one.
            RunError: a checkpoint cannot be written (disk full, no permission); those before it are whole.
            TrainingError: the loss or a gradient is not finite.
        """
        if resume_from_checkpoint is True:
            with PartialState().main_process_first():  # it sets aside what is broken; the others then find the same
                newest = newest_whole(Path(self.args.output_dir))
            if newest is None:
                raise CheckpointError(
                    f"there is no whole checkpoint in {self.args.output_dir}. Leave resume_from_checkpoint out to "
                    "train from the start."
                )
            resume_from_checkpoint = str(newest)
        elif resume_from_checkpoint:
            require_whole(Path(resume_from_checkpoint))
        with compact_head():
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)  # type: ignore[misc]

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with telling_write_errors(folder):
            super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's step; what the routers do in it is counted for the log. Raises TrainingError on a loss that is not
        finite."""
        watched = nullcontext() if self._mixture is None else self._meter.watching(self.model.base_model)
        with watched:
            loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        check_loss(loss, self.state.global_step)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's log, with the routers' figures (of this process) beside the loss."""
        if "loss" in logs:
            logs.update(self._meter.report())
        super().log(logs, start_time)  # type: ignore[misc]

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        assert self._signature_columns is not None
        self._signature_columns += [name for name in self.extra_columns if name not in self._signature_columns]


def with_mixture(model: Any, args: Any, options: dict[str, Any]) -> Any:
    """The model that is trained: with `peft_config=CumaConfig(…)` among the options, the mixture is put on it here.

    TRL would put it on after people and balance loss have been seen to, for a model that has neither.

    Args:
        model: a transformers model or a PeftModel.
        args: TRL's configuration; the fresh weights are drawn from its seed, as TRL draws them.
        options: the trainer's further keywords; what is done here is taken out of them.

    Raises:
        ConfigError: the model is a name, or has an adapter already.
    """
    config = options.get("peft_config")
    if not isinstance(config, CumaConfig):
        return model
    if isinstance(model, str):
        raise ConfigError(
            f"peft_config=CumaConfig(…) needs a loaded model, got the name {model!r}. Load it first: "
            f"model=cuma.load_backbone({model!r}).model."
        )
    if isinstance(model, PeftModel):
        raise ConfigError(
            "the model has an adapter already, and peft_config=CumaConfig(…) asks for another. Leave peft_config out, "
            "or pass the model without its adapter (model.unload())."
        )
    set_seed(args.seed)
    return get_peft_model(model, options.pop("peft_config"))


def _on_one_gpu(args: Any) -> None:
    """Keep transformers from DataParallel, which it takes where one process sees several GPUs: its copies of a layer
    would ask the first GPU's router, and a batch would have as many times the rows that its option says."""
    if args.n_gpu > 1:
        warnings.warn(
            f"One process trains on one GPU, and {args.n_gpu} are here. To use all of them start it with "
            f"torchrun --nproc-per-node {args.n_gpu}.",
            stacklevel=4,
        )
        args._n_gpu = 1


def _refuse(args: Any, options: dict[str, str], what: str) -> None:
    for option, reason in options.items():
        if getattr(args, option, False):  # each of TRL's configurations has some of them
            raise UnsupportedError(f"{option}=True is not supported with {what}: {reason}. Set {option}=False.")


def _mixture(model: Any) -> CumaConfig | None:
    if not isinstance(model, PeftModel):
        return None
    config = model.active_peft_config
    return config if isinstance(config, CumaConfig) else None


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


def _trained(model: Any) -> list[torch.nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad] if isinstance(model, torch.nn.Module) else []
