"""The verbs of `cuma data`: draft, build, check, sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cuma.cli.shell import EXIT_ERROR, next_command
from cuma.data.catalog import BUILDABLE

if TYPE_CHECKING:
    from cuma.data.surveys.survey import Question

Codes = Annotated[
    Literal["from_zero", "from_one", "options"] | None,
    typer.Option(help="Own data: what numbers among the answers are. Left out: each question's column tells."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="OURS=THEIRS", help="Own data: a column of another name, as profile.age=AGE."),
]


HeldItems = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=0.8,
        help="So many of the questions are new in the test. Left out: 0.1 of shares, 0.2 of us, none otherwise.",
    ),
]
Questions = Annotated[
    Path | None,
    typer.Option("--questionnaire", metavar="YAML", help="Own data with one row a respondent: what its columns are."),
]


def draft_questionnaire(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="SPSS, Stata, SAS, Excel, parquet or CSV: one row a respondent.")
    ],
    output: Annotated[Path, typer.Option(help="The YAML file to write.")] = Path("questionnaire.yaml"),
    codebook: Annotated[Path | None, typer.Option(help="Wordings and options by column: CSV, Excel or JSON.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a questionnaire that is there.")] = False,
) -> None:
    """Draft a questionnaire from a survey file: what each column is, how it was asked, what its codes mean."""
    from collections import Counter

    from cuma.data.builders.questionnaire_draft import as_yaml, draft
    from cuma.errors import BenchmarkError

    if output.exists() and not overwrite:
        raise BenchmarkError(
            f"{output} is there, and may have been corrected. Choose another --output, or --overwrite."
        )
    questionnaire, ledger = draft(file, codebook)
    try:
        output.write_text(as_yaml(questionnaire, file), encoding="utf-8")
    except OSError as error:
        raise BenchmarkError(f"{output} cannot be written ({error.strerror}). Choose another --output.") from error
    roles = Counter(column.role for column in questionnaire.columns.values())
    typer.echo(", ".join(f"{times} {role}" for role, times in roles.most_common()))
    for what, times in ledger.noted.items():
        typer.echo(f"  {times:>9,}  noted: {what}")
    guessed = sum(bool(column.guessed) for column in questionnaire.columns.values())
    typer.echo(f"{guessed} of {len(questionnaire.columns)} columns have guesses: read the lines under `guessed`.")
    typer.echo(f"{output}  {next_command('cuma', 'data', 'check', file, '--questionnaire', output)}")


def _pairs(texts: list[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts or []]
    if not all(ours and equals and theirs for ours, equals, theirs in pairs):
        raise typer.BadParameter("takes OURS=THEIRS, such as answer=q1_answer", param_hint="--column")
    names = [ours.strip() for ours, _, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise typer.BadParameter(f"maps two columns to {twice[0]}; give one", param_hint="--column")
    return dict(zip(names, (theirs.strip() for _, _, theirs in pairs), strict=True))


def build_data(
    name: Annotated[str, typer.Argument(metavar="BENCHMARK", help=f"One of {', '.join(BUILDABLE)}.")],
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    source: Annotated[
        list[Path] | None,
        typer.Option(help="The file or folder that you obtained; gss, us and wvs need none. Own data: several."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="So many people, or conversations, from all groups.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Render at most so many answers as conversations.")] = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the split and the sample.")] = 0,
    holdout_groups: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE|SHARE",
            help="Keep out for zero-shot tests, as country=Japan; of shares, also a share of the groups, as 0.1.",
        ),
    ] = None,
    holdout_items: HeldItems = None,
    group_by: Annotated[str, typer.Option(help="gss, opinionqa: the fields that make a group, as ethnicity,sex.")] = "",
    column: Columns = None,
    answer_codes: Codes = None,
    questionnaire: Questions = None,
    all_test: Annotated[
        bool, typer.Option("--all-test", help="Own data: keep everybody for evaluation; nobody trains.")
    ] = False,
    as_released: Annotated[bool, typer.Option("--as-released", help="wvb: the authors' text, its errors too.")] = False,
) -> None:
    """Make data sets in TRL's columns, with profiles and splits by person, and a card that counts every row."""
    from cuma.data.builders.base import Options
    from cuma.data.builders.build import build
    from cuma.data.builders.person_splits import parse_holdout

    holdout, holdout_share = parse_holdout(holdout_groups or ())
    options = Options(
        seed=seed,
        sample=sample,
        rows=rows,
        holdout=holdout,
        holdout_share=holdout_share,
        holdout_items=holdout_items,
        as_released=as_released,
        columns=_pairs(column),
        answer_codes=answer_codes or "",
        questionnaire=questionnaire,
        all_test=all_test,
        group_by=tuple(field.strip() for field in group_by.split(",") if field.strip()),
        further=tuple(source or ())[1:],
    )
    _show_card(build(name, source[0] if source else None, output, options), output)


def _show_card(card: dict[str, Any], output: Path) -> None:
    """What was read, lost and written."""
    from cuma.data.surveys.item_splits import roles_sentence

    typer.echo(f"Licence: {card['licence']}")
    typer.echo(f"{card['rows_read']:,} {card.get('unit', 'rows')} read, {card['rows_kept']:,} used")
    for what in ("dropped", "noted"):
        for reason, times in card[what].items():
            typer.echo(f"  {times:>9,}  {what}: {reason}")
    if "answers" in card:
        written = sum(card["tasks"]["survey"].values())
        typer.echo(f"Grouped by {', '.join(card['group_by'])}. All answers are in answers/, {written:,} as survey rows")
    for question, reason in card.get("questions_left_out", {}).items():
        typer.echo(f"Left out: {question}: {reason}")
    for warning in card.get("warnings", ()):
        typer.echo(f"Warning: {warning}")
    for part in card.get("parts", ()):
        typer.echo(f"{part['name']}: {_counted(part['tasks'])}")
    several = "parts" in card
    shares = "corners" in card and not several
    if "items" in card:
        typer.echo(roles_sentence(card["items"]))
    for split, sizes in card["splits"].items():
        people = "" if shares else f"{sizes['people']:,} people, "
        rows = {task: its[split] for task, its in card["tasks"].items() if split in its}
        unit = "cells" if shares else "answers"
        answers = _counted(rows) if several else f"{sizes['answers']:,} {unit}"
        typer.echo(f"{split:11} {people}{sizes['groups']:,} groups, {answers}")
    for corner, cells in card.get("corners", {}).items():
        typer.echo(f"test, {corner}: {cells:,} cells")
    typer.echo(f"{output}  {_next(card, output)}".rstrip())


def _next(card: dict[str, Any], output: Path) -> str:
    """What to do with a built folder; "" where it can only be measured on, or needs an adapter to start from."""
    from cuma.data.corpus import Corpus

    if "survey" in card["tasks"]:
        return next_command("cuma", "data", "sparsity", output)
    corpus = Corpus.open(output)
    shares = corpus.training_shares()
    stages = [stage for stage in ("sft", "dpo") if "train" in card["tasks"].get(stage, {})]
    if shares is None and "sft" not in stages:
        return ""
    keys = [] if shares is None or shares.counted else ["training.loss=distribution"]
    keys += [f"pipeline=[{','.join(stages)}]"] if len(stages) > 1 and shares is None else []
    groups = [group.profile for group in corpus.survey().groups if group.role == "seen"]
    rows = None if shares is not None else corpus.training_rows(stages[0])
    texts = {profile.sentence for profile in groups} if rows is None else set(rows.unique("profile_text"))
    keys += [] if any(profile.fields for profile in groups) else ["encoder.fields=false"]
    if len(texts - {"", None}) < 2:  # nobody to tell apart
        keys += ["adapter.router_input=semantic", "data.profile_in=nowhere"]
    return next_command("cuma", "train", "default", f"data.benchmark={output}", *keys)


def _counted(rows: dict[str, int]) -> str:
    return ", ".join(f"{times:,} {task}" for task, times in rows.items())


def check_data(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Your own JSONL, CSV, parquet or `datasets` folders.")
    ],
    column: Columns = None,
    answer_codes: Codes = None,
    questionnaire: Questions = None,
    holdout_items: HeldItems = None,
    seed: Annotated[int, typer.Option(min=0, help="Of --holdout-items.")] = 0,
) -> None:
    """Show what each row of your own data becomes: person, questions, options and codes, and what is lost and why."""
    from rich.console import Console

    from cuma.data.builders import global_opinions
    from cuma.data.builders.check import page, summary
    from cuma.data.builders.own import understand
    from cuma.data.builders.reading import existing
    from cuma.data.surveys.survey import Question
    from cuma.errors import BenchmarkError

    build = ["cuma", "data", "build", "own", *(word for file in files for word in ("--source", str(file)))]
    if questionnaire is not None:
        from cuma.data.builders.own_survey import asked_questions, read_survey
        from cuma.data.builders.questionnaire_check import survey_page

        if len(files) > 1:
            raise BenchmarkError("A questionnaire explains one file. Check the others without it.")
        survey = read_survey(files[0], questionnaire)
        Console().print(survey_page(files[0], survey))
        _show_held(asked_questions(survey), holdout_items, seed)
        typer.echo(next_command(*build, "--questionnaire", questionnaire, "--output", "data/mine"))
        return
    if len(files) == 1 and (published := global_opinions.check(existing(files[0]))):
        ledger, questions, cells = published
        typer.echo(
            f"GlobalOpinionQA: {questions:,} of {ledger.rows_read:,} questions usable, {cells:,} countries' shares"
        )
        for reason, times in {**ledger.dropped, **ledger.noted}.items():
            typer.echo(f"  {times:>9,}  {reason}")
        return
    understood = understand(files, _pairs(column), answer_codes or "")
    facts = summary(understood)
    Console().print(page(files, facts))
    _show_held([Question(one.id, one.text, one.labels, one.ordinal) for one in understood.items], holdout_items, seed)
    if not facts["rows_usable"]:
        raise typer.Exit(EXIT_ERROR)
    options = [word for pair in column or () for word in ("--column", pair)]
    options += ["--answer-codes", answer_codes] if answer_codes else []
    options += [] if holdout_items is None else ["--holdout-items", str(holdout_items), "--seed", str(seed)]
    typer.echo(next_command(*build, *options, "--output", "data/mine"))


def _show_held(questions: Sequence[Question], share: float | None, seed: int) -> None:
    """Which questions `cuma data build --holdout-items` would hold out."""
    from cuma.data.builders.base import Options
    from cuma.data.builders.held_items import held_lines
    from cuma.errors import BenchmarkError

    if share is None:
        return
    if not questions:
        raise BenchmarkError("--holdout-items is for answers to questions, and this file has none. Leave it out.")
    for line in held_lines(questions, Options(seed=seed, holdout_items=share)):
        typer.echo(line)


def measure_sparsity(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `cuma data build` wrote.")],
    output: Annotated[Path | None, typer.Option(help="Where the page goes; left out: into the folder.")] = None,
    permutations: Annotated[int, typer.Option(min=1, help="Of people between groups, for the p-values.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the permutations.")] = 0,
) -> None:
    """Is there anything to keep apart here? How far groups' answers differ, with a page and a heat map."""
    from cuma.reports.sparsity_page import sparsity

    result = sparsity(folder, output or folder, permutations=permutations, seed=seed)
    for sentence in result["summary"]:
        typer.echo(sentence)
    typer.echo(f"{(output or folder) / 'sparsity.html'}")
