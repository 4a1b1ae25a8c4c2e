"""The method and data cards at the end of the page: how each run was made, of whom, and under which licences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cuma.metrics.figures import design_text
from cuma.privacy.small_groups import people_text
from cuma.runs.evidence import Evidence
from cuma.runs.method import Method

ABSENT = "–"
SETTINGS: tuple[tuple[str, tuple[str, str]], ...] = (
    ("Method", ("adapter", "method")),
    ("Experts", ("adapter", "num_experts")),
    ("Used per token", ("adapter", "top_k")),
    ("Router reads", ("adapter", "router_input")),
    ("Rank", ("adapter", "r")),
    ("Layers", ("adapter", "last_layers")),
    ("Profile goes to", ("data", "profile_in")),
    ("Steps", ("training", "max_steps")),
    ("Batch", ("training", "per_device_train_batch_size")),
    ("Learning rate", ("training", "learning_rate")),
)
"""Heading and place in the recipe. A recipe need not say everything: what it leaves out is the package's default."""
MIXTURE_ONLY = ("num_experts", "top_k", "router_input")
PROMPTED = {"persona": "who asks", "none": "nothing", "few_shot": "four answers of the group"}
ORDERS = {"natural": "; scales in their own order and reversed", "fixed": "; options in one order"}
SOURCES = {
    "logits": "the letters’ logits",
    "logprobs": "a server’s log-probabilities",
    "samples": "{samples} samples a prompt",
}
FACTS = {
    "seed": "Training seed",
    "hardware": "Machine",
    "versions": "Versions",
    "command": "Command",
    "licences": "Licences",
}
"""Keys of run.json that are said once for all runs that agree."""


def method_card(evidence: Evidence) -> tuple[list[str], list[list[str]]]:
    """Headings and a row per model: the settings that its recipe states, and how it was asked; anchors have none."""
    models = [method for method in evidence.methods if method.role != "anchor"]
    rows = [
        [
            method.label,
            *(_setting(method, *place) for _, place in SETTINGS),
            prompt_facts(method.protocol),
            _probabilities(method.protocol),
        ]
        for method in models
    ]
    headings = ["Run", *(heading for heading, _ in SETTINGS), "Told in the prompt", "Probabilities from"]
    kept = [i for i in range(len(headings)) if i == 0 or any(row[i] != ABSENT for row in rows)]
    return [headings[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _setting(method: Method, section: str, key: str) -> str:
    sections = method.recipe
    kind = sections.get("adapter", {}).get("method")
    if section != "data" and key != "method" and (kind in (None, "none") or (kind != "cuma" and key in MIXTURE_ONLY)):
        return ABSENT
    value = sections.get(section, {}).get(key)
    return ABSENT if value is None else str(value)


def prompt_facts(protocol: Mapping[str, Any]) -> str:
    """What the prompt says about who asks. protocol: `Method.protocol`; may be empty."""
    text = PROMPTED.get(protocol.get("prompting", ""), ABSENT)
    text += ", in plain paragraphs" if protocol.get("template") == "plain" else ""
    return text + ORDERS.get(protocol.get("option_orders", ""), "")


def _probabilities(protocol: Mapping[str, Any]) -> str:
    """Where the shares of the options come from."""
    source = SOURCES.get(protocol.get("answers", ""), ABSENT).format(samples=protocol.get("samples"))
    if protocol.get("answers") != "logprobs":
        return source
    if protocol.get("sampled_rows"):
        source += f"; {protocol['samples']} samples of each of {protocol['sampled_rows']} prompts with too many options"
    unnamed = protocol.get("beyond_top")
    return f"{source}; {unnamed} options that it did not name count as 0" if unnamed else source


def read_from(evidence: Evidence) -> str:
    """How answers became shares of the options, for a sentence about all methods."""
    sampling = {method.protocol["answers"] == "samples" for method in evidence.methods if method.protocol}
    ways = {False: "read from the probabilities of the answer letters", True: "counted in sampled replies"}
    if len(sampling) == 2:
        return f"{ways[False]} or, where the method card says so, {ways[True]},"
    return ways[sampling == {True}]


def over_orders(evidence: Evidence) -> str:
    """In which orders of the options all methods were asked, for a sentence."""
    fewer = any(method.protocol.get("option_orders") for method in evidence.methods)
    return "averaged over the orders in which the options can stand" + (
        ", or over the fewer that the method card names" if fewer else ""
    )


def design_sentence(evidence: Evidence) -> str:
    """What intervals know of how people were drawn; empty where there are no people."""
    if evidence.of_shares or evidence.people.empty:
        return ""
    return design_text(None if evidence.design is None else evidence.design.facts())


def data_card(evidence: Evidence) -> list[tuple[str, str]]:
    """Source, citation, licence and sizes of the data, each once; sizes of under 11 people are words."""
    rows: dict[str, list[str]] = {}
    for method in evidence.methods:
        data = method.info.get("data")
        for key, value in (data if isinstance(data, Mapping) else {}).items():
            rows.setdefault(key.replace("_", " ").capitalize(), []).append(plain(value))
        population = method.info.get("population", {})
        trained = population.get("people", ABSENT)
        if "shares" in population:
            groups = len(population["groups"]) + population["hidden_groups"]
            of = f"{groups} groups on {len(population['questions']):,} questions"
            rows.setdefault("Trained on", []).append(f"{population['shares']:,} cells, shares of {of}")
        elif trained != ABSENT:
            count = people_text(trained) if trained is not None else people_text(0)
            rows.setdefault("People trained on", []).append(count)
    for seen, heading in ((True, "Tested, seen groups"), (False, "Tested, unseen groups")):
        side = evidence.people[evidence.people["seen"] == seen]
        if len(side) and evidence.of_shares:
            rows[heading] = [f"shares of {side['group'].nunique()} groups on {side['question_id'].nunique()} questions"]
        elif len(side):
            people = people_text(int(side["person"].nunique()))
            rows[heading] = [f"{people} people in {side['group'].nunique()} groups"]
    return [(heading, " · ".join(dict.fromkeys(values))) for heading, values in rows.items()]


def facts(evidence: Evidence) -> list[tuple[str, str]]:
    """What the runs recorded about machine, seed, versions and licences; each value once."""
    rows = []
    for key, name in FACTS.items():
        values = [method.info[key] for method in evidence.methods if method.info.get(key) not in (None, "", {}, [])]
        if values:
            rows.append((name, " · ".join(dict.fromkeys(map(plain, values)))))
    return rows


def plain(value: Any) -> str:
    """A value of run.json as a line of text; nested ones as "name: value; name: value"."""
    if isinstance(value, dict):
        return "; ".join(f"{key}: {plain(inner)}" for key, inner in value.items() if inner is not None)
    return ", ".join(plain(inner) for inner in value) if isinstance(value, list) else str(value)
