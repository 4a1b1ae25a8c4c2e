"""The least that it can cost: every product at this machine's measured speed of computing and of reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from bench.layers import CELLS, CENTRE, PROFILE, E, K, Layer
from bench.models import DECODED, LENGTH, ROWS, SHAPES
from bench.pairs import CLOCKS
from cuma.tuner.experts import GATHER_FROM, GATHER_TOKENS

Product = tuple[float, float, float]
"""M, N, K of one matrix product."""
SMOLLM2 = {"q": (576, 576), "k": (576, 192), "v": (576, 192), "o": (576, 576), "up": (576, 1536), "gate": (576, 1536),
           "down": (1536, 576)}  # fmt: skip
BLOCKS, VOCABULARY, ROUTER = 30, 49_152, 256


@dataclass(frozen=True)
class Ceilings:
    """What one process gets at best."""

    flops: float
    """Per second, in a large fp32 product."""
    bytes: float
    """Per second, read from memory."""

    def seconds(self, products: Iterator[Product]) -> float:
        """Each product is bound by computing or by reading and writing its three matrices."""
        return sum(
            max(2 * m * n * k / self.flops, 4 * (m * k + k * n + m * n) / self.bytes) for m, n, k in products if m and n
        )


def measure(clock: str) -> Ceilings:
    """The best of several tries, with as many threads as PyTorch has now."""
    square, long = torch.randn(1024, 1024), torch.randn(64 * 2**20)
    return Ceilings(2 * 1024**3 / _best(lambda: square @ square, clock), 4 * long.numel() / _best(long.sum, clock))


def dense(tokens: float, wide: float, out: float, train: bool) -> Iterator[Product]:
    """A frozen linear layer: forward, and the gradient of its input."""
    yield tokens, out, wide
    if train:
        yield tokens, wide, out


def trained(tokens: float, wide: float, out: float, train: bool) -> Iterator[Product]:
    """A trained linear map: forward, and the gradients of its input and of its weight."""
    yield from dense(tokens, wide, out, train)
    if train:
        yield out, wide, tokens


def experts(tokens: float, wide: float, out: float, cell: Layer) -> Iterator[Product]:
    """Ours: both products over all experts, or over the chosen ones where they are gathered."""
    total = E * cell.r
    used = K * cell.r if total >= GATHER_FROM and tokens >= GATHER_TOKENS else total
    yield from trained(tokens, wide, cell.r if cell.share_a else used, cell.train)
    yield from trained(tokens, used, out, cell.train)


def lora(tokens: float, wide: float, out: float, cell: Layer) -> Iterator[Product]:
    """LoRA of rank k·r."""
    yield from trained(tokens, wide, K * cell.r, cell.train)
    yield from trained(tokens, K * cell.r, out, cell.train)


def floors(at: Ceilings) -> dict[tuple[str, str], float]:
    """The least ratio of ours to LoRA, by kind and name of the cell: layers in fp32, and the whole model."""
    found = {
        ("layer, training" if cell.train else "layer, answering", cell.name): layer_floor(cell, at)
        for cell in CELLS
        if cell.dtype == "fp32" and not cell.checkpointing and not cell.compiled and cell.routing == CENTRE.routing
    }
    for shape, (rank, share_a) in SHAPES.items():
        for kind, tokens, train in [("training", ROWS * LENGTH, True), ("decoding", DECODED, False)]:
            cell = replace(CENTRE, tokens=tokens, train=train, r=rank, share_a=share_a)
            found[f"model, {kind} step", shape] = model_floor(cell, at)
    return found


def layer_floor(cell: Layer, at: Ceilings) -> float:
    """Least ratio of ours to LoRA for one layer, gates given."""
    size = (cell.tokens, cell.width, cell.width)
    base = at.seconds(dense(*size, cell.train))
    return (base + at.seconds(experts(*size, cell))) / (base + at.seconds(lora(*size, cell)))


def model_floor(cell: Layer, at: Ceilings) -> float:
    """Least ratio of ours (router included, shared by q and v) to LoRA for SmolLM2, without attention.

    A training step ends with AdamW, which reads a parameter, its gradient and two moments and writes all but the
    gradient: 28 bytes a parameter.
    """
    tokens, train, q, v = cell.tokens, cell.train, SMOLLM2["q"], SMOLLM2["v"]
    base = BLOCKS * sum(at.seconds(dense(tokens, *size, train)) for size in SMOLLM2.values())
    base += at.seconds(dense(tokens, 576, VOCABULARY, train))
    router = at.seconds(trained(tokens, 576, ROUTER, train)) + at.seconds(trained(tokens, ROUTER, E, train))
    ours = router + sum(at.seconds(experts(tokens, *size, cell)) for size in (q, v))
    dense_rival = sum(at.seconds(lora(tokens, *size, cell)) for size in (q, v))
    if train:
        rows = cell.r if cell.share_a else E * cell.r
        held = ROUTER * (576 + PROFILE + E) + sum(rows * wide + E * cell.r * out for wide, out in (q, v))
        ours += 28 * held / at.bytes
        dense_rival += 28 * K * cell.r * sum(wide + out for wide, out in (q, v)) / at.bytes
    return (base + BLOCKS * ours) / (base + BLOCKS * dense_rival)


def _best(run: Callable[[], object], clock: str) -> float:
    tell, found = CLOCKS[clock], []
    for _ in range(20):
        start = tell()
        run()
        found.append(tell() - start)
    return min(found)
