"""Whatever was trained, as files and on the backbone: saved whole, loaded strictly, and taken off again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from peft.utils.other import ModulesToSaveWrapper
from safetensors.torch import load_file

from cuma.errors import AdapterError
from cuma.models.backbones import BACKBONES
from cuma.tuner import manifest
from cuma.tuner.config import CumaConfig


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Save the adapter "default" (not TRL's reference) with the SHA-256 sums of its files."""
    model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)
    manifest.write(folder)


def load_adapter(base: Any, folder: Path, *, is_trainable: bool = False, needs_sums: bool = True) -> PeftModel:
    """The backbone with the adapter that `save_adapter` wrote, or with somebody else's.

    PEFT itself loads with strict=False. A mixture checks itself (`cuma.tuner.state`); any other method is checked here.

    Args:
        base: the backbone.
        folder: the adapter's.
        is_trainable: whether it is to be trained on.
        needs_sums: it must have a manifest; without one an adapter of ours is not whole. False, for what PEFT or TRL
            may have written: where there is one, it is checked.

    Raises:
        AdapterError: a file differs from its sum, or the tensors are not exactly those of the method, or not finite.
    """
    if needs_sums or (folder / manifest.MANIFEST_NAME).is_file():
        manifest.verify_sums(folder)
    if not (folder / SAFETENSORS_WEIGHTS_NAME).is_file():
        raise AdapterError(f"{folder} has no {SAFETENSORS_WEIGHTS_NAME}. Pickled weights are refused; save it anew.")
    config = PeftConfig.from_pretrained(str(folder))
    if isinstance(config, CumaConfig):
        return PeftModel.from_pretrained(base, str(folder), is_trainable=is_trainable)
    config.inference_mode = not is_trainable
    if _model_of(config.base_model_name_or_path) == _model_of(base.name_or_path):  # else PEFT warns of another base
        config.base_model_name_or_path = base.name_or_path
    model = get_peft_model(base, config)
    given = load_file(folder / SAFETENSORS_WEIGHTS_NAME)
    try:
        _check_tensors(model, given, folder)
    except AdapterError:
        take_off(model)
        raise
    set_peft_model_state_dict(model, given)
    return model


def _model_of(name: str | None) -> str:
    """One name for a model that has several: a packaged one its Hub id, a folder its whole path."""
    if name in BACKBONES:
        return BACKBONES[name].hub_id or name
    return str(Path(name).resolve()) if name and Path(name).is_dir() else name or ""


def _check_tensors(model: PeftModel, given: dict[str, torch.Tensor], folder: Path) -> None:
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    wrong = sorted(
        key
        for key in given.keys() | expected.keys()
        if key not in given or key not in expected or given[key].shape != expected[key].shape
    )
    if wrong:
        raise AdapterError(f"{folder}: {len(wrong)} tensor(s) are missing, unknown or misshapen ({wrong[0]}, …).")
    broken = sorted(key for key, tensor in given.items() if not torch.isfinite(tensor).all())
    if broken:
        raise AdapterError(f"{folder}: {len(broken)} tensor(s) hold NaN or infinite values ({broken[0]}, …).")


def take_off(model: PeftModel) -> Any:
    """The very backbone again, as it was before anything was put on it, in eval mode."""
    base = model.get_base_model()
    wrapped = [(name, part) for name, part in base.named_modules() if isinstance(part, ModulesToSaveWrapper)]
    for name, part in wrapped:  # PEFT's unload would leave the trained copy in place
        base.set_submodule(name, part.original_module)
    if not model.active_peft_config.is_prompt_learning:  # a prefix never was a part of the backbone
        model.unload()
    return base.eval()


@contextmanager
def taken_off_after(model: Any) -> Iterator[Any]:
    """The model within the context; afterwards its adapter, if it has one, is off the backbone again."""
    try:
        yield model
    finally:
        if isinstance(model, PeftModel):
            take_off(model)


def whole_modules(base: Any, last_layers: int | None) -> list[str]:
    """Names of the modules that full fine-tuning copies and trains: the last decoder layers, or all that has weights.

    PEFT's modules_to_save trains copies, so the backbone that runs share stays untouched, the preference stages find
    their reference, and files are like any adapter's.
    """
    decoder = base.get_decoder()
    prefix = next(name for name, module in base.named_modules() if module is decoder)
    layers = [f"{prefix}.layers.{place}" for place in range(len(decoder.layers))]
    if last_layers is not None:
        return layers[-last_layers:]
    others = [name for name, child in decoder.named_children() if name != "layers" and list(child.parameters())]
    head = base.get_output_embeddings()
    tied = head is None or head.weight is base.get_input_embeddings().weight  # PEFT then takes the head along
    heads = [] if tied else [name for name, module in base.named_modules() if module is head]
    return [*(f"{prefix}.{name}" for name in others), *layers, *heads]
