"""What `cuma evaluate` shows of its results; everything is in the files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from cuma.metrics.figures import design_text, effect_text, estimate_text, number
from cuma.privacy.small_groups import MIN_PEOPLE, people_text
from cuma.runs.folder import read_json


def print_replies(result: dict[str, Any]) -> None:
    """How varied the replies are."""
    figures = ", ".join(f"{name} {estimate_text(result[name])}" for name in ("distinct_1", "distinct_2", "self_bleu"))
    typer.echo(f"{result['texts']} replies; in {result['blocks']} blocks of {result['budget']} tokens: {figures}")


def print_alarms(alarms: list[dict[str, Any]], file: Path) -> None:
    """Those about all questions together, and how many others there are. file: collapse.json, beside the scores."""
    sides = _shown_sides(read_json(file.parent / "scores.json")["n"])
    alarms = [alarm for alarm in alarms if alarm["side"] in sides]
    whole = [alarm for alarm in alarms if alarm["question"] is None and alarm["kind"] != "erased"]
    for alarm in whole:
        typer.echo(f"⚠ {alarm['sentence']}")
    erased = sum(alarm["kind"] == "erased" for alarm in alarms)
    if erased:
        typer.echo(f"⚠ {erased} groups are erased: what is said for them fits another group's people better.")
    single = len(alarms) - len(whole) - erased
    typer.echo(f"{single} alarms about single questions. All: {file}" if alarms else f"No alarm. All: {file}")


SHOWN = (
    "soft_emd", "noise_floor", "accuracy", "macro_f1", "js_similarity", "ece", "spread", "alignment", "steerability",
)  # fmt: skip


def print_scores(folder: Path) -> None:
    """The scores of an evaluation: choices among replies, or answers to questions."""
    choices = folder / "discrimination.json"
    if choices.is_file():
        _print_choices(read_json(choices))
    else:
        _print_answers(folder, read_json(folder / "scores.json"))


def _print_answers(folder: Path, scores: dict[str, Any]) -> None:
    """The figures that matter most, seen and unseen groups; all of them are in scores.json."""
    sides = _shown_sides({side: scores["n"][side] for side in ("seen", "unseen") if side in scores})
    table = Table("Metric", *(f"{side.capitalize()} groups" for side in sides))
    for metric in SHOWN:
        if any(scores[side].get(metric, {}).get("value") is not None for side in sides):
            table.add_row(metric, *(estimate_text(scores[side].get(metric, {"value": None})) for side in sides))
    Console().print(table)
    _print_corners(scores)
    if scores.get("design"):
        typer.echo(design_text(scores["design"]))
    for side in sides:
        if effect := effect_text(scores["n"][side].get("design_effect")):
            typer.echo(f"{side.capitalize()} groups: {effect}, over groups and questions of at least 11 people.")
        if scores[side]["option_mass"].get("low_mass"):
            mass = scores[side]["option_mass"]["value"]
            typer.echo(f"⚠ On {side} groups only {mass:.0%} of the probability is on the answer letters.")
    _print_protocol(scores.get("asked") or {}, folder)


def _print_protocol(protocol: dict[str, Any], folder: Path) -> None:
    """How the model was asked, and what was not."""
    if protocol.get("questions_with_too_many_options"):
        typer.echo(
            f"⚠ {protocol['questions_with_too_many_options']} questions have more options than letters: not asked."
        )
    sampled = f"{protocol.get('samples')} samples a prompt"
    source = sampled if protocol.get("answers") == "samples" else protocol.get("answers")
    if protocol.get("sampled_rows") and source != sampled:
        source = f"{source} and, of {protocol['sampled_rows']} prompts with too many options for them, {sampled}"
    if protocol.get("beyond_top"):
        typer.echo(
            f"{protocol['beyond_top']} options were not among the likeliest tokens that the server names: 0 each."
        )
    if protocol.get("template") == "plain":
        typer.echo("The model has no chat template: it was asked in plain paragraphs.")
    typer.echo(
        f"Prompting: {protocol.get('prompting')}; option probabilities from {source}. All: {folder / 'scores.json'}"
    )


def _print_corners(scores: dict[str, Any]) -> None:
    """Soft EMD by what was new, and the anchors'; nothing where that is not known."""
    from cuma.reports.corner_table import corner_rows_of

    headings, rows = corner_rows_of(scores)
    if not rows:
        return
    table = Table(*headings, title="By what was new (soft EMD)", title_justify="left")
    for cells in rows:
        table.add_row(*cells)
    Console().print(table)
    absent: dict[str, list[str]] = {}
    for anchor in scores.get("anchors", {}).values():
        if "absent" in anchor:
            absent.setdefault(anchor["absent"], []).append(anchor["label"])
        elif anchor.get("left_out"):
            typer.echo(f"Anchor “{anchor['label']}”: {anchor['left_out']:,} training cells left out, too many to fit.")
    for reason, labels in absent.items():
        typer.echo(f"No anchor “{'”, “'.join(labels)}”: {reason}")


def print_differences(result: dict[str, Any]) -> None:
    """Soft EMD of this run minus each other's, with Holm's p. result: what differences.json holds; a side
    of few people is left out where `n` says how many there are."""
    table = Table("Against", "Groups", "Soft EMD, this minus that", "p", "p (Holm)", title=None)
    compared = {side for sides in result["differences"].values() for side in sides}
    shown = _shown_sides(_sizes(result, compared))
    for name, sides in result["differences"].items():
        parts = {side: sides[side] for side in shown if side in sides} | sides.get("corners", {})
        for side, metrics in parts.items():
            entry = metrics["soft_emd"]
            table.add_row(name, side, estimate_text(entry), number(entry["p"]), number(entry["p_holm"]))
    Console().print(table)


def _print_choices(result: dict[str, Any]) -> None:
    """How often the model names the reply that the person preferred."""
    for side in _shown_sides({side: result[side]["n"] for side in ("seen", "unseen") if side in result}):
        n = result[side]["n"]
        typer.echo(
            f"{side.capitalize()} groups: the preferred one of {round(1 / result[side]['chance'])} replies named in "
            f"{estimate_text(result[side]['accuracy'])} (chance {result[side]['chance']:.2f}); macro-F1 "
            f"{estimate_text(result[side]['macro_f1'])}; Brier {estimate_text(result[side]['brier'])}; option mass "
            f"{result[side]['option_mass']['value']:.2f}; {n['choices']:,} choices of {n['people']:,} people."
        )


def _shown_sides(n: dict[str, dict[str, Any]]) -> list[str]:
    """The sides with enough people to be shown: one with fewer would be a small group; shares have no people."""
    few = [side for side in n if n[side].get("people", MIN_PEOPLE) < MIN_PEOPLE]
    for side in few:
        typer.echo(f"{side.capitalize()} groups: {people_text(n[side]['people'])} people, too few to show.")
    return [side for side in n if side not in few]


def _sizes(result: dict[str, Any], there: Collection[str]) -> dict[str, dict[str, Any]]:
    """Each side's `n`, of the sides that are there; empty where it is not known."""
    return {side: result.get("n", {}).get(side, {}) for side in ("seen", "unseen") if side in there}


def print_partial(result: dict[str, Any]) -> None:
    """A line for each share of the fields: soft EMD with its interval, seen and unseen groups. result: what
    partial.json holds; a side of few people is left out where `n` says how many there are."""
    sides = _shown_sides(_sizes(result, result))
    table = Table("Fields known", *(f"Soft EMD, {side} groups" for side in sides))
    for place, share in enumerate(result["shares"]):
        table.add_row(f"{share:.0%}", *(estimate_text(result[side][place]) for side in sides))
    Console().print(table)


def print_win_rate(result: dict[str, Any]) -> None:
    """The rates, and how far to trust the judge; of few people only that they are few."""
    people = result["n"]["people"]
    if people < MIN_PEOPLE:
        typer.echo(f"Win rate: of the replies to {people_text(people)} people, too few to show.")
        return
    rates = [estimate_text(result[name]) for name in ("win_rate", "length_controlled_win_rate")]
    typer.echo(
        f"Win rate against {result['against']}, by {result['judge']}: {rates[0]}; at equal length {rates[1]}; p of an "
        f"even match {number(result['p'])}; the two orders agree on {result['position_consistency']:.0%} of "
        f"{result['n']['judged']} pairs; {result['invalid']} invalid verdicts; {result['failures']} of "
        f"{result['requests']} requests failed."
    )
