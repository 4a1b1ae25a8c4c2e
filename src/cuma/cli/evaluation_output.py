"""What `cuma evaluate` shows of its results; everything is in the files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from cuma.cli.conversation_output import print_conversations, print_table
from cuma.metrics.figures import design_text, effect_text, estimate_text, number
from cuma.metrics.nearness import UNSEEN, nearness_sentence, way_of
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
    """The scores of an evaluation: choices among replies, answers to questions, or conversations."""
    choices, conversations = folder / "discrimination.json", folder / "conversations.json"
    if choices.is_file():
        _print_choices(read_json(choices))
    elif conversations.is_file() and not (folder / "scores.json").is_file():
        print_conversations(read_json(conversations))
    else:
        _print_answers(folder, read_json(folder / "scores.json"))


def _print_answers(folder: Path, scores: dict[str, Any]) -> None:
    """The figures that matter most, seen and unseen groups; all of them are in scores.json."""
    sides = _shown_sides({side: scores["n"][side] for side in ("seen", "unseen") if side in scores})
    new = _print_corners(scores) and any(corner in scores["corners"] for corner in UNSEEN)
    table = Table("Metric", *(f"{side.capitalize()} groups{', unseen items' if new else ''}" for side in sides))
    for metric in SHOWN:
        if any(scores[side].get(metric, {}).get("value") is not None for side in sides):
            table.add_row(metric, *(estimate_text(scores[side].get(metric, {"value": None})) for side in sides))
    Console().print(table)
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
    orders = f"; options in {protocol['option_orders']} order" if "option_orders" in protocol else ""
    prompting = f"{protocol.get('prompting')}{orders}"
    typer.echo(f"Prompting: {prompting}; option probabilities from {source}. All: {folder / 'scores.json'}")


def _print_corners(scores: dict[str, Any]) -> bool:
    """Soft EMD by what was new, a row for each corner, and the anchors'; False without corners, where it is not known
    what was new."""
    from cuma.reports.corner_table import ANCHOR, corner_rows_of, shown_corners

    headings, rows = corner_rows_of(scores)
    if not rows:
        return False
    anchors = [row for row in rows if row[0].startswith(ANCHOR)]
    columns = [row for row in rows if row not in anchors]
    print_table(
        "Four corners, by what was new (95 % intervals: items and groups drawn)",
        ("", *(row[0] for row in columns)),
        list(zip((name.replace("· ", "·\n") for name in headings[1:]), *(row[1:] for row in columns), strict=True)),
    )
    if anchors:
        texts = [(row[0].removeprefix(ANCHOR), *(text.partition(" [")[0] for text in row[1:])) for row in anchors]
        print_table("Soft EMD of anchors, which need no language model", headings, texts)
    _print_absent(scores)
    for name in scores["corners"]:
        if name not in shown_corners(scores["corners"]):
            typer.echo(f"{name.capitalize()}: fewer than {MIN_PEOPLE} people, too few to show.")
    _print_nearness(scores)
    return True


def _print_absent(scores: dict[str, Any]) -> None:
    """Anchors that say nothing, and those that did not read all, with the reason."""
    absent: dict[str, list[str]] = {}
    for anchor in scores.get("anchors", {}).values():
        if "absent" in anchor:
            absent.setdefault(anchor["absent"], []).append(anchor["label"])
        elif anchor.get("left_out"):
            typer.echo(f"Anchor “{anchor['label']}”: {anchor['left_out']:,} training cells left out, too many to fit.")
    for reason, labels in absent.items():
        typer.echo(f"No anchor “{'”, “'.join(labels)}”: {reason}")


def _print_nearness(scores: dict[str, Any]) -> None:
    """Soft EMD of the unseen items that are near to one of training, and of the others; scores.json has all items."""
    from cuma.reports.item_table import nearness_columns, nearness_headings

    items = scores.get("held_out_items")
    if not items:
        return
    sides = scores.get("by_nearness", {})
    columns, sizes = nearness_columns(sides)
    if columns:
        figures = ("Soft EMD ↓", *(estimate_text(sides[side][corner]["soft_emd"]) for side, corner in columns))
        heads = nearness_headings(columns)[1:]
        rows = list(zip(heads, *(row[1:] for row in (*sizes, figures)), strict=True))
        print_table("Near and far unseen items", ("", *(row[0] for row in (*sizes, figures))), rows)
    typer.echo(nearness_sentence(items))
    if way_of(items) != "meaning":
        typer.echo("How near they are by meaning is not known: the recipe’s encoder is not on this machine.")


def print_differences(result: dict[str, Any]) -> None:
    """Soft EMD of this run minus each other's, with Holm's p; by what was new, where that is known. result: what
    differences.json holds; a part of few people is left out where its `n` says how many there are."""
    table = Table("Against", "On", "Soft EMD, this minus that", "p", "p (Holm)", title=None)
    compared = {side for sides in result["differences"].values() for side in sides} - {"corners"}
    sides = _shown_sides(_sizes(result, compared))
    sizes = result.get("n", {}).get("corners", {})
    for name, parts in result["differences"].items():
        corners = parts.get("corners", {})
        shown = {corner: corners[corner] for corner in corners if not _few(sizes.get(corner, {}))}
        shown = shown or {f"{side} groups": parts[side] for side in sides if side in parts}
        for part, metrics in shown.items():
            entry = metrics["soft_emd"]
            table.add_row(name, part, estimate_text(entry), number(entry["p"]), number(entry["p_holm"]))
    Console().print(table)


def _few(sizes: dict[str, Any]) -> bool:
    return bool(sizes.get("people", MIN_PEOPLE) < MIN_PEOPLE)


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
