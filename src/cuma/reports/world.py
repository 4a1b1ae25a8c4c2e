"""The world map: which groups are countries, where they lie, and how good the answers for each are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from cuma.reports.group_rows import group_errors
from cuma.runs.evidence import Evidence
from cuma.runs.group_answers import true_answers

MIN_COUNTRIES = 5
"""Below this many countries a world map shows little but grey."""
SHARE_OF_GROUPS = 0.8
"""So much of a benchmark's groups must be countries for it to be one of countries."""

OTHER_NAMES = {
    "bolivia (plurinational state of)": "Bolivia",
    "bosnia herzegovina": "Bosnia and Herzegovina",
    "britain": "United Kingdom",
    "burma": "Myanmar",
    "cape verde": "Cabo Verde",
    "czech republic": "Czechia",
    "democratic republic of congo": "Democratic Republic of the Congo",
    "east timor": "Timor-Leste",
    "england": "United Kingdom",
    "great britain": "United Kingdom",
    "hong kong sar": "Hong Kong",
    "iran (islamic republic of)": "Iran",
    "ivory coast": "Côte d'Ivoire",
    "korea, south": "South Korea",
    "macao sar": "Macao",
    "macau": "Macao",
    "macedonia": "North Macedonia",
    "palestinian territories": "Palestine",
    "palest. ter.": "Palestine",
    "republic of korea": "South Korea",
    "republic of moldova": "Moldova",
    "russian federation": "Russia",
    "s. africa": "South Africa",
    "s. korea": "South Korea",
    "swaziland": "Eswatini",
    "taiwan roc": "Taiwan",
    "türkiye": "Turkey",
    "uae": "United Arab Emirates",
    "uk": "United Kingdom",
    "united republic of tanzania": "Tanzania",
    "united states": "United States of America",
    "us": "United States of America",
    "usa": "United States of America",
    "viet nam": "Vietnam",
}
"""Names in surveys, in lower case → names on the map. A part of a country has no place of its own, and gets none."""


@cache
def atlas() -> dict[str, Any]:
    """Outlines (name → polygons) and points (name → longitude, latitude) of studies/world_map.py."""
    return dict(json.loads(files("cuma.reports").joinpath("world.json").read_text(encoding="utf-8")))


@cache
def _names() -> dict[str, str]:
    return {name.casefold(): name for part in ("outlines", "points") for name in atlas()[part]}


def country_of(label: str) -> str | None:
    """The map's name of the country that a group's label names; None if it names none, or more than a country."""
    text = re.sub(r"^the |\s*\(non-national sample\)$", "", " ".join(label.split()).casefold())
    return _names().get(OTHER_NAMES.get(text, text).casefold())


def countries_of(labels: Sequence[str]) -> dict[str, str]:
    """Label → country, if the labels are countries (most of them, five at least, none twice); otherwise nothing."""
    countries = {label: country for label in labels if (country := country_of(label)) is not None}
    enough = len(countries) >= max(MIN_COUNTRIES, SHARE_OF_GROUPS * len(labels))
    return countries if enough and len(set(countries.values())) == len(countries) else {}


def world_payload(evidence: Evidence) -> dict[str, Any] | None:
    """Outlines of the world and, for every country that may be shown, each method's soft EMD; None without a map.

    Returns:
        outlines: GeoJSON of all countries, by name. points: places of small countries among the groups. countries: one
        {"label", "country", "seen", "errors": soft EMD per method, None where it says nothing} a group.
    """
    answers = true_answers(evidence)
    places = countries_of(sorted(set(answers["group"])))
    if not places:
        return None
    sides = dict(zip(answers["group"], answers["seen"], strict=True))
    errors = [group_errors(evidence, method) for method in evidence.methods]
    countries = [
        {
            "label": label,
            "country": country,
            "seen": bool(sides[label]),
            "errors": [None if (error := table.get(label)) is None else round(error, 4) for table in errors],
        }
        for label, country in places.items()
    ]
    points = {country: atlas()["points"][country] for country in places.values() if country in atlas()["points"]}
    return {"outlines": _geojson(atlas()["outlines"]), "points": points, "countries": countries}


def _geojson(outlines: Mapping[str, Any]) -> dict[str, Any]:
    features = [
        {"type": "Feature", "id": name, "properties": {}, "geometry": {"type": "MultiPolygon", "coordinates": polygons}}
        for name, polygons in outlines.items()
    ]
    return {"type": "FeatureCollection", "features": features}
