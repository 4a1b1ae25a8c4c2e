"""The least that it can cost: every product at this machine's measured speed of computing and of reading.

python -m bench.floor           # ceilings, and the floor of the ratio ours / LoRA for layers and the whole model
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from bench.layers import CENTRE, E, K, Layer
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


def measure(clock: str = "cpu") -> Ceilings:
    """The best of several tries."""
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


def layer_floor(cell: Layer, at: Ceilings) -> float:
    """Least ratio of ours to LoRA for one layer, gates given."""
    size = (cell.tokens, cell.width, cell.width)
    base = at.seconds(dense(*size, cell.train))
    return (base + at.seconds(experts(*size, cell))) / (base + at.seconds(lora(*size, cell)))


def model_floor(cell: Layer, at: Ceilings) -> float:
    """Least ratio of ours (router included, shared by q and v) to LoRA for SmolLM2, without attention and optimizer."""
    tokens, train = cell.tokens, cell.train
    base = BLOCKS * sum(at.seconds(dense(tokens, *size, train)) for size in SMOLLM2.values())
    base += at.seconds(dense(tokens, 576, VOCABULARY, train))
    router = at.seconds(trained(tokens, 576, ROUTER, train)) + at.seconds(trained(tokens, ROUTER, E, train))
    ours = router + sum(at.seconds(experts(tokens, *SMOLLM2[name], cell)) for name in "qv")
    dense_rival = sum(at.seconds(lora(tokens, *SMOLLM2[name], cell)) for name in "qv")
    return (base + BLOCKS * ours) / (base + BLOCKS * dense_rival)


def _best(run: Callable[[], object], clock: str) -> float:
    tell, found = CLOCKS[clock], []
    for _ in range(20):
        start = tell()
        run()
        found.append(tell() - start)
    return min(found)


def main() -> None:
    """Print the ceilings and the floors."""
    from dataclasses import replace

    torch.set_num_threads(1)
    at = measure()
    print(f"{at.flops / 1e9:.0f} GFLOP/s, {at.bytes / 1e9:.1f} GB/s, one thread")
    for width, rank, shared in [
        (576, 8, False),
        (2048, 8, False),
        (4096, 8, False),
        (2048, 64, False),
        (2048, 64, True),
    ]:
        cell = replace(CENTRE, width=width, r=rank, share_a=shared)
        print(f"layer, training, H {width}, r {rank}, {'shared' if shared else 'own'} A: {layer_floor(cell, at):.3f}")
    for rank, shared in [(8, False), (64, True), (64, False)]:
        for tokens, train in [(256, True), (8, False)]:
            cell = replace(CENTRE, tokens=tokens, train=train, r=rank, share_a=shared)
            what = "training step" if train else "decoding step"
            print(f"model, {what}, r {rank}, {'shared' if shared else 'own'} A: {model_floor(cell, at):.3f}")


if __name__ == "__main__":
    main()
