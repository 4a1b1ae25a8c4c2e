"""What options mean: which are no answer at all, and which are steps on a scale."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from cuma.data.builders.cell_text import cell_number

_NO_ANSWER = re.compile(
    r"dk|d/k|n/a|n\.a|(don.?t|do not|doesn't|does not) know|refus(ed?|al)( to answer)?|"
    r"no (answer|response|opinion|reply)( given)?|did not answer|non-?response|unknown|not asked( in survey)?|"
    r"(not applicable|inap(plicable)?)( for other reasons)?|missing|declined?( to answer)?|not (available|ascertained)|"
    r"prefer not to (say|answer)|rather not say|(can't|cannot|can not) (rate|choose|say|answer)"
)
_WEAK = re.compile(r"(it )?depends|not sure|unsure|undecided|vol(unteered)?|do not read")
"""No answer only beside one of the others: "No opinion/depends"."""
_MISSING = re.compile(r"((other )?missing|inap(plicable)?|not applicable)\s*[;:]")
"""A survey's own names of a missing code, whatever they say behind it: "Other missing; Multiple answers Mail (EVS)"."""
_LEADING = re.compile(r"\A[-−]?\d{1,5}\s*[.:)=]?\s+(?=\D)")
_CODE = re.compile(r"-?\d{1,3}([.):=]| [-–])\s*(?=\D)")
"""What labels of survey software begin with: "2. Bad", "2) bad", "2 = bad"."""
_SCALES = (
    ("very good", "good", "somewhat good", "neither good nor bad", "somewhat bad", "bad", "very bad"),
    ("very favorable", "mostly favorable", "somewhat favorable", "somewhat unfavorable", "mostly unfavorable",
     "very unfavorable"),
    ("strongly agree", "completely agree", "agree strongly", "agree", "mostly agree", "somewhat agree",
     "slightly agree", "neither agree nor disagree", "neither", "neutral", "undecided", "slightly disagree",
     "somewhat disagree", "mostly disagree", "disagree", "disagree strongly", "completely disagree",
     "strongly disagree"),
    ("excellent", "very good", "good", "fair", "average", "poor", "bad", "very poor", "very bad"),
    ("very good", "good", "fair", "so so", "so-so", "average", "neither good nor bad", "neutral", "bad", "very bad"),
    ("very important", "rather important", "somewhat important", "fairly important", "not very important",
     "not too important", "not at all important", "not important at all"),
    ("a great deal", "quite a lot", "a fair amount", "some", "not very much", "not too much", "none at all",
     "not at all"),
    ("a lot", "some", "not too much", "not much", "nothing at all", "no confidence at all", "not at all"),
    ("a lot of confidence", "some confidence", "not too much confidence", "no confidence at all"),
    ("completely satisfied", "very satisfied", "satisfied", "fairly satisfied", "somewhat satisfied",
     "neither satisfied nor dissatisfied", "neither", "neutral", "somewhat dissatisfied", "fairly dissatisfied",
     "dissatisfied", "not very satisfied", "not at all satisfied", "very dissatisfied", "completely dissatisfied"),
    ("very high", "high", "rather high", "medium", "moderate", "average", "rather low", "low", "very low"),
    ("several times a day", "every day", "daily", "several times a week", "once a week", "weekly", "once a month",
     "monthly", "several times a year", "once a year", "yearly", "less often", "seldom", "rarely", "never"),
    ("too much", "about right", "about the right amount", "too little"),
    ("extremely", "very", "quite", "moderately", "somewhat", "slightly", "a little", "not very", "not at all"),
    ("extremely important", "very important", "important", "moderately important", "somewhat important",
     "slightly important", "not important", "not at all important"),
    ("much better", "better", "somewhat better", "about the same", "the same", "somewhat worse", "worse", "much worse"),
    ("very big problem", "moderately big problem", "small problem", "not a problem at all"),
    ("a very big problem", "a moderately big problem", "a small problem", "not a problem at all"),
    ("very serious", "somewhat serious", "not too serious", "not a problem", "not at all serious"),
    ("major threat", "minor threat", "not a threat"),
    ("very concerned", "somewhat concerned", "not too concerned", "not at all concerned"),
    ("very worried", "somewhat worried", "not too worried", "not at all worried"),
    ("very much", "a great deal", "a good deal", "somewhat", "not much", "a little", "not at all"),
    ("very happy", "rather happy", "quite happy", "not very happy", "not at all happy"),
    ("very likely", "likely", "somewhat likely", "somewhat unlikely", "not too likely", "unlikely", "very unlikely",
     "not at all likely"),
    ("very proud", "quite proud", "not very proud", "not at all proud"),
    ("very interested", "somewhat interested", "not very interested", "not at all interested"),
    ("always", "almost always", "very often", "often", "frequently", "sometimes", "occasionally", "rarely",
     "hardly ever", "almost never", "never"),
    ("always", "most of the time", "about half the time", "some of the time", "a little of the time", "rarely",
     "none of the time", "never"),
    ("very much interested", "somewhat interested", "not much interested", "not at all interested"),
    ("increase", "increased", "stay the same", "stayed the same", "kept the same", "about the same", "decrease",
     "decreased"),
    ("better", "about the same", "the same", "worse"),
    ("improve a lot", "improve a little", "remain the same", "worsen a little", "worsen a lot"),
    ("gotten better", "stayed about the same", "gotten worse"),
    ("completely", "mostly", "somewhat", "a little", "not at all"),
    ("strongly approve", "approve", "somewhat approve", "somewhat disapprove", "disapprove", "strongly disapprove"),
    ("strongly favor", "favor", "somewhat favor", "somewhat oppose", "oppose", "strongly oppose"),
    ("strongly support", "support", "somewhat support", "somewhat oppose", "oppose", "strongly oppose"),
)  # fmt: skip
"""Known ordered scales; a question may have any part of one, in either direction. Where words of one line are much
alike ("agree", "mostly agree"), a question that has them in another order is taken for unordered."""


def is_no_answer(option: str) -> bool:
    """Whether an option says only that there is no answer: "DK/Refused", "-9. Refused", "Missing; Unknown"."""
    plain = re.sub(r"[´`’‘]", "'", " ".join(option.casefold().split()))
    plain = _LEADING.sub("", plain)
    bare = re.sub(r"\([^()]*\)|\[[^][]*\]", " ", plain)
    plain = (bare if re.search(r"\w", bare) else plain).strip(" ()[].-–")
    if _MISSING.match(plain) or _NO_ANSWER.fullmatch(plain):
        return True
    parts = [part.strip(" .-–") for part in re.split(r"[/;,]|\bor\b", plain)]
    parts = [part for part in parts if part and not _WEAK.fullmatch(part)]
    return bool(parts) and all(_NO_ANSWER.fullmatch(part) for part in parts)


def is_ordinal(options: Sequence[str]) -> bool:
    """Whether three or more options are known to be steps on a scale, else False.

    They are if they stand in the order of a known scale, or in its reverse, without any other option; if they are
    numbers at equal steps; or if they begin with whole numbers that go up or down by one, and some are nothing else
    ("1 Not at all", "2", …). The codes of labels ("2. Bad") are passed over.
    """
    if len(options) < 3:
        return False
    values = [cell_number(option) for option in options]
    if None not in values:
        steps = [after - before for before, after in itertools.pairwise(value for value in values if value is not None)]
        return abs(steps[0]) > 0 and max(steps) - min(steps) < 1e-9
    numbers = [re.match(r"-?\d{1,3}(?![\d.,%:)=–-])", option) for option in options]
    if all(numbers) and any(match[0] == match.string for match in numbers if match):
        whole = [int(match[0]) for match in numbers if match]
        return {after - before for before, after in itertools.pairwise(whole)} in ({1}, {-1})
    plain = _plain(options)
    if all(codes := [_CODE.match(option) for option in plain]):
        plain = [option[len(match[0]) :] for option, match in zip(plain, codes, strict=True) if match]
    for scale in _SCALES:
        if set(plain) <= set(scale):
            places = [scale.index(option) for option in plain]
            if places == sorted(places) or places == sorted(places, reverse=True):
                return True
    return False


def in_scale_order(options: Sequence[str]) -> list[str]:
    """The options from the first to the last step of a known scale, where they are some of its steps; else as given."""
    plain = _plain(options)
    scale = next((scale for scale in _SCALES if set(plain) <= set(scale)), None)
    return list(options) if scale is None else sorted(options, key=lambda option: scale.index(_plain([option])[0]))


def _plain(options: Sequence[str]) -> list[str]:
    return [" ".join(re.sub(r"\([^()]*\)", " ", option.casefold()).split()).strip(" .") for option in options]
