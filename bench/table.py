"""Results as docs/performance.md shows them: `python -m bench.table docs/results/performance-cpu.json`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.floor import Ceilings, floors
from bench.pairs import ROUTED
from cuma.runs.folder import read_json

COLUMNS = {
    "base": "/ frozen base",
    "lora": "/ LoRA of rank k·r",
    "lora in base dtype": "/ the same in bf16",
    "double loop": "/ double loop",
}
AIMS = {
    ("layer, training", "centre"): 1.15,
    ("layer, training", "width 4096"): 1.15,
    ("layer, training", "r 64"): 1.30,
    ("layer, training", "r 64, share_a"): 1.30,
    ("model, training step", "r=8"): 1.10,
    ("model, training step", "r=64, shared A"): 1.15,
    ("model, training step", "r=64, own A"): 1.25,
    ("model, decoding step", "r=8"): 1.10,
    ("model, decoding step", "r=64, shared A"): 1.15,
}
"""Of ours over LoRA."""
CONTROL = 2
"""Per cent that ours may differ from itself."""
CROWD = "64 equal people"


def page(result: dict[str, Any]) -> str:
    """Markdown: how it was measured, the A/A control, a line a cell, and the floors."""
    parts = [_made(result), _control(result["cells"]), "\n".join(_table(result["cells"])), _crowd(result["cells"])]
    if "ceilings" in result:
        parts += ["## The floor", _ceilings(result), "\n".join(_floors(result))]
    return "\n\n".join(part for part in parts if part)


def _made(result: dict[str, Any]) -> str:
    hardware = result["hardware"]
    counts = [row["a_over_a"]["n"] for row in result["cells"]]
    minutes = sum(row["took_seconds"] for row in result["cells"]) / 60
    cores = f"{hardware['cores']} cores of an {hardware['cpu']}, {result['threads']} threads"
    place = f"an {hardware['gpu']}" if result.get("device") == "cuda" else cores
    return (
        f"Measured by `{result['command'].strip()}` at commit {result['commit']} on {place},\n"
        f"{result['clock']} clock, seed {result['seed']}, "
        f"{min(counts)} to {max(counts)} pairs a cell, {minutes:.0f} minutes."
    )


def _control(rows: list[dict[str, Any]]) -> str:
    off = {f"{row['kind']}: {row['cell']}": 100 * abs(row["a_over_a"]["ratio"] - 1) for row in rows}
    middle, worst = float(np.median(list(off.values()))), max(off.values())
    said = f"The A/A control is off by {middle:.1f} % in the middle and by {worst:.1f} % at worst."
    beyond = [name for name, value in off.items() if value > CONTROL]
    if not beyond:
        return said
    return f"{said} It exceeds {CONTROL} %, so that the figures are no surer than that, in:\n{'; '.join(beyond)}."


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"| | ours, ms | {' | '.join(COLUMNS.values())} | A/A | pairs |"
    yield "|---|" + "--:|" * (len(COLUMNS) + 3)
    for row in rows:
        yield _line(row, "ours")
        if "with_router_over" in row:
            yield _line(row, ROUTED)


def _line(row: dict[str, Any], ours: str) -> str:
    """One cell, with its gates given or with its router, whose rival is then the loop with a router."""
    routed = ours != "ours"
    over = row["with_router_over" if routed else "ours_over"]
    loop = "double loop, with router" if routed else "double loop"
    found = [_shown(over.get(loop if rival == "double loop" else rival)) for rival in COLUMNS]
    control = None if routed else row["a_over_a"]
    name = "– with router" if routed else f"{row['kind']}: {row['cell']}"
    cells = [name, f"{row['milliseconds'][ours]:.1f}", *found, _shown(control), str(row["a_over_a"]["n"])]
    return "| " + " | ".join(cells) + " |"


def _crowd(rows: list[dict[str, Any]]) -> str:
    found = next((row["ours_over"][CROWD] for row in rows if CROWD in row["ours_over"]), None)
    if found is None:
        return ""
    interval = f"{found['ratio']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
    return f"A decoding step of 64 different people takes {interval} of one of 64 equal people."


def _ceilings(result: dict[str, Any]) -> str:
    at = result["ceilings"]
    return (
        f"Every product of a cell at this machine's ceilings, {at['flops'] / 1e9:.0f} GFLOP/s and "
        f"{at['bytes'] / 1e9:.1f} GB/s with {result['threads']} threads. The least ratio of ours to LoRA:"
    )


def _floors(result: dict[str, Any]) -> Iterator[str]:
    least = floors(Ceilings(**result["ceilings"]))
    yield "| | floor | measured | aim |"
    yield "|---|--:|--:|--:|"
    for row in result["cells"]:
        key, measured = (row["kind"], row["cell"]), row["ours_over"].get("lora")
        if key in least and measured is not None:
            aim = f"≤ {AIMS[key]:.2f}" if key in AIMS else "–"
            yield f"| {key[0]}: {key[1]} | {least[key]:.2f} | {_shown(measured)} | {aim} |"


def _shown(value: dict[str, float] | None) -> str:
    return "–" if value is None else f"{value['ratio']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="what `python -m bench` wrote")
    arguments = parser.parse_args()
    print(page(read_json(arguments.result)))
