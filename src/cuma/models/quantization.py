"""A frozen base held in four or eight bits (bitsandbytes), on GPUs and CPUs, that gradients pass through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cuma.errors import BackboneError, ConfigError
from cuma.models.hub import package_folder

if TYPE_CHECKING:
    import torch
    from torch import nn

QUANTIZATIONS = ("4bit", "8bit")
"""Names for `quantization`: bitsandbytes' NF4 and LLM.int8."""


def quantization_options(quantization: str | None, dtype: str | torch.dtype) -> dict[str, Any]:
    """What transformers' `from_pretrained` takes to hold weights in fewer bits and compute in `dtype`.

    Raises:
        ConfigError: `quantization` is unknown.
        BackboneError: bitsandbytes is missing.
    """
    if quantization is None:
        return {}
    if quantization not in QUANTIZATIONS:
        raise ConfigError(f"quantization must be one of {', '.join(QUANTIZATIONS)}, or None; got {quantization!r}.")
    if package_folder("bitsandbytes") is None:
        raise BackboneError(f"quantization={quantization!r} needs bitsandbytes: pip install 'cuma[quantized]'.")
    import torch
    from transformers import BitsAndBytesConfig

    compute = getattr(torch, dtype) if isinstance(dtype, str) and dtype != "auto" else dtype
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": compute}
    options = four if quantization == "4bit" else {"load_in_8bit": True}
    return {"quantization_config": BitsAndBytesConfig(**options)}


def stay_differentiable(model: nn.Module) -> None:
    """Keep bitsandbytes from packing 4-bit weights for inference on the first forward in eval mode.

    On CPUs with AVX512-BF16 it would: for good, in bf16, and with a product that no gradient passes through. A model
    that had been measured once, or served, would then train its adapters with part of their gradient missing.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
