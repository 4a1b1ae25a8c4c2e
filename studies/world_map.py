"""Make src/cuma/reports/world.json, the outlines behind the report's world map, from Natural Earth's public data.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python studies/world_map.py package src/cuma/reports/world.json

Outlines at 1:110 million, rounded to a tenth of a degree; countries too small for that scale are points.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

WHOLE = {
    "Bosnia and Herz.": "Bosnia and Herzegovina",
    "Central African Rep.": "Central African Republic",
    "Dem. Rep. Congo": "Democratic Republic of the Congo",
    "Dominican Rep.": "Dominican Republic",
    "Eq. Guinea": "Equatorial Guinea",
    "S. Sudan": "South Sudan",
    "W. Sahara": "Western Sahara",
    "N. Cyprus": "Northern Cyprus",
    "Solomon Is.": "Solomon Islands",
    "Falkland Is.": "Falkland Islands",
    "Fr. S. Antarctic Lands": "French Southern Territories",
    "Macedonia": "North Macedonia",
    "eSwatini": "Eswatini",
    "Antigua and Barb.": "Antigua and Barbuda",
    "Faeroe Is.": "Faroe Islands",
    "Fr. Polynesia": "French Polynesia",
    "Marshall Is.": "Marshall Islands",
    "São Tomé and Principe": "São Tomé and Príncipe",
    "St. Kitts and Nevis": "Saint Kitts and Nevis",
    "St. Vin. and Gren.": "Saint Vincent and the Grenadines",
    "Cayman Is.": "Cayman Islands",
    "Cook Is.": "Cook Islands",
}
"""The source's short names → the names written out."""
LEFT_OUT = {"Antarctica", "French Southern Territories"}


def rings(topology: dict[str, Any], geometry: dict[str, Any]) -> list[list[list[list[float]]]]:
    """The polygons of a geometry: polygon → ring → [longitude, latitude]."""
    scale, shift = topology["transform"]["scale"], topology["transform"]["translate"]

    def arc(number: int) -> list[list[float]]:
        x = y = 0
        line = []
        for dx, dy in topology["arcs"][number if number >= 0 else ~number]:
            x, y = x + dx, y + dy
            line.append([round(x * scale[0] + shift[0], 1), round(y * scale[1] + shift[1], 1)])
        return line if number >= 0 else line[::-1]

    def ring(numbers: list[int]) -> list[list[float]]:
        points: list[list[float]] = []
        for number in numbers:
            points += [point for point in arc(number) if not points or point != points[-1]]
        return points if points[0] == points[-1] else [*points, points[0]]

    polygons = [geometry["arcs"]] if geometry["type"] == "Polygon" else geometry["arcs"]
    whole = [[made for numbers in polygon if len(made := ring(numbers)) >= 4] for polygon in polygons]
    return [polygon for polygon in whole if polygon]


def middle(polygons: list[list[list[list[float]]]]) -> list[float]:
    """The middle of the longest outline."""
    outline = max((polygon[0] for polygon in polygons), key=len)
    return [round(sum(point[axis] for point in outline) / len(outline), 1) for axis in (0, 1)]


def named(topology: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for geometry in topology["objects"]["countries"]["geometries"]:
        short = geometry["properties"]["name"]
        name = WHOLE.get(short, short)
        if name not in LEFT_OUT and "arcs" in geometry:
            found[name] = rings(topology, geometry)
    return found


def main(folder: Path, target: Path) -> None:
    coarse, fine = (json.loads((folder / f"countries-{scale}.json").read_text()) for scale in ("110m", "50m"))
    outlines = {name: polygons for name, polygons in named(coarse).items() if polygons}
    points = {name: middle(polygons) for name, polygons in named(fine).items() if polygons and name not in outlines}
    world = {"outlines": outlines, "points": points}
    target.write_text(
        json.dumps(world, ensure_ascii=False, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    main(arguments.package, arguments.target)
