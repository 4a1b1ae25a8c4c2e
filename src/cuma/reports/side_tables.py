"""Small tables beside the comparison, for page and paper: who is served worst, parts of profiles, and replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cuma.metrics.figures import MISSING, estimate_text, p_text, percent
from cuma.privacy.small_groups import MIN_PEOPLE, hidden, people_text
from cuma.reports.method_and_data import prompt_facts
from cuma.reports.tables import SIDES, shown_sides
from cuma.runs.evidence import Evidence
from cuma.runs.group_answers import true_answers
from cuma.runs.method import Method

NOT_SHOWN = "a group that is not shown"


@dataclass(frozen=True)
class Listing:
    """A table of texts; its first column is left-aligned."""

    key: str
    """Part of its label in LaTeX."""
    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    """What the page says under it."""


def small_listings(evidence: Evidence) -> list[Listing]:
    """The tables that stand beside the comparison; without any row, none."""
    return [listing for made in (inequality_listing, partial_listing) if (listing := made(evidence)) is not None]


INEQUALITY_HEADINGS = ("Method", "Groups", "Worst served", "Its soft EMD ↓", "Gap to the best ↓", "σ-inequity ↓")
INEQUALITY_NOTE = (
    "Worst served: the group with the largest soft EMD; gap: its distance from the smallest; σ-inequity: the standard "
    "deviation over groups. Small samples inflate all three, so that they are never 0. Brackets: 95 % intervals; {} "
    "are drawn, and the groups kept."
)


def inequality_listing(evidence: Evidence) -> Listing | None:
    """Worst group, gap and σ-inequity of every method and side, from scores.json; None where no run has them."""
    shown = set(true_answers(evidence)["group"])
    rows = [
        (method.label, side, *_worst(inequality, shown))
        for method in evidence.methods
        for side, inequality in method.inequality.items()
        if side in shown_sides(evidence)
        if inequality["worst_group"]["value"] is not None
    ]
    note = INEQUALITY_NOTE.format("questions" if evidence.of_shares else "people")
    return Listing("worst", "Who is served worst", INEQUALITY_HEADINGS, tuple(rows), note) if rows else None


def _worst(inequality: Mapping[str, Any], shown: set[str]) -> list[str]:
    """Who, and the three figures; of a group that is not shown no figure either, for it could be told from the rest:
    nor the gap, where the best served is such a group."""
    if inequality["worst_group"].get("group") not in shown:
        return [NOT_SHOWN, MISSING, MISSING, estimate_text(inequality["group_inequity"])]
    gap = estimate_text(inequality["group_gap"]) if inequality["group_gap"]["best"] in shown else MISSING
    return [
        inequality["worst_group"]["group"],
        estimate_text(inequality["worst_group"]),
        gap,
        estimate_text(inequality["group_inequity"]),
    ]


PARTIAL_NOTE = (
    "So much of each profile’s fields was told, drawn at random; at 0 % nobody in particular asks. What people said is "
    "the whole group’s throughout. Brackets: 95 % intervals."
)


def partial_listing(evidence: Evidence) -> Listing | None:
    """Soft EMD when only a part of each profile is known, from partial.json; None where no run has it."""
    methods = [method for method in evidence.methods if "partial" in method.measurements]
    files = [(method.label, method.measurements["partial"]) for method in methods]
    shares = sorted({share for _, file in files for share in file["shares"]})
    rows = []
    for label, file in files:
        for side in shown_sides(evidence):
            if side in file:
                known = dict(zip(file["shares"], file[side], strict=True))
                rows.append((label, side, *(estimate_text(known.get(share)) for share in shares)))
    headings = ("Method", "Groups", *map(percent, shares))
    caption = "Soft EMD ↓ by the share of each profile that is known"
    return Listing("partial", caption, headings, tuple(rows), PARTIAL_NOTE) if rows else None


CHOICE_HEADINGS = (
    "Method", "Groups", "Told", "Accuracy ↑", "Chance", "Macro-F1 ↑", "Brier ↓", "ECE ↓", "Option mass", "Choices",
    "People",
)  # fmt: skip


def choice_listings(evidence: Evidence) -> list[Listing]:
    """How often each method names the reply that a person preferred, and the same by group; none without such data."""
    methods = [method for method in evidence.methods if _sides(method)]
    if not methods:
        return []
    parts = [(method, side, method.choices[side]) for method in methods for side in _sides(method)]
    rows = tuple(
        (
            method.label, side, prompt_facts(method.choices.get("asked", {})),
            estimate_text(part["accuracy"], 2), f"{part['chance']:.2f}",
            *(estimate_text(part[name], 2) for name in ("macro_f1", "brier", "ece")),
            f"{part['option_mass']['value']:.2f}", people_text(part["n"]["choices"]), people_text(part["n"]["people"]),
        )
        for method, side, part in parts
    )  # fmt: skip
    caption = f"Preferred replies ({', '.join(sorted({method.choices['benchmark'] for method in methods}))})"
    listings = [Listing("choices", caption, CHOICE_HEADINGS, rows)]
    by_group = _by_group(caption, parts, [method.label for method in methods])
    return listings + ([by_group] if by_group.rows else [])


def _by_group(caption: str, parts: Sequence[tuple[Method, str, Mapping[str, Any]]], labels: list[str]) -> Listing:
    """A row per group that may be shown, a column per method."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for method, side, part in parts:
        for group in _shown(part):
            entry = part["by_group"][group]
            row = rows.setdefault((group, side), {"People": people_text(entry["n"])})
            row[method.label] = estimate_text(entry["accuracy"], 2)
    columns = ("People", *labels)
    ordered = sorted(rows.items())
    texts = tuple((group, side, *(row.get(name, MISSING) for name in columns)) for (group, side), row in ordered)
    return Listing("choices-by-group", f"{caption} by group: accuracy", ("Group", "Groups", *columns), texts)


def _shown(part: Mapping[str, Any]) -> list[str]:
    """The groups with an entry, less those that would give a small group away by subtraction from the total."""
    sizes: dict[str | None, int] = {group: entry["n"] for group, entry in part["by_group"].items()}
    unlisted = part["n"]["groups"] - len(sizes)
    if unlisted:
        sizes[None] = part["n"]["people"] - sum(sizes.values())  # all small groups together, as one that must go
        gone = hidden(sizes, frozenset([None])) if unlisted == 1 else hidden(sizes)
        return [group for group in part["by_group"] if group not in gone]
    return list(part["by_group"])


def choice_sentences(evidence: Evidence) -> list[str]:
    """One plain sentence for every method and side with choices."""
    return [
        _choice_sentence(method.label, side, method.choices[side])
        for method in evidence.methods
        for side in _sides(method)
    ]


def _sides(method: Method) -> list[str]:
    """The sides with enough people to be shown: one that is a single small group would be that group."""
    return [side for side in SIDES if method.choices.get(side, {"n": {"people": 0}})["n"]["people"] >= MIN_PEOPLE]


def _choice_sentence(label: str, side: str, part: Mapping[str, Any]) -> str:
    entry, chance = part["accuracy"], part["chance"]
    text = (
        f"On {side} groups {label} names the reply that the person preferred in {percent(entry['value'], 1)} of cases"
    )
    if entry["low"] is None:
        return f"{text}; guessing gives {percent(chance, 1)}."
    verdict = "not shown to be more than" if entry["low"] <= chance else "more than"
    if entry["high"] < chance:
        verdict = "less than"
    ends = f"95 % interval {percent(entry['low'], 1)} to {percent(entry['high'], 1)}"
    return f"{text} ({ends}): {verdict} the {percent(chance, 1)} of guessing."


DIVERSITY_HEADINGS = (
    "Method", "Prompts of", "Replies", "Blocks × words", "Distinct-1 ↑", "Distinct-2 ↑", "Self-BLEU ↓",
)  # fmt: skip
WIN_HEADINGS = (
    "Method", "Prompts of", "Against", "Judge", "Win rate ↑", "At equal length ↑", "p", "Orders agree", "Pairs",
    "People or groups",
)  # fmt: skip


def reply_listings(evidence: Evidence) -> list[Listing]:
    """How varied each method's replies are, and how often a judge prefers them; none where no run wrote any."""
    replies = [(method.label, method.replies) for method in evidence.methods if method.replies]
    diversity = [
        (
            label, file["benchmark"], str(file["texts"]), f"{file['blocks']} × {file['budget']}",
            *(estimate_text(file[name]) for name in ("distinct_1", "distinct_2", "self_bleu")),
        )
        for label, file in replies
    ]  # fmt: skip
    wins = [
        (label, file["benchmark"], *_win(file["judged"]))
        for label, file in replies
        if file.get("judged", {"n": {"people": 0}})["n"]["people"] >= MIN_PEOPLE
    ]
    listings = [
        Listing("diversity", "How varied replies are", DIVERSITY_HEADINGS, tuple(diversity)),
        Listing("wins", "Whose reply a judge prefers", WIN_HEADINGS, tuple(wins)),
    ]
    return [listing for listing in listings if listing.rows]


def _win(file: Mapping[str, Any]) -> list[str]:
    """The cells of one win_rate.json."""
    return [
        file["against"],
        file["judge"],
        estimate_text(file["win_rate"]),
        estimate_text(file["length_controlled_win_rate"]),
        MISSING if file["p"] is None else p_text(file["p"]),
        percent(file["position_consistency"], 1),
        f"{file['n']['judged']:,}",
        f"{file['n']['people']:,}",
    ]
