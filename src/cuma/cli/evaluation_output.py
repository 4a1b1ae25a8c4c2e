"""What `cuma evaluate` shows of what it found; everything is in the files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import typer


def print_replies(found: dict[str, Any]) -> None:
    """How varied the replies are."""
    figures = ", ".join(f"{name} {figure(found[name])}" for name in ("distinct_1", "distinct_2", "self_bleu"))
    typer.echo(f"{found['texts']} replies; in {found['blocks']} blocks of {found['budget']} tokens: {figures}")


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    text = "–" if value is None else f"{value:.3f}"
    return text.removeprefix("-") if text == "-0.000" else text


def print_alarms(alarms: list[dict[str, Any]], file: Path) -> None:
    """Those about all questions together, and how many others there are. file: collapse.json, beside the scores."""
    from cuma.runs.folder import read_json

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


def print_found(folder: Path) -> None:
    """What an evaluation found: choices among replies, or answers to questions."""
    from cuma.runs.folder import read_json

    choices = folder / "discrimination.json"
    if choices.is_file():
        _print_choices(read_json(choices))
    else:
        _print_scores(folder, read_json(folder / "scores.json"))


def _print_scores(folder: Path, scores: dict[str, Any]) -> None:
    """The figures that matter most, seen and unseen groups; all of them are in scores.json."""
    from rich.console import Console
    from rich.table import Table

    sides = _shown_sides({side: scores["n"][side] for side in ("seen", "unseen") if side in scores})
    table = Table("Metric", *(f"{side.capitalize()} groups" for side in sides))
    for metric in SHOWN:
        if any(scores[side].get(metric, {}).get("value") is not None for side in sides):
            table.add_row(metric, *(figure(scores[side].get(metric, {"value": None})) for side in sides))
    Console().print(table)
    for side in sides:
        if scores[side]["option_mass"].get("low_mass"):
            mass = scores[side]["option_mass"]["value"]
            typer.echo(f"⚠ On {side} groups only {mass:.0%} of the probability is on the answer letters.")
    asked = scores.get("asked") or {}
    if asked.get("questions_with_too_many_options"):
        typer.echo(f"⚠ {asked['questions_with_too_many_options']} questions have more options than letters: not asked.")
    told = f"{asked['samples']} samples a prompt" if asked.get("samples") else asked.get("answers")
    if asked.get("template") == "plain":
        typer.echo("The model has no chat template: it was asked in plain paragraphs.")
    typer.echo(f"Prompting: {asked.get('prompting')}; option probabilities from {told}. All: {folder / 'scores.json'}")


def figure(entry: dict[str, Any]) -> str:
    """An estimate with its interval."""
    if entry["value"] is None:
        return "–"
    ends = "" if entry["low"] is None else f" [{number(entry['low'])}, {number(entry['high'])}]"
    return number(entry["value"]) + ends


def print_differences(found: dict[str, Any]) -> None:
    """Soft EMD of this run minus each other's, with Holm's p. found: what differences.json holds; a side
    of few people is left out where `n` says how many there are."""
    from rich.console import Console
    from rich.table import Table

    table = Table("Against", "Groups", "Soft EMD, this minus that", "p", "p (Holm)", title=None)
    compared = {side for sides in found["differences"].values() for side in sides}
    shown = _shown_sides(_sizes(found, compared))
    for name, sides in found["differences"].items():
        for side in (side for side in shown if side in sides):
            entry = sides[side]["soft_emd"]
            table.add_row(name, side, figure(entry), number(entry["p"]), number(entry["p_holm"]))
    Console().print(table)


def _print_choices(found: dict[str, Any]) -> None:
    """How often the model names the reply that the person preferred."""
    for side in _shown_sides({side: found[side]["n"] for side in ("seen", "unseen") if side in found}):
        n = found[side]["n"]
        typer.echo(
            f"{side.capitalize()} groups: the preferred one of {round(1 / found[side]['chance'])} replies named in "
            f"{figure(found[side]['accuracy'])} (chance {found[side]['chance']:.2f}); macro-F1 "
            f"{figure(found[side]['macro_f1'])}; Brier {figure(found[side]['brier'])}; option mass "
            f"{found[side]['option_mass']['value']:.2f}; {n['choices']:,} choices of {n['people']:,} people."
        )


def _shown_sides(n: dict[str, dict[str, Any]]) -> list[str]:
    """The sides with enough people to be shown: one with fewer would be a small group; shares have no people."""
    from cuma.privacy.small_groups import MIN_PEOPLE, people_text

    few = [side for side in n if n[side].get("people", MIN_PEOPLE) < MIN_PEOPLE]
    for side in few:
        typer.echo(f"{side.capitalize()} groups: {people_text(n[side]['people'])} people, too few to show.")
    return [side for side in n if side not in few]


def _sizes(found: dict[str, Any], there: Collection[str]) -> dict[str, dict[str, Any]]:
    """Each side's `n`, of the sides that are there; empty where it is not known."""
    return {side: found.get("n", {}).get(side, {}) for side in ("seen", "unseen") if side in there}


def print_partial(measured: dict[str, Any]) -> None:
    """A line for each share of the fields: soft EMD with its interval, seen and unseen groups. measured: what
    partial.json holds; a side of few people is left out where `n` says how many there are."""
    from rich.console import Console
    from rich.table import Table

    sides = _shown_sides(_sizes(measured, measured))
    table = Table("Fields known", *(f"Soft EMD, {side} groups" for side in sides))
    for place, share in enumerate(measured["shares"]):
        table.add_row(f"{share:.0%}", *(figure(measured[side][place]) for side in sides))
    Console().print(table)


def print_win_rate(found: dict[str, Any]) -> None:
    """The rates, and how far to trust the judge; of few people only that they are few."""
    from cuma.privacy.small_groups import MIN_PEOPLE, people_text

    people = found["n"]["people"]
    if people < MIN_PEOPLE:
        typer.echo(f"Win rate: of the replies to {people_text(people)} people, too few to show.")
        return
    typer.echo(
        f"Win rate against {found['against']}, by {found['judge']}: {figure(found['win_rate'])}; at equal length "
        f"{figure(found['length_controlled_win_rate'])}; p of an even match {number(found['p'])}; the two orders "
        f"agree on {found['position_consistency']:.0%} of {found['n']['judged']} pairs; "
        f"{found['invalid']} invalid verdicts; {found['failures']} of {found['requests']} requests failed."
    )
