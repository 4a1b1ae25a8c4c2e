"""Small tables beside the comparison, for page and paper: who is served worst, parts of profiles, and replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cuma.privacy.small_groups import MIN_PEOPLE, hidden, people_text
from cuma.reports.collapse_and_gradients import estimate_text
from cuma.reports.method_and_data import told
from cuma.reports.tables import MISSING, SIDES, p_text, percent, shown_sides
from cuma.runs.answers import true_answers
from cuma.runs.evidence import Evidence, Method

NOT_SHOWN = "a group that is not shown"


@dataclass(frozen=True)
class Listing:
    """A table of texts; its first column is left-aligned."""

    key: str
    """Part of its label in LaTeX."""
    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


INEQUALITY_HEADINGS = ("Method", "Groups", "Worst served", "Its soft EMD ↓", "Gap to the best ↓", "σ-inequity ↓")
INEQUALITY_NOTE = (
    "Worst served: the group with the largest soft EMD; gap: its distance from the smallest; σ-inequity: the standard "
    "deviation over groups. Small samples inflate all three, so that they are never 0."
)


def inequality_listing(evidence: Evidence) -> Listing | None:
    """Worst group, gap and σ-inequity of every method and side, from scores.json; None where no run has them."""
    shown = set(true_answers(evidence)["group"])
    rows = [
        (method.label, side, *_worst(found, shown))
        for method in evidence.methods
        for side, found in method.inequality.items()
        if side in shown_sides(evidence)
        if found["worst_group"]["value"] is not None
    ]
    return Listing("worst", "Who is served worst", INEQUALITY_HEADINGS, tuple(rows)) if rows else None


def _worst(found: Mapping[str, Any], shown: set[str]) -> list[str]:
    """Who, and the three figures; of a group that is not shown no figure either, for it could be told from the rest:
    nor the gap, where the best served is such a group."""
    if found["worst_group"].get("group") not in shown:
        return [NOT_SHOWN, MISSING, MISSING, estimate_text(found["group_inequity"], 3)]
    gap = estimate_text(found["group_gap"], 3) if found["group_gap"]["best"] in shown else MISSING
    return [
        found["worst_group"]["group"],
        estimate_text(found["worst_group"], 3),
        gap,
        estimate_text(found["group_inequity"], 3),
    ]


PARTIAL_NOTE = (
    "So much of each profile’s fields was told, drawn at random; at 0 % nobody in particular asks. What people said is "
    "the whole group’s throughout."
)


def partial_listing(evidence: Evidence) -> Listing | None:
    """Soft EMD when only a part of each profile is known, from partial.json; None where no run has it."""
    found = [(method.label, method.measured["partial"]) for method in evidence.methods if "partial" in method.measured]
    shares = sorted({share for _, partial in found for share in partial["shares"]})
    rows = []
    for label, partial in found:
        for side in shown_sides(evidence):
            if side in partial:
                known = dict(zip(partial["shares"], partial[side], strict=True))
                rows.append((label, side, *(estimate_text(known.get(share), 3) for share in shares)))
    headings = ("Method", "Groups", *map(percent, shares))
    return (
        Listing("partial", "Soft EMD ↓ by the share of each profile that is known", headings, tuple(rows))
        if rows
        else None
    )


CHOICE_HEADINGS = (
    "Method", "Groups", "Told", "Accuracy ↑", "Chance", "Macro-F1 ↑", "Brier ↓", "ECE ↓", "Option mass", "Choices",
    "People",
)  # fmt: skip


def choice_listings(evidence: Evidence) -> list[Listing]:
    """How often each method names the reply that a person preferred, and the same by group; none without such data."""
    asked = [method for method in evidence.methods if _sides(method)]
    if not asked:
        return []
    found = [(method, side, method.choices[side]) for method in asked for side in _sides(method)]
    rows = tuple(
        (
            method.label, side, told(method.choices.get("asked", {})),
            estimate_text(part["accuracy"]), f"{part['chance']:.2f}",
            *(estimate_text(part[name]) for name in ("macro_f1", "brier", "ece")),
            f"{part['option_mass']['value']:.2f}", people_text(part["n"]["choices"]), people_text(part["n"]["people"]),
        )
        for method, side, part in found
    )  # fmt: skip
    caption = f"Preferred replies ({', '.join(sorted({method.choices['benchmark'] for method in asked}))})"
    listings = [Listing("choices", caption, CHOICE_HEADINGS, rows)]
    by_group = _by_group(caption, found, [method.label for method in asked])
    return listings + ([by_group] if by_group.rows else [])


def _by_group(caption: str, found: Sequence[tuple[Method, str, Mapping[str, Any]]], labels: list[str]) -> Listing:
    """A row per group that may be shown, a column per method."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for method, side, part in found:
        for group in _shown(part):
            entry = part["by_group"][group]
            row = rows.setdefault((group, side), {"People": people_text(entry["n"])})
            row[method.label] = estimate_text(entry["accuracy"])
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
    written = [(method.label, method.replies) for method in evidence.methods if method.replies]
    varied = [
        (
            label, found["benchmark"], str(found["texts"]), f"{found['blocks']} × {found['budget']}",
            *(estimate_text(found[name], 3) for name in ("distinct_1", "distinct_2", "self_bleu")),
        )
        for label, found in written
    ]  # fmt: skip
    judged = [
        (label, found["benchmark"], *_win(found["judged"]))
        for label, found in written
        if found.get("judged", {"n": {"people": 0}})["n"]["people"] >= MIN_PEOPLE
    ]
    listings = [
        Listing("diversity", "How varied replies are", DIVERSITY_HEADINGS, tuple(varied)),
        Listing("wins", "Whose reply a judge prefers", WIN_HEADINGS, tuple(judged)),
    ]
    return [listing for listing in listings if listing.rows]


def _win(found: Mapping[str, Any]) -> list[str]:
    """The cells of one win_rate.json."""
    return [
        found["against"],
        found["judge"],
        estimate_text(found["win_rate"], 3),
        estimate_text(found["length_controlled_win_rate"], 3),
        MISSING if found["p"] is None else p_text(found["p"]),
        percent(found["position_consistency"], 1),
        f"{found['n']['judged']:,}",
        f"{found['n']['people']:,}",
    ]
