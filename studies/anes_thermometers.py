"""Count the feeling thermometers of the American National Election Study 2020 for `make questions`.

    python studies/anes_thermometers.py anes_timeseries_2020_csv_20220210.csv data/anes.jsonl

The file is public, after registration: electionstudies.org, "2020 Time Series Study", the CSV. A group is party
(V201231x) × race (V201549x) × sex (V201600) × college degree (V201511x); an answer is a thermometer in five bins; a
cell is kept from 15 people on, and an item or a group from a handful of cells on. People count alike, unweighted:
shares are compared with shares of the same people. Codes beyond 0 to 100 are no answer. What was left out is printed.

The output has one row for each cell, as `cuma data build own` reads shares.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import pandas as pd

SCALE = ("Very cold", "Cold", "Neither warm nor cold", "Warm", "Very warm")
EDGES = (-1, 20, 39, 60, 80, 100)
"""0 to 20, 21 to 39, 40 to 60, 61 to 80, 81 to 100."""
SMALLEST_CELL = 15
FEWEST_CELLS = 5
"""Items asked of fewer groups, and groups with fewer items, tell nothing."""
ITEMS = {
    "V201151": "Joe Biden", "V201152": "Donald Trump", "V201153": "Kamala Harris", "V201154": "Mike Pence",
    "V201155": "Barack Obama", "V201156": "the Democratic Party", "V201157": "the Republican Party",
    "V202158": "Dr. Anthony Fauci", "V202159": "Christian fundamentalists", "V202160": "feminists",
    "V202161": "liberals", "V202162": "labor unions", "V202163": "big business", "V202164": "conservatives",
    "V202165": "the U.S. Supreme Court", "V202166": "gay men and lesbians", "V202167": "Congress",
    "V202168": "Muslims", "V202169": "Christians", "V202170": "Jews", "V202171": "the police",
    "V202172": "transgender people", "V202173": "scientists", "V202174": "Black Lives Matter",
    "V202175": "journalists", "V202176": "NATO", "V202177": "the United Nations",
    "V202178": "the National Rifle Association", "V202179": "socialists", "V202180": "capitalists",
    "V202181": "the FBI", "V202182": "Immigration and Customs Enforcement (ICE)", "V202183": "the #MeToo movement",
    "V202184": "rural Americans", "V202185": "Planned Parenthood", "V202186": "the World Health Organization",
    "V202187": "the CDC", "V202477": "Asian Americans", "V202478": "Asians", "V202479": "Hispanics",
    "V202480": "Black people", "V202481": "illegal immigrants", "V202482": "White people",
}  # fmt: skip
FIELDS = {
    "party": ("V201231x", {
        1: "strong Democrat", 2: "weak Democrat", 3: "independent leaning Democratic", 4: "independent",
        5: "independent leaning Republican", 6: "weak Republican", 7: "strong Republican",
    }),
    "ethnicity": ("V201549x", {1: "White", 2: "Black", 3: "Hispanic", 4: "Asian American"}),
    "sex": ("V201600", {1: "Male", 2: "Female"}),
    "education": ("V201511x", {
        1: "no college degree", 2: "no college degree", 3: "no college degree",
        4: "a college degree", 5: "a college degree",
    }),
}  # fmt: skip
"""Profile field → variable and its codes; other codes are absence."""


def main() -> None:
    """Read, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    wanted = [name for name, _ in FIELDS.values()] + list(ITEMS)
    table = pd.read_csv(arguments.source, usecols=wanted, low_memory=False)
    rows, dropped = count(table)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for reason, times in dropped.items():
        print(f"{times:9,}  {reason}")
    print(f"{len(rows):9,}  cells written to {arguments.output}")


def counted(path: str) -> Path:
    """What a study's --anes names, if it is a file; for argparse."""
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(
            f"{path} is no file. studies/anes_thermometers.py counts it from the public one."
        )
    return Path(path)


def count(table: pd.DataFrame) -> tuple[list[dict], Counter[str]]:
    """A row for each cell, and how many people, answers and cells were left out, by reason."""
    dropped: Counter[str] = Counter()
    table = table.apply(pd.to_numeric, errors="coerce")
    profiles = pd.DataFrame({field: table[name].map(codes) for field, (name, codes) in FIELDS.items()})
    known = profiles.notna().all(axis=1)
    dropped["people with an unknown or other party, race, sex or education"] = int((~known).sum())
    table, profiles = table[known], profiles[known]
    cells = []
    for name, subject in ITEMS.items():
        answered = table[name].between(0, 100)
        dropped["answers that are no temperature"] += int((~answered).sum())
        bins = pd.cut(table.loc[answered, name], EDGES, labels=range(len(SCALE))).astype("int64")
        for values, members in profiles[answered].groupby(list(FIELDS), sort=True):
            if len(members) < SMALLEST_CELL:
                dropped[f"cells of fewer than {SMALLEST_CELL} people"] += 1
                continue
            shares = bins.loc[members.index].value_counts().reindex(range(len(SCALE)), fill_value=0) / len(members)
            cells.append((subject, values, shares.tolist(), len(members)))
    for place, what in ((0, "items"), (1, "groups")):
        sizes = Counter(cell[place] for cell in cells)
        few = [cell for cell in cells if sizes[cell[place]] < FEWEST_CELLS]
        dropped[f"cells of {what} with fewer than {FEWEST_CELLS} cells"] = len(few)
        cells = [cell for cell in cells if sizes[cell[place]] >= FEWEST_CELLS]
    return [_row(*cell) for cell in cells], dropped


def _row(subject: str, values: tuple[str, ...], shares: list[float], people: int) -> dict:
    profile = dict(zip(FIELDS, values, strict=True))
    return {
        "question": f"How do you feel about {subject}?",
        "options": SCALE,
        "ordinal": True,
        "distribution": shares,
        "n": people,
        "group": ", ".join(values),
        "profile": profile,
    }


if __name__ == "__main__":
    main()
