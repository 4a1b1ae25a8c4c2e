"""The verb `predict`: what would these people say to this?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cuma.cli.evaluation import model_that_is_no_run
from cuma.cli.panels import with_panels
from cuma.cli.serving import Device, Encoder

if TYPE_CHECKING:
    from cuma.answering.answerer import Answerer
    from cuma.answering.loading import Source
    from cuma.data.builders.poll_people import PollPeople
    from cuma.data.builders.poll_questions import QuestionFile
    from cuma.data.builders.poll_sample import SampleAnswers
    from cuma.evaluation.poll_estimates import PollEstimates

LONGEST_TABLE = 60
"""Rows of estimates that are shown; all are in the file."""


@with_panels(loading=model_that_is_no_run)
def predict(
    loading: dict[str, Any],
    target: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help="A run's folder, a PEFT adapter's, a model's, or a Hub id.")
    ],
    questions: Annotated[Path, typer.Option(help="CSV, JSONL, JSON, YAML …: question, options, optionally an id.")],
    output: Annotated[Path, typer.Option(help="The file to write: .csv, .parquet or .xlsx.")],
    people: Annotated[Path | None, typer.Option(help="Whom to ask: a row each, with fields of a profile.")] = None,
    population: Annotated[
        Path | None, typer.Option(help="Or its cells: fields with count or share; or margins: field, value, share.")
    ] = None,
    margins: Annotated[
        Path | None, typer.Option(help="Rake the people's or the cells' weights to these: field, value, share.")
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Real people's answers, to make the estimate valid though the model errs."),
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="FIELD", help="Estimates also for every value of a field.")] = None,
    with_profile: Annotated[bool, typer.Option("--with-profile", help="Write people's profiles beside them.")] = False,
    encoder: Encoder = None,
    device: Device = None,
) -> None:
    """What would these people say to this? For people, or for a population; with a sample of real answers, soundly."""
    from cuma.evaluation.poll_output import check_output

    source = _source(target, loading)
    asked, who = _inputs(questions, people, population, margins, by)
    check_output(output, len(who.ids) * len(asked.questions))
    answers = None if sample is None else _sample(sample, asked, source)
    notes = [*asked.noted, *who.noted, *(() if answers is None else answers.noted)]
    for note in notes:
        typer.echo(f"• {note}")
    batch_size = loading.pop("batch_size", 32)
    from cuma.answering.answerer import Answerers

    answerer = Answerers(device=device, encoder=encoder, **_instead(loading)).load(source)
    found = _predict(answerer, asked, who, answers, by, output, with_profile, batch_size)
    _show(found, output)


def _source(target: str, loading: dict[str, Any]) -> Source:
    """What is asked; what cannot be is told before seconds of imports."""
    path = Path(target)
    if (path / "run.json").is_file():
        option = next((name for name in loading if name != "batch_size"), None)
        if option:
            raise typer.BadParameter(
                "is for a model that is no run: a run is asked as trained", param_hint=f"--{option}"
            )
    elif not path.exists() and str(path.parent) != "." and path.parent.is_dir():
        from cuma.runs.folder import Run

        Run.open(path)  # tells which runs are near
    from cuma.answering.loading import Source

    return Source.find(target, loading.get("revision"))


def _instead(loading: dict[str, Any]) -> dict[str, Any]:
    """How the frozen model is read. The revision is part of what was found."""
    return {name: value for name, value in loading.items() if name != "revision"}


def _inputs(
    questions: Path, people: Path | None, population: Path | None, margins: Path | None, by: str | None
) -> tuple[QuestionFile, PollPeople]:
    if (people is None) == (population is None):
        raise typer.BadParameter("give one of the two: --people or --population", param_hint="--people")
    from cuma.data.builders.poll_people import raked, read_margins, read_people, read_population
    from cuma.data.builders.poll_questions import read_questions

    asked = read_questions(questions)
    who = read_people(people) if people is not None else read_population(str(population))
    if margins is not None:
        who = raked(who, read_margins(margins))
    if by is not None:
        who.values(by)
    return asked, who


def _sample(sample: str, asked: QuestionFile, source: Source) -> SampleAnswers:
    from cuma.data.builders.poll_sample import read_sample
    from cuma.recipes.load import load_recipe

    benchmark, seed = None, 0
    if source.info.get("kind") == "trained":
        data = load_recipe(source.folder / "recipe.yaml").data
        benchmark, seed = data.benchmark, data.split_seed
    elif source.adapter is not None:
        typer.echo("⚠ The adapter does not say whose answers it was trained on. The sample's people must not be among")
        typer.echo("  them: what is said of people whose answers are known is no prediction, and no interval is valid.")
    return read_sample(sample, asked.questions, benchmark, seed)


def _predict(
    answerer: Answerer,
    asked: QuestionFile,
    who: PollPeople,
    answers: SampleAnswers | None,
    by: str | None,
    output: Path,
    with_profile: bool,
    batch_size: int,
) -> PollEstimates:
    """Ask everybody, and write both files."""
    from cuma.evaluation.poll import Poll, kept_answers
    from cuma.evaluation.poll_estimates import Sampled, estimates
    from cuma.evaluation.poll_output import answers_table, population_file, write_output

    profiles = [*who.profiles, *(() if answers is None else answers.profiles)]
    poll = Poll(answerer, asked.questions, profiles, batch_size)
    with kept_answers(output, poll.key()) as log:
        everybody = poll.expected(log, f"{answerer.name}: answering")
        expected = [one.of(slice(0, len(who.ids))) for one in everybody]
        rest = [one.of(slice(len(who.ids), None)) for one in everybody]
        sampled = None if answers is None else Sampled(answers, rest)
        found = estimates(asked.questions, who, expected, by, sampled)
        write_output(population_file(output), found.table)
        write_output(output, answers_table(asked.questions, who, expected, with_profile))  # last: it marks the end
    return found


def _show(found: PollEstimates, output: Path) -> None:
    """The estimates as a table, what they are worth, and where all is."""
    from rich.console import Console

    from cuma.evaluation.poll_estimates import verdict
    from cuma.evaluation.poll_output import population_file
    from cuma.metrics import LOW_OPTION_MASS
    from cuma.privacy.small_groups import MIN_PEOPLE

    Console().print(_table(found.table.to_dict("records")))
    if len(found.table) > LONGEST_TABLE:
        typer.echo(f"… {len(found.table) - LONGEST_TABLE} more rows are in the file.")
    low = sorted({row.question_id for row in found.table.itertuples() if row.option_mass < LOW_OPTION_MASS})
    if low:
        typer.echo(f"⚠ Under {LOW_OPTION_MASS:.0%} of the probability is on the answer letters of: {', '.join(low)}")
    if found.hidden:
        typer.echo(f"⚠ {found.hidden} estimates from fewer than {MIN_PEOPLE} sampled people are not shown.")
    if found.elsewhere:
        typer.echo(f"⚠ {found.elsewhere} sampled people have a value that the population lacks: spell values alike.")
    for sentence in verdict(found):
        typer.echo(sentence)
    typer.echo(f"{output}\n{population_file(output)}")


def _table(rows: Sequence[dict[str, Any]]) -> Any:
    import pandas as pd
    from rich.table import Table

    def interval(row: dict[str, Any], name: str) -> str:
        return "–" if pd.isna(row[name]) else f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"

    by, sampled = "value" in rows[0], "rectified" in rows[0]
    table = Table(*(["Among"] if by else []), "Question", "Option", "Model")
    for head in ("Sample alone", "Rectified", "n") if sampled else ():
        table.add_column(head, no_wrap=True)
    for row in rows[:LONGEST_TABLE]:
        cells = ([row["value"] or "all"] if by else []) + [row["question_id"], row["text"], f"{row['model']:.3f}"]
        if sampled:
            cells += [interval(row, "classical"), interval(row, "rectified")]
            cells.append("–" if pd.isna(row["n"]) else str(row["n"]))
        table.add_row(*cells)
    return table
