"""Products of 16-bit factors, where the processor has them: a study's steps take half the time."""

from __future__ import annotations

import torch

from cuma.answering.materials import Materials


def with_16_bit_products(materials: Materials) -> Materials:
    """The same materials, after telling torch to multiply so; sums stay float32.

    torch's fused attention for CPUs takes five times as long with such products, so the model attends eagerly.
    """
    torch.set_float32_matmul_precision("medium")
    materials.backbone.model.set_attn_implementation("eager")
    return materials
