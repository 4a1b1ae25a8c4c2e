"""The one seam into TRL: who asks reaches the routers, and the balance loss is kept, in every trainer alike."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel, get_peft_model
from transformers import AutoProcessor, set_seed
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl.trainer.utils import get_config_model_id

from cuma.errors import CheckpointError, ConfigError, UnsupportedError
from cuma.models.backbones import BACKBONES, load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.people.profile_table import ProfileTable
from cuma.training.batches import PROFILE, ProfileCollator
from cuma.training.checkpoints import (
    CheckpointPart,
    SealCheckpoints,
    newest_whole,
    require_whole,
    telling_write_errors,
)
from cuma.training.compact_head import compact_head
from cuma.training.finite import FiniteGradients, check_loss
from cuma.training.gate_metrics import GateMeter
from cuma.training.row_people import RowPeople
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
    data_collator: Any
    _signature_columns: list[str] | None
    configuration: type
    """TRL's configuration of the trainer."""
    extra_columns: tuple[str, ...] = (PROFILE,)
    """Columns that TRL would drop."""
    refused: dict[str, str] = MIXES_PEOPLE | PACKED
    never: Mapping[str, str] = MappingProxyType({})
    """Options that are refused whatever the model."""
    checkpoint_parts: Sequence[CheckpointPart] = ()
    """Further state in every checkpoint. Its callbacks are added beside."""
    repeats = 1
    """How often the trainer's collator repeats its rows, block by block."""

    def __init__(
        self,
        model: Any,
        args: Any = None,
        *,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        profile_encoder: ProfileEncoder | None = None,
        profile_table: ProfileTable | None = None,
        **options: Any,
    ) -> None:
        args = args or self.configuration()
        _refuse(args, self.never, "people's data")
        if processing_class is None and not isinstance(model, str):  # TRL loads a name's, of the model's revision
            processing_class = processing_class_of(model)
        model = with_mixture(model, args, options)
        self._people = self._prepare_people(model, args, profile_encoder, profile_table, train_dataset, eval_dataset)
        self._check(model, args, processing_class, train_dataset, options)
        given = {"processing_class": processing_class, "train_dataset": train_dataset, "eval_dataset": eval_dataset}
        super().__init__(model, args=args, **given, **options)  # type: ignore[call-arg]
        self._add_people()
        self._finish()

    def _check(self, model: Any, args: Any, processing_class: Any, dataset: Any, options: dict[str, Any]) -> None:
        """What a trainer looks at, or prepares, before TRL's own construction; `options` are further keywords to it."""

    def _prepare_people(
        self, model: Any, args: Any, encoder: ProfileEncoder | None, table: ProfileTable | None, *datasets: Any
    ) -> RowPeople | None:
        """Before TRL's own construction: check, encode every distinct profile once, fit a fresh adapter's statistics.

        Returns the embeddings of the people in the data; None if the model does not read them.
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
        people = RowPeople(encoder, table, datasets)
        if datasets[0] is not None and not model.base_model.cuma_profile[model.active_adapter].fitted:
            people.fit(model, datasets[0])
        return people

    def _add_people(self) -> None:
        """Let TRL's collator say whose its rows are, once."""
        if self._people is not None and not isinstance(self.data_collator, ProfileCollator):
            self.data_collator = ProfileCollator(self.data_collator, self._people, self.repeats)

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
        for part in self.checkpoint_parts if resume_from_checkpoint else ():
            part.read(Path(str(resume_from_checkpoint)))
            if part.over:
                return None
        with compact_head():
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)  # type: ignore[misc]

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with telling_write_errors(folder):
            super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]
            for part in self.checkpoint_parts if self.state.is_world_process_zero else ():
                part.write(folder)

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


def _refuse(args: Any, options: Mapping[str, str], what: str) -> None:
    for option, reason in options.items():
        if getattr(args, option, False):  # each of TRL's configurations has some of them
            raise UnsupportedError(f"{option}=True is not supported with {what}: {reason}. Set {option}=False.")


def _mixture(model: Any) -> CumaConfig | None:
    if not isinstance(model, PeftModel):
        return None
    config = model.active_peft_config
    return config if isinstance(config, CumaConfig) else None


def processing_class_of(model: Any) -> Any:
    """The tokenizer, or processor, that belongs to a loaded model, as TRL finds it: by the model's name.

    Raises:
        ConfigError: there is none by that name.
    """
    name = get_config_model_id(model.config)
    if name in BACKBONES:
        return load_backbone(name).tokenizer
    try:
        return AutoProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no processing_class was given, and none can be loaded by the model's name, {name!r}. Pass "
            "processing_class=AutoTokenizer.from_pretrained(…)."
        ) from error


def _trained(model: Any) -> list[torch.nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad] if isinstance(model, torch.nn.Module) else []
