"""Results as the table of docs/performance.md: `python -m bench.table docs/results/performance-cpu.json`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cuma.runs import read_json

RIVALS = ("base", "lora", "double loop")


def table(result: dict[str, Any]) -> str:
    """Markdown: a line a cell, the time of ours over each rival's with its interval."""
    lines = [
        "| | ours, ms | / frozen base | / LoRA of rank k·r | / double loop | A/A | pairs |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in result["cells"]:
        found = [_shown(row["ours_over"].get(rival)) for rival in RIVALS]
        control = row["a_over_a"]
        line = [f"{row['kind']}: {row['cell']}", f"{row['milliseconds']['ours']:.1f}", *found, _shown(control)]
        lines.append("| " + " | ".join([*line, str(control["n"])]) + " |")
    return "\n".join(lines)


def _shown(value: dict[str, float] | None) -> str:
    return "–" if value is None else f"{value['ratio']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


if __name__ == "__main__":
    print(table(read_json(Path(sys.argv[1]))))
