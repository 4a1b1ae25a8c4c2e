"""The cards: what the recipes and runs say, and no number of people that is too small to print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from cuma.reports import write_report
from cuma.reports.method_and_data import data_card, method_card, plain, prompt_facts, read_from
from cuma.runs.evidence import read_evidence


def test_settings_come_from_the_recipes(runs: list[Path], copy_of: Callable[[Path], Path]) -> None:
    cuma, lora = (copy_of(next(run for run in runs if run.name == name)) for name in ("cuma", "lora"))
    for run, method in ((cuma, "cuma"), (lora, "lora")):
        recipe = {"adapter": {"method": method, "num_experts": 8, "r": 4}, "training": {"max_steps": 70}}
        (run / "recipe.yaml").write_text(yaml.safe_dump({"name": run.name, **recipe}))
    headings, rows = method_card(read_evidence([lora, cuma]))
    table = [dict(zip(headings, row, strict=True)) for row in rows]
    assert table[0] == {"Run": "CuMA", "Method": "cuma", "Experts": "8", "Rank": "4", "Steps": "70"}
    assert table[1] == {"Run": "LoRA", "Method": "lora", "Experts": "–", "Rank": "4", "Steps": "70"}


def asked(run: Path, **how: object) -> Path:
    file = next(run.glob("evaluations/*/scores.json"))
    file.write_text(json.dumps({**json.loads(file.read_text()), "asked": how}))
    return run


def test_it_is_said_how_runs_were_asked(runs: list[Path], copy_of: Callable[[Path], Path], tmp_path: Path) -> None:
    cuma, lora, persona = (
        copy_of(next(run for run in runs if run.name == name)) for name in ("cuma", "lora", "persona")
    )
    asked(cuma, prompting="none", answers="logits", samples=None, template="plain")
    asked(lora, prompting="few_shot", answers="logprobs", samples=9, sampled_rows=3, beyond_top=2)
    evidence = read_evidence([cuma, lora])
    assert read_from(evidence) == "read from the probabilities of the answer letters"
    asked(persona, prompting="persona", answers="samples", samples=20)
    assert read_from(read_evidence([persona])) == "counted in sampled replies"
    evidence = read_evidence([cuma, lora, persona])
    headings, rows = method_card(evidence)
    assert [headings[-2:], *(row[-2:] for row in rows)] == [
        ["Told in the prompt", "Probabilities from"],
        ["nothing, in plain paragraphs", "the letters’ logits"],
        [
            "four answers of the group",
            "a server’s log-probabilities; 9 samples of each of 3 prompts with too many options; 2 options that it did "
            "not name count as 0",
        ],
        ["who asks", "20 samples a prompt"],
    ]
    page = write_report([cuma, lora, persona], tmp_path / "report.html", draws=0).read_text(encoding="utf-8")
    assert "or, where the method card says so, counted in sampled replies, and averaged" in page
    assert "<td>20 samples a prompt</td>" in page


def test_anchors_have_no_settings(runs: list[Path]) -> None:
    assert method_card(read_evidence([run for run in runs if run.name.startswith("anchor")]))[1] == []


def test_few_people_are_words(runs: list[Path], copy_of: Callable[[Path], Path]) -> None:
    run = copy_of(next(run for run in runs if run.name == "cuma"))
    info = json.loads((run / "run.json").read_text())
    info["population"] = {"people": None, "groups": {}}
    info["data"] = {"source": "a survey", "licence": "free"}
    (run / "run.json").write_text(json.dumps(info))
    card = dict(data_card(read_evidence([run])))
    assert card["People trained on"] == "fewer than 11"
    assert card["Source"] == "a survey"
    assert card["Tested, seen groups"].endswith("people in 50 groups")


def test_nested_values_are_one_line() -> None:
    assert plain({"a": 1, "b": None, "c": ["x", {"d": 2}]}) == "a: 1; c: x, d: 2"


def test_fewer_orders_of_the_options_are_told() -> None:
    assert prompt_facts({"prompting": "none", "option_orders": "fixed"}) == "nothing; options in one order"
    assert prompt_facts({"prompting": "none"}) == "nothing"
