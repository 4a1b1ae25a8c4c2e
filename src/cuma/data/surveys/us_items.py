"""The fifty items of `us`: wordings, options, codes, and which of them ask the same thing.

Wordings follow the surveys' own, shortened to the question itself: GSS 1972–2018 (abortion, national spending), the
2016 CCES (CC16_410a, CC16_422c–f, ideo5, pew_*), the ANES cumulative file (VCF0218, VCF0224, VCF0313, VCF0604–0608) and
the ANES 2012 (abort_*). Those about trust in government and the four statements on race were compared with published
texts; the others were not, and may differ from the codebooks in words. The codes are those of the R package stevedata,
which turned some scales around.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from cuma.data.surveys.gss import ALL_QUESTIONS
from cuma.data.surveys.survey import Question

Table = Literal["gss_abortion", "gss_spending", "TV16", "anes_partytherms", "anes_prochoice"]


@dataclass(frozen=True)
class UsItem:
    """One item, and where its answers are."""

    table: Table
    column: str
    question: Question
    codes: tuple[float, ...]
    """The code of each option. Every other code is no answer."""


THERMOMETER = (0, 21, 50, 51, 80)
"""The lowest degree of each option of a feeling thermometer: 0–20 | 21–49 | 50 | 51–79 | 80–97."""
HOTTEST = 97
"""As the cumulative file codes it: 97 is 97 to 100 degrees; 98 and 99 (no rating) are missing values already."""

_SPENDING = {
    "natspac": "space exploration",
    "natenvir": "improving and protecting the environment",
    "natheal": "improving and protecting the nation's health",
    "natcity": "the problems of the big cities",
    "natcrime": "halting the rising crime rate, or law enforcement",
    "natdrug": "dealing with drug addiction, or drug rehabilitation",
    "nateduc": "improving the nation's education system",
    "natrace": "improving the conditions of Blacks, or assistance to Blacks",
    "natarms": "the military, armaments and defense",
    "nataid": "foreign aid, or assistance to other countries",
    "natfare": "welfare, or assistance to the poor",
    "natroad": "highways and bridges",
    "natsoc": "Social Security",
    "natmass": "mass transportation",
    "natpark": "parks and recreation",
    "natchld": "assistance for childcare",
    "natsci": "supporting scientific research",
    "natenrgy": "developing alternative energy sources",
}
"""What money is spent on. Half of the people were asked the first eleven in other words, and stevedata does not tell
which half: where these are about another thing, both stand here."""
_RACIAL: dict[str, tuple[str, tuple[float, ...]]] = {
    "angryracism": ("I am angry that racism exists.", (1, 2, 3, 4, 5)),
    "whiteadv": (
        "White people in the U.S. have certain advantages because of the color of their skin.",
        (1, 2, 3, 4, 5),
    ),
    "fearraces": ("I often find myself fearful of people of other races.", (5, 4, 3, 2, 1)),
    "racerare": ("Racial problems in the U.S. are rare, isolated situations.", (5, 4, 3, 2, 1)),
}
_AGREE = (
    "Strongly agree",
    "Somewhat agree",
    "Neither agree nor disagree",
    "Somewhat disagree",
    "Strongly disagree",
)
_LEGAL = {
    "health": "staying pregnant would hurt the woman's health but is very unlikely to cause her to die",
    "fatal": "staying pregnant could cause the woman to die",
    "incest": "the pregnancy was caused by the woman having sex with a blood relative",
    "rape": "the pregnancy was caused by the woman being raped",
    "bd": "the fetus will be born with a serious birth defect",
    "fin": "having the child would be extremely difficult for the woman financially",
    "sex": "the child will not be the sex the woman wants it to be",
    "choice": "the woman chooses to have one",
}

SISTERS = (
    tuple(question.id for question in ALL_QUESTIONS) + tuple(f"abort_{column}" for column in _LEGAL),
    ("therm_dem", "therm_gop"),
    ("natenvir", "natenrgy"),
    ("natroad", "natmass"),
)
"""Items that ask nearly the same thing, in one survey or in two: they are held out together. Every other item is a
family of its own. Words cannot tell: the spending items differ in two words, the abortion items of two surveys in
most. All questions on legal abortion are one family, larger than any test: they are always trained on."""


def _scale(name: str, text: str, *options: str) -> Question:
    return Question(name, text, options, ordinal=len(options) > 2)


def _cces() -> Iterator[tuple[str, Question, tuple[float, ...]]]:
    for name, (statement, codes) in _RACIAL.items():
        yield name, _scale(name, f'Do you agree or disagree? "{statement}"', *_AGREE), codes
    for question, codes in (
        (_scale("religimp", "How important is religion in your life?", "Very important", "Somewhat important",
                "Not too important", "Not at all important"), (4, 3, 2, 1)),
        (_scale("churchatd", "Aside from weddings and funerals, how often do you attend religious services?",
                "More than once a week", "Once a week", "Once or twice a month", "A few times a year", "Seldom",
                "Never"), (6, 5, 4, 3, 2, 1)),
        (_scale("prayerfreq", "Outside of attending religious services, how often do you pray?",
                "Several times a day", "Once a day", "A few times a week", "Once a week", "A few times a month",
                "Seldom", "Never"), (7, 6, 5, 4, 3, 2, 1)),
        (_scale("bornagain", 'Would you describe yourself as a "born-again" or evangelical Christian, or not?', "Yes",
                "No"), (1, 0)),
        (_scale("ideo", "In general, how would you describe your own political viewpoint?", "Very liberal", "Liberal",
                "Moderate", "Conservative", "Very conservative"), (1, 2, 3, 4, 5)),
        (_scale("votetrump", "For whom did you vote for President of the United States in 2016?", "Donald Trump",
                "Another candidate"), (1, 0)),
    ):  # fmt: skip
        yield question.id, question, codes


def _anes() -> Iterator[tuple[str, Question, tuple[float, ...]]]:
    for column, party in (("therm_dem", "Democratic"), ("therm_gop", "Republican")):
        text = f"On a feeling thermometer, how warm or cold do you feel toward the {party} Party?"
        options = ("Very cold", "Cold", "Neither warm nor cold", "Warm", "Very warm")
        yield column, _scale(column, text, *options), tuple(range(len(options)))
    for question, codes in (
        (_scale("polint", "How often do you follow what's going on in government and public affairs?",
                "Most of the time", "Some of the time", "Only now and then", "Hardly at all"), (4, 3, 2, 1)),
        (_scale("distrust_govt", "How much of the time do you think you can trust the government in Washington to do "
                "what is right?", "Just about always", "Most of the time", "Only some of the time", "None of the time"),
         (1, 2, 3, 4)),
        (_scale("govt_crooked", "How many of the people running the government do you think are crooked?",
                "Quite a few", "Not very many", "Hardly any"), (3, 2, 1)),
        (_scale("govt_waste", "Do you think that people in the government waste the money we pay in taxes?",
                "Waste a lot of it", "Waste some of it", "Don't waste very much of it"), (3, 2, 1)),
        (_scale("govt_biginterests", "Would you say the government is pretty much run by a few big interests or for "
                "the benefit of all the people?", "A few big interests looking out for themselves",
                "The benefit of all the people"), (1, 0)),
    ):  # fmt: skip
        yield question.id, question, codes


def _items() -> Iterator[UsItem]:
    for question in ALL_QUESTIONS:
        yield UsItem("gss_abortion", question.id, question, (1, 0))
    for name, what in _SPENDING.items():
        text = f"Are we spending too much, too little, or about the right amount on {what}?"
        yield UsItem("gss_spending", name, _scale(name, text, "Too little", "About right", "Too much"), (1, 0, -1))
    for column, question, codes in _cces():
        yield UsItem("TV16", column, question, codes)
    for column, question, codes in _anes():
        yield UsItem("anes_partytherms", column, question, codes)
    for column, reason in _LEGAL.items():
        text = f"Do you favor or oppose abortion being legal if {reason}?"
        question = _scale(f"abort_{column}", text, "Favor", "Neither favor nor oppose", "Oppose")
        yield UsItem("anes_prochoice", column, question, (2, 1, 0))


def _with_families(items: Iterable[UsItem]) -> Iterator[UsItem]:
    family_of = {name: sisters[0] for sisters in SISTERS for name in sisters}
    for item in items:
        name = item.question.id
        yield replace(item, question=replace(item.question, family=family_of.get(name, name)))


ITEMS = tuple(_with_families(_items()))
