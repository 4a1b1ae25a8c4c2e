"""Measure, print the table, and write it to docs/results/performance-NAME.json.

    make bench                      # layers and the whole model, about 15 minutes on 2 cores
    make bench ARGS="--only layers --rounds 30 --output /tmp/mine.json"
    make bench ARGS="--device cuda --rounds 12 --output docs/results/performance-gpu.json"

Every ratio is the median over paired rounds in this process, with a 95 % bootstrap interval. "A/A" is ours against
ours: what this machine makes of no difference at all. On a GPU the base is in bf16 and all is timed under autocast to
bf16, as `bf16: true` trains.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.floor import measure
from bench.layers import CELLS, GPU_CELLS, layer_runs
from bench.models import SHAPES, crowd_runs, decode_runs, train_runs
from bench.pairs import AGAIN, ROUTED, interleaved, ratio
from cuma.models.backbones import load_backbone
from cuma.runs.folder import write_json
from cuma.runs.machine import hardware, versions

Rivals = dict[str, Callable[[], Any]]
Cell = tuple[str, str, Callable[[], Rivals]]


def main() -> None:
    """Run the cells one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("layers", "models"))
    parser.add_argument("--cell", nargs="+", help="only cells whose kind and name contain one of these")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=100, help="stop a cell after so long, at five rounds or more")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that others use too"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=Path("docs/results/performance-cpu.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {
        "command": "python -m bench " + " ".join(sys.argv[1:]),
        "commit": commit(),
        "seed": 0,
        "hardware": hardware(),
        "threads": arguments.threads,
        "clock": arguments.clock,
        "device": arguments.device,
        **({"ceilings": asdict(measure(arguments.clock))} if arguments.device == "cpu" else {}),
        "versions": versions(),
        "cells": [],
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for kind, name, prepare in cells(arguments.only, arguments.device):
        if arguments.cell and not any(part in f"{kind}: {name}" for part in arguments.cell):
            continue
        row = measured(kind, name, prepare, arguments)
        result["cells"].append(row)
        write_json(arguments.output, result)  # a run that is stopped keeps what it has
        print(line(row), flush=True)
    print(f"A/A over all cells: median {aa(result['cells'])}. Its page: python -m bench.table {arguments.output}")


def cells(only: str | None, device: str) -> Iterator[Cell]:
    """(kind, name, what makes its rivals) of every cell."""
    if only != "models":
        for cell in CELLS if device == "cpu" else GPU_CELLS:
            kind = "layer, training" if cell.train else "layer, answering"
            yield kind, cell.name, lambda cell=cell: layer_runs(cell)
    if only != "layers":
        exact = load_backbone("smollm2-135m", device_map=device).model
        timed = exact if device == "cpu" else load_backbone("smollm2-135m", device_map=device, dtype="bfloat16").model
        for shape in SHAPES:
            yield "model, decoding step", shape, lambda shape=shape: decode_runs(exact, timed, shape, shape == "r=8")
        yield "model, decoding step", "64 different people", lambda: crowd_runs(exact, timed)
        for shape in SHAPES:
            yield "model, training step", shape, lambda shape=shape: train_runs(exact, timed, shape, shape == "r=8")


def prepared(kind: str, prepare: Callable[[], Rivals], device: str) -> Rivals:
    """A cell's rivals, on the device. On a GPU all are timed in autocast; whole models are compared in fp32."""
    if device == "cpu":
        return prepare()
    timed = partial(torch.autocast, device, dtype=torch.bfloat16)
    # torch.device is left before anything is timed: within it every call of PyTorch takes longer.
    with torch.device(device), timed() if kind.startswith("layer") else nullcontext():
        runs = prepare()
    return {name: partial(_within, timed, run) for name, run in runs.items()}


def _within(context: Callable[[], AbstractContextManager[Any]], run: Callable[[], Any]) -> None:
    with context():
        run()


def measured(kind: str, name: str, prepare: Callable[[], Rivals], options: argparse.Namespace) -> dict[str, Any]:
    """One cell: how long ours takes, and its ratio to each rival."""
    start = time.perf_counter()
    seconds = interleaved(prepared(kind, prepare, options.device), options.rounds, options.clock, options.seconds)
    rivals = [rival for rival in seconds if not rival.startswith("ours")]
    row = {
        "kind": kind,
        "cell": name,
        "milliseconds": {rival: 1e3 * float(np.median(times)) for rival, times in seconds.items()},
        "ours_over": {rival: ratio(seconds, "ours", rival) for rival in rivals},
        "a_over_a": ratio(seconds, "ours", AGAIN),
        "took_seconds": round(time.perf_counter() - start, 1),
    }
    if ROUTED in seconds:
        row["with_router_over"] = {rival: ratio(seconds, ROUTED, rival) for rival in rivals}
    return row


def line(row: dict[str, Any]) -> str:
    """One cell as a line of text."""
    found = [f"{name} {_shown(value)}" for name, value in {**row["ours_over"], "A/A": row["a_over_a"]}.items()]
    return f"{row['kind']}: {row['cell']}: {row['milliseconds']['ours']:.2f} ms, over " + "; ".join(found)


def aa(rows: list[dict[str, Any]]) -> str:
    """The spread of the A/A controls."""
    found = [abs(row["a_over_a"]["ratio"] - 1) for row in rows]
    return f"{100 * float(np.median(found)):.1f} %, worst {100 * max(found):.1f} %"


def commit() -> str:
    """The commit that was measured, with "+" if files were changed since."""
    asked = ["git", "describe", "--always", "--abbrev=12", "--dirty=+"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _shown(value: dict[str, float]) -> str:
    return f"{value['ratio']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


if __name__ == "__main__":
    main()
