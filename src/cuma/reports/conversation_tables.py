"""Tables of held-out conversations and preference pairs: all people, who is served worst, and every group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cuma.metrics.figures import MISSING, estimate_text
from cuma.privacy.small_groups import MIN_PEOPLE, people_text
from cuma.reports.method_and_data import prompt_facts
from cuma.reports.side_tables import Listing
from cuma.reports.tables import SIDES
from cuma.runs.evidence import Evidence

HEADINGS = {
    "loss": "Loss ↓",
    "perplexity": "Perplexity ↓",
    "preference_accuracy": "Preference accuracy ↑",
    "likelier": "Chosen likelier ↑",
}
"""Figure → its heading."""
BY_GROUP = ("loss", "preference_accuracy", "likelier")
"""Figures that have a worst group and a table by group."""
NOTE = (
    "Loss: nats per token of the people’s own replies, every token alike; perplexity: its exponential. They "
    "compare models that share a tokenizer. Preference accuracy: how often the implicit reward (the log- "
    "probability of the chosen reply less that of the rejected one, both less the untouched model’s) is above 0; "
    "the untouched model itself has 0.5. Chosen likelier: the same without the untouched model. Brackets: 95 % "
    f"intervals; people are drawn, a person’s rows together. Groups of fewer than {MIN_PEOPLE} people, and groups "
    "that would give one away, are not shown, neither as worst nor as best. Small samples inflate worst and gap."
)
Results = Sequence[tuple[str, Mapping[str, Any]]]
"""(label, what conversations.json says) of each method."""


def conversation_listings(evidence: Evidence) -> list[Listing]:
    """`listings_of` all methods that scored conversations."""
    return listings_of(
        [(m.label, m.measurements["conversations"]) for m in evidence.methods if "conversations" in m.measurements]
    )


def listings_of(results: Results) -> list[Listing]:
    """All people, who is served worst, and a table by group for each figure; none without results."""
    made = [_whole(results), _worst(results), *(_groups(results, figure) for figure in BY_GROUP)]
    return [listing for listing in made if listing.rows]


def shown_figures(result: Mapping[str, Any], side: str) -> dict[str, Mapping[str, Any]]:
    """Figure → its entry, of a side, where that has enough people to be shown."""
    figures = result.get(side, {})
    return {name: figures[name] for name in HEADINGS if name in figures and figures[name]["n"]["people"] >= MIN_PEOPLE}


def _whole(results: Results) -> Listing:
    rows = []
    for label, result in results:
        for side in SIDES:
            if figures := shown_figures(result, side):
                n = [figures[name]["n"] for name in ("loss", "preference_accuracy") if name in figures]
                sizes = " · ".join(f"{of['rows']:,} of {people_text(of['people'])}" for of in n)
                texts = [estimate_text(figures.get(name)) for name in HEADINGS]
                rows.append((label, side, prompt_facts(result["asked"]), *texts, sizes))
    names = ", ".join(sorted({result["benchmark"] for _, result in results}))
    headings = ("Method", "Groups", "Told in the prompt", *HEADINGS.values(), "Rows, people")
    return Listing("conversations", f"Held-out conversations and preferences ({names})", headings, tuple(rows), NOTE)


def _worst(results: Results) -> Listing:
    rows = []
    for label, result in results:
        for side in SIDES:
            for name, of in shown_figures(result, side).items():
                if "worst" in of:
                    worst, gap = of["worst"], of["gap"]
                    cells = (worst["group"], estimate_text(worst), gap["best"], estimate_text(gap))
                    rows.append((label, side, HEADINGS[name], *cells))
    headings = ("Method", "Groups", "Figure", "Worst served", "Its figure", "Best served", "Gap")
    return Listing("conversations-worst", "Whose conversations are served worst", headings, tuple(rows))


def _groups(results: Results, figure: str) -> Listing:
    """A row per group, a column per method."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for label, result in results:
        for side in SIDES:
            for group, of in shown_figures(result, side).get(figure, {"by_group": {}})["by_group"].items():
                row = rows.setdefault((group, side), {"People": people_text(of["n"])})
                row[label] = estimate_text(of)
    columns = ("People", *(label for label, _ in results))
    texts = tuple((*key, *(row.get(name, MISSING) for name in columns)) for key, row in sorted(rows.items()))
    title = f"{HEADINGS[figure]} by group"
    return Listing(f"conversations-{figure.replace('_', '-')}", title, ("Group", "Groups", *columns), texts)
