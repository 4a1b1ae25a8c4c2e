"""What the paper's trainings would need on a GPU, by the cost model of docs/performance.md. Computed, not measured.

    python studies/paper_cost.py

Work a token: the frozen base twice its forward (no gradient of its weights) and everything that is trained three times,
two operations a weight. Hours: that work at 40 % of a GPU's bf16 peak, which is what well-kept trainers reach. Memory:
base weights in bf16; what is trained, its gradient and AdamW's two averages in fp32; and, with gradient checkpointing,
each layer's input and the logits of one batch. A conversation's length is what its data set has on average, rounded.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe

PEAK = {"A100": 312e12, "H100": 989e12}
"""Dense bf16 operations a second, by the makers' data sheets."""
REACHED = 0.4
ENCODER_WIDTH = 1024
"""Of Qwen3-Embedding-0.6B."""


@dataclass(frozen=True)
class Shape:
    """A backbone, by its published configuration."""

    hidden: int
    layers: int
    key_value: int
    """Width of v_proj's output; q_proj's is `hidden`."""
    vocabulary: int
    parameters: float


@dataclass(frozen=True)
class Stages:
    """What is trained on: rows of SFT and passes over them, rows of DPO, tokens of a row."""

    rows: int
    passes: int
    pairs: int
    tokens: int


SHAPES = {
    "qwen3-8b": Shape(4096, 36, 1024, 151_936, 8.19e9),
    "llama-3.1-8b": Shape(4096, 32, 1024, 128_256, 8.03e9),
}
DATA = {"wvb": Stages(50_000, 3, 0, 400), "ca": Stages(10_000, 1, 10_000, 800), "prism": Stages(2_000, 1, 2_000, 800)}
"""The authors' numbers of rows; lengths are our guesses."""


def trained(recipe: Recipe, shape: Shape) -> int:
    """Trained parameters of a recipe whose adapter sits on q_proj and v_proj of all layers."""
    adapter = recipe.adapter
    if adapter.method == "full":
        return int(shape.parameters)
    outputs = (shape.hidden, shape.key_value)
    if adapter.method != "cuma":
        return shape.layers * sum(adapter.r * (shape.hidden + out) for out in outputs)
    wide = adapter.num_experts * adapter.r
    down = adapter.r if adapter.share_a else wide
    read = shape.hidden + (0 if adapter.router_input == "semantic" else ENCODER_WIDTH)
    middle = adapter.router_hidden_dim
    router = read * adapter.num_experts + adapter.num_experts
    if middle is not None:
        router = (read + 1) * middle + (middle + 1) * adapter.num_experts
    routers = 1 if adapter.share_router else len(outputs)
    return shape.layers * (sum(down * shape.hidden + wide * out for out in outputs) + routers * router)


def gigabytes(recipe: Recipe, shape: Shape, data: Stages) -> float:
    """Peak memory of SFT."""
    batch = recipe.training.per_device_train_batch_size * data.tokens
    weights = 2 * shape.parameters + 16 * trained(recipe, shape)
    return (weights + batch * (2 * shape.hidden * shape.layers + 6 * shape.vocabulary)) / 1e9


def hours(recipe: Recipe, shape: Shape, data: Stages, peak: float) -> float:
    """Of SFT, and of DPO, which runs two texts through the model and through its reference."""
    added = 0 if recipe.adapter.method == "full" else trained(recipe, shape)
    step = (6 if recipe.adapter.method == "full" else 4) * shape.parameters + 6 * added
    work = data.rows * data.passes * step + 2 * data.pairs * (step + 2 * shape.parameters)
    return work * data.tokens / (peak * REACHED) / 3600


def table() -> str:
    """Rows: data × method, on Qwen3-8B."""
    lines = [
        "| data | recipe | trained | of the base | memory | A100 | H100 |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    shape = SHAPES["qwen3-8b"]
    for name, data in DATA.items():
        for method in ("lora", "hydralora", "mixlora", "cuma-r8", "cuma-r64", "full"):
            recipe = load_recipe(f"paper/qwen3-8b/{name}/{method}")
            number = trained(recipe, shape)
            time = [f"{hours(recipe, shape, data, peak):.1f} h" for peak in PEAK.values()]
            share = f"{number / shape.parameters:.2%}"
            size = f"{gigabytes(recipe, shape, data):.0f} GB"
            lines.append(f"| {name} | `{method}` | {number / 1e6:,.0f} M | {share} | {size} | {' | '.join(time)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    print(table())
