"""Score the tokens of the reply only, on CPUs too.

TRL's DPO and GRPO need log-probabilities of the reply. On a GPU its fused head computes just those; where there is no
Triton it computes them for every position of the prompt as well and throws them away, because some accelerators compile
anew for each number of positions. A CPU does not, and the head of a small model is most of its work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trl.trainer import utils


@contextmanager
def compact_head() -> Iterator[None]:
    """Within it TRL's fused head leaves out positions without a label on CPUs; the results differ by rounding only."""
    asked = utils._use_triton

    def compact(device: Any) -> bool:
        return device.type == "cpu" or asked(device)

    utils._use_triton = compact
    try:
        yield
    finally:
        utils._use_triton = asked
