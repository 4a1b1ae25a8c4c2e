"""What options mean: which are no answer at all, and which are steps on a scale."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

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
_CODE = re.compile(r"\A[-−]?\d{1,5}\s*[.:)=]?\s+(?=\D)")
_SCALES = (
    ("very good", "good", "somewhat good", "neither good nor bad", "somewhat bad", "bad", "very bad"),
    ("very favorable", "mostly favorable", "somewhat favorable", "somewhat unfavorable", "mostly unfavorable",
     "very unfavorable"),
    ("strongly agree", "completely agree", "agree strongly", "agree", "mostly agree", "somewhat agree",
     "neither agree nor disagree", "somewhat disagree", "mostly disagree", "disagree", "disagree strongly",
     "completely disagree", "strongly disagree"),
    ("very important", "rather important", "somewhat important", "fairly important", "not very important",
     "not too important", "not at all important", "not important at all"),
    ("a great deal", "quite a lot", "a fair amount", "some", "not very much", "not too much", "none at all",
     "not at all"),
    ("a lot", "some", "not too much", "not much", "nothing at all", "no confidence at all", "not at all"),
    ("a lot of confidence", "some confidence", "not too much confidence", "no confidence at all"),
    ("very satisfied", "somewhat satisfied", "somewhat dissatisfied", "very dissatisfied"),
    ("very big problem", "moderately big problem", "small problem", "not a problem at all"),
    ("a very big problem", "a moderately big problem", "a small problem", "not a problem at all"),
    ("very serious", "somewhat serious", "not too serious", "not a problem", "not at all serious"),
    ("major threat", "minor threat", "not a threat"),
    ("very concerned", "somewhat concerned", "not too concerned", "not at all concerned"),
    ("very worried", "somewhat worried", "not too worried", "not at all worried"),
    ("very much", "a great deal", "a good deal", "somewhat", "not much", "a little", "not at all"),
    ("very happy", "rather happy", "quite happy", "not very happy", "not at all happy"),
    ("very likely", "somewhat likely", "somewhat unlikely", "not too likely", "very unlikely", "not at all likely"),
    ("very proud", "quite proud", "not very proud", "not at all proud"),
    ("very interested", "somewhat interested", "not very interested", "not at all interested"),
    ("always", "almost always", "very often", "often", "frequently", "sometimes", "occasionally", "rarely",
     "hardly ever", "almost never", "never"),
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
    plain = _CODE.sub("", plain)
    bare = re.sub(r"\([^()]*\)|\[[^][]*\]", " ", plain)
    plain = (bare if re.search(r"\w", bare) else plain).strip(" ()[].-–")
    if _MISSING.match(plain) or _NO_ANSWER.fullmatch(plain):
        return True
    parts = [part.strip(" .-–") for part in re.split(r"[/;,]|\bor\b", plain)]
    parts = [part for part in parts if part and not _WEAK.fullmatch(part)]
    return bool(parts) and all(_NO_ANSWER.fullmatch(part) for part in parts)


def is_ordinal(options: Sequence[str]) -> bool:
    """Whether three or more options are known to be steps on a scale, else False.

    They are if they stand in the order of a known scale, or in its reverse, without any other option; or if they begin
    with whole numbers that go up or down by one, and some are nothing else ("1 Not at all", "2", …).
    """
    if len(options) < 3:
        return False
    numbers = [re.match(r"-?\d{1,3}(?![\d.,%:–-])", option) for option in options]
    if all(numbers):
        values = [int(match[0]) for match in numbers if match]
        steps = {after - before for before, after in itertools.pairwise(values)}
        return steps in ({1}, {-1}) and any(match[0] == match.string for match in numbers if match)
    plain = [" ".join(re.sub(r"\([^()]*\)", " ", option.casefold()).split()).strip(" .") for option in options]
    for scale in _SCALES:
        if set(plain) <= set(scale):
            places = [scale.index(option) for option in plain]
            if places == sorted(places) or places == sorted(places, reverse=True):
                return True
    return False
