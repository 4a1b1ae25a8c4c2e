"""`cuma quickstart`: mean collapse, and what a mixture does about it, on real people in minutes.

Every method sees the same people and takes the same number of steps with about as many trainable parameters; the
anchors know the training counts and no language model. Each method is a run of its own, so that an interrupted start
goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from cuma.answering.materials import Materials
from cuma.evaluation.anchors import ANCHORS, anchor_predictions
from cuma.evaluation.curve import curve_point
from cuma.evaluation.evaluate import evaluate_run
from cuma.evaluation.evaluation_files import write_evaluation
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.reports.formats import rich_table
from cuma.reports.render import write_page
from cuma.reports.tables import compare_methods, few_sentences, shown_sides
from cuma.reports.verdict import control_sentences, sentences
from cuma.runs.evidence import read_evidence
from cuma.runs.folder import Run
from cuma.runs.machine import hardware, versions
from cuma.training.train import train_run

METHODS = ("persona", "lora", "semantic", "cuma", "shuffled")
"""Recipes of the quickstart, in the order in which they run."""
FAST_METHODS = ("lora", "cuma")
FAST = ("training.max_steps=200", "training.curve_steps=[100, 200]")
"""What --fast changes in the recipes: two thirds of the steps."""
REFERENCE = "cuma"
ROLES = ("seen", "validation", "test")


def run_quickstart(
    benchmark: str = "gss", fast: bool = False, output_dir: Path = Path("runs/quickstart"), seed: int = 0
) -> Path:
    """Run the quickstart, or go on with it.

    Args:
        benchmark: "gss" (US groups) or "wvs" (countries).
        fast: CuMA and LoRA only, and fewer steps.
        output_dir: the runs go to output_dir/benchmark, or benchmark-fast.
        seed: of the training; the split of people and groups is fixed by the recipes.

    Returns:
        Path of the page.
    """
    console = Console()
    names = FAST_METHODS if fast else METHODS
    overrides = (f"seed={seed}", *(FAST if fast else ()))
    recipes = {name: load_recipe(f"quickstart/{benchmark}/{name}", overrides) for name in names}
    home = output_dir / (f"{benchmark}-fast" if fast else benchmark)
    console.print(f"[bold]cuma quickstart[/bold]: {benchmark}, {len(recipes)} methods, runs in {home}")
    materials = Materials.load(recipes[REFERENCE])
    command = f"cuma quickstart --benchmark {benchmark} --seed {seed}" + (" --fast" if fast else "")
    folders = [_method(recipe, home / name, materials, command) for name, recipe in recipes.items()]
    folders += [
        _anchor(name, home / f"anchor-{name}", materials, recipes[REFERENCE]) for name in _anchor_names(materials)
    ]
    return _report(folders, home / "report.html", console)


def _report(folders: list[Path], page: Path, console: Console) -> Path:
    """Write the page with its tables, and print the table and the sentences that the page opens with."""
    with console.status("Comparing the methods …"):
        evidence = read_evidence(folders, REFERENCE)
        table = compare_methods(evidence)
        write_page(evidence, table, page)
    for side in shown_sides(evidence):
        console.print(rich_table(table, side, console.width))
    for sentence in (*sentences(table), *few_sentences(evidence), *control_sentences(table)):
        console.print(f"• {sentence}")
    console.print(f"The page: [bold]{page}[/bold]", soft_wrap=True)
    return page


def _method(recipe: Recipe, folder: Path, materials: Materials, command: str) -> Path:
    if not materials.fit(recipe):
        raise AssertionError(f"recipe {recipe.name} names other models or data than the quickstart's first one")
    train_run(recipe, folder, materials, curve_point)
    run = evaluate_run(folder, materials)
    run.update(command=command)
    return folder


def _anchor_names(materials: Materials) -> list[str]:
    """All anchors; where no item is held out, without those that are made for many items: they take minutes, and on a
    few items the others say as much."""
    held_out = any(question.role != "seen" for question in materials.survey.questions)
    return [name for name, anchor in ANCHORS.items() if held_out or not anchor.of_many_items]


def _anchor(name: str, folder: Path, materials: Materials, recipe: Recipe) -> Path:
    """An anchor as a run of its own, so that the report reads all methods alike."""
    anchor = ANCHORS[name]
    if not (folder / "run.json").exists():
        info = {
            "name": folder.name,
            "label": anchor.label,
            "description": anchor.description,
            "kind": "anchor",
            "seed": recipe.seed,
            "trainable_parameters": None,
            "versions": versions(),
            "hardware": hardware(),
        }
        Run.create(folder, recipe.to_yaml(), info)
    run = Run.open(folder)
    if run.info["status"] != "evaluated":
        embeds = np.asarray(materials.group_embeds(materials.table, ROLES), dtype=np.float64)
        predictions = anchor_predictions(name, materials.survey, embeds, materials.table.encoder)
        write_evaluation(run, recipe.digest, predictions, materials.survey)
        run.update(status="evaluated", **materials.provenance())
    return folder
