"""Before anything is timed: do those who should compute the same do so?"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

EXACT = 1e-4
"""Sums of thousands of fp32 terms in another order."""
KINKED = 1e-2
"""With a router, or in bf16. A ReLU or a top-k within rounding of a tie falls the other way for one token in many
thousands; what it changed was measured at 0.15 %. Without such a tie, the whole model agrees to 0.001 %."""


def assert_same(ours: Sequence[Tensor], theirs: Sequence[Tensor], tolerance: float, where: str) -> None:
    """Each of our tensors differs from theirs by at most `tolerance` of its length (Euclidean)."""
    for mine, other in zip(ours, theirs, strict=True):
        difference = (mine.float() - other.float()).norm()
        assert difference <= tolerance * other.float().norm(), f"not the same function: {where}"
