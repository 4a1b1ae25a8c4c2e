"""Names and labels that columns of survey files have, by what they are. Only for drafts, which a person reads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cuma.data.builders.questionnaire import Role


@dataclass(frozen=True)
class Words:
    """What the columns of one kind are called."""

    role: Role
    names: re.Pattern[str]
    """Whole names, in lower case."""
    labels: re.Pattern[str] | None = None
    """Parts of labels, in lower case and without what surveys put around them."""
    field: str = ""
    source: str = ""


def _words(role: Role, names: str, labels: str = "", field: str = "", source: str = "") -> Words:
    return Words(role, re.compile(names), re.compile(labels) if labels else None, field, source)


KINDS = (
    _words(
        "person",
        r"((case|resp|respondent|person|unique|interview|d_interview)_?)?(id|idno|uid|pid|caseno|serial)|d_interview"
        r"|mergeid",
        r"\b(case|respondent|person|interview|unique|identification) ?(id|number|identifier)\b",
    ),
    _words(
        "weight",
        r"anweight|pspwght|pweight|dweight|weights?|wei?ghtvec|wtss\w*|w_?weight|s017|(.+_)?(weights?|wgt|wt)",
        r"\bweights?\b",
    ),
    _words("stratum", r"v?strat(um|a)?(_?id)?|vstrat|varstrat|sdmvstra", r"\bstrat(um|a)\b"),
    _words(
        "unit",
        r"v?psu(_?id)?|cluster(_?id)?|sdmvpsu|sampling_?unit",
        r"\b(sampling unit|psu|variance unit|cluster)\b",
    ),
    _words("replicate", r"(rep_?w\w*?|brr\w*?|fay\w*?|jk\w*?|bsw\w*?|boot\w*?|wtrep\w*?|w_fstu?r\w*?|pwgtp)_?\d+"),
    _words(
        "wave",
        r"wave|round|essround|year|survey_?year|int_?year|s020|a_year",
        r"^wave\b|\b(survey|interview) year\b|\byear of (the )?(survey|interview)",
    ),
    _words(
        "language", r"lang\w*|s_?intlanguage|intlang|lnghh?1?", r"\blanguage of (the )?interview|interview language"
    ),
    _words(
        "profile", r"ages?|agea|age_?r|age_?years|x003|respage", r"^(respondent'?s? )?age\b|\bhow old are you\b", "age"
    ),
    _words(
        "profile",
        r"birth_?ye?a?r|yrbrn\w?|year_?of_?birth|byear|yob|x002",
        r"\byear of birth|\bbirth ?year|\byear born",
        "age",
        "birth_year",
    ),
    _words(
        "profile",
        r"sex|gender|gndr|female|male|x001|sexr",
        r"^(respondent'?s? |what is your )?(sex|gender)\b|\b(sex|gender) of (the )?respondent",
        "sex",
    ),
    _words("profile", r"race\w?|race_?eth\w*|ethnic\w*", r"\brace\b|\bethnic(ity| group)\b", "ethnicity"),
    _words(
        "profile",
        r"relig|religion|denom\w*|rlgdnm|f025",
        r"^(respondent'?s? )?religio(n|us denomination)\b|denomination",
        "religion",
    ),
    _words("profile", r"country\w?|cntry|b_country\w*|nation|s003|cntry_an", r"^country\b", "country"),
    _words(
        "profile",
        r"birth_?country|cntbrth\w?|country_?of_?birth",
        r"\bcountry of birth|\bborn in which country",
        "birth_country",
    ),
    _words("profile", r"region\w?|state|province|x048\w*", r"^(region|state|province)\b", "region"),
    _words(
        "profile", r"urban\w*|rural\w*|domicil|h_urbrural", r"\burban\b.*\brural\b|\brural\b.*\burban\b", "urban_rural"
    ),
    _words(
        "profile",
        r"educ?|education\w*|educat\w*|eisced\w*|edulvl\w*|degree|x025\w*",
        r"^(respondent'?s? )?(highest )?(level of )?education\b|\bhighest (level of )?(education|degree)"
        r"|educational (level|attainment)",
        "education",
    ),
    _words(
        "profile",
        r"empl|employment\w*|wrkstat|mnactic|emplrel|x028|job_?status",
        r"\bemployment status\b|^labou?r force",
        "employment",
    ),
    _words("profile", r"marital\w*|maritalb|x007|marstat", r"\bmarital status\b", "marital"),
    _words(
        "profile",
        r"party_?id\w*|partyid|pid_?[37]\w*|pid",
        r"\bparty id(entification)?$|^party id(entification)?\b",
        "party",
    ),
)
"""In the order in which they are looked for."""
ADMINISTRATION = re.compile(
    r"\brow ?names?\b|\bunnamed\b|\bmode of (the )?interview|\binterviewer\b"
    r"|\binterview.*\b(date|start|end|length|duration|time)\b"
    r"|\b(date|time|start|end|length|duration) of\b.*\binterview|\bversion\b|\bedition\b|\bstint|\btimestamp\b"
    r"|\b(total|family|household).*\bincome\b|\bincome\b.*\b(amount|amt|total|household)\b"
)
"""In a name or a label: about the interview, or a fact that profiles have no field for. Never what people think."""


def bare(label: str) -> str:
    """A label in lower case, without tags before it ("PRE: SUMMARY: "), brackets and who is meant ("R's")."""
    text = re.sub(r"^([A-Z][A-Z-]+: )+", "", label)
    text = re.sub(r"\[[^\]]*\]|\(R\)|^R: |\bR('s)? ", " ", text)
    return " ".join(text.casefold().split())


def likeness(words: Words, name: str, label: str) -> int:
    """How much a column looks like one of these: 0, not at all; by its label, its name, or both."""
    found = 3 * bool(words.names.fullmatch(name.casefold()))
    if words.labels and words.labels.search(bare(label)):
        found += 2 + ("SUMMARY" in label)
    return found
