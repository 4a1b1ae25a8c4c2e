"""The house in numbers: rooms, floors, circles and imports that run upwards, from the code's own imports.

python tools/structure.py        # part of `make check`; exits with 1 where a limit is passed

A room is a folder of `src/cuma` or a module that stands loose beside them. Where modules of one room import modules of
another there is an arrow between the two. A room's floor is one above the highest room that it imports; those of the
ground floor import nobody. `import cuma`, which every import of a module of cuma does anyway, is no arrow. Circles are
looked for among modules, which finds those inside a room as well.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
LIMITS = {
    "rooms": 24,
    "floors": 8,
    "loose modules": 4,
    "circles": 0,
    "upward imports": 0,
    "floors inside metrics": 5,
}
Arrows = Mapping[str, frozenset[str]]
"""Who imports whom; every room or module is a key."""


def floors_of(arrows: Arrows) -> dict[str, int]:
    """Room → its floor, from 1. There must be no circle among them."""

    @cache
    def floor(room: str) -> int:
        return 1 + max(map(floor, arrows[room]), default=0)

    return {room: floor(room) for room in sorted(arrows)}


def circles_of(arrows: Arrows) -> list[str]:
    """The rooms or modules that reach themselves."""

    def reached(start: str) -> set[str]:
        known: set[str] = set()
        waiting = list(arrows[start])
        while waiting:
            room = waiting.pop()
            if room not in known:
                known.add(room)
                waiting += arrows[room]
        return known

    return [room for room in sorted(arrows) if room in reached(room)]


def upward(arrows: Arrows, layers: Iterable[str]) -> list[str]:
    """Imports that the layers of pyproject.toml forbid: upwards, or between rooms of one layer."""
    place = {room.strip(" ()"): depth for depth, layer in enumerate(layers) for room in layer.split("|")}
    return [
        f"{room} -> {other}" for room in sorted(arrows) for other in sorted(arrows[room]) if place[other] <= place[room]
    ]


def arrows_between(graph: grimp.ImportGraph, inside: str) -> Arrows:
    """Arrows between the rooms directly inside a package."""

    def room(module: str) -> str:
        return module.removeprefix(f"{inside}.").partition(".")[0]

    modules = [module for module in graph.modules if module.startswith(f"{inside}.")]
    arrows: dict[str, set[str]] = {room(module): set() for module in modules}
    for module in modules:
        for other in graph.find_modules_directly_imported_by(module):
            if other.startswith(f"{inside}.") and room(other) != room(module):
                arrows[room(module)].add(room(other))
    return {name: frozenset(others) for name, others in arrows.items()}


def measure() -> tuple[dict[str, int], list[str]]:
    """The figures that have limits, and the lines that explain them."""
    graph = grimp.build_graph("cuma", exclude_type_checking_imports=True, cache_dir=None)
    modules = {name: frozenset(graph.find_modules_directly_imported_by(name)) - {"cuma"} for name in graph.modules}
    circles = circles_of(modules)
    if circles:
        return {"circles": len(circles)}, [f"in a circle: {name}" for name in circles]
    arrows = arrows_between(graph, "cuma")
    packages = {module for module in graph.modules if graph.find_children(module)}
    loose = {"__init__", *(room for room in arrows if f"cuma.{room}" not in packages)}
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    floors, up = floors_of(arrows), upward(arrows, layers[0]["layers"])
    figures = {
        "rooms": len(packages) - 1 + len(loose),
        "floors": max(floors.values()),
        "loose modules": len(loose),
        "circles": len(circles),
        "upward imports": len(up),
        "floors inside metrics": max(floors_of(arrows_between(graph, "cuma.metrics")).values()),
    }
    lines = [
        f"floor {number}: {', '.join(room for room in floors if floors[room] == number)}"
        for number in range(figures["floors"], 0, -1)
    ]
    lines.append(f"loose: {', '.join(sorted(loose))}; arrows between rooms: {sum(map(len, arrows.values()))}")
    return figures, [*lines, *(f"upward: {arrow}" for arrow in up)]


def main() -> None:
    figures, lines = measure()
    print(*lines, sep="\n")
    over = [name for name, value in figures.items() if value > LIMITS[name]]
    for name, value in figures.items():
        print(f"{name}: {value} (at most {LIMITS[name]}){'  <- too many' if name in over else ''}")
    sys.exit(bool(over))


if __name__ == "__main__":
    main()
