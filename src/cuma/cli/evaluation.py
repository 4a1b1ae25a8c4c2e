"""The verb `evaluate`: measure a run, an adapter, a model, or a model behind a server."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cuma.cli.evaluation_output import (
    print_alarms,
    print_differences,
    print_found,
    print_partial,
    print_replies,
    print_win_rate,
)

if TYPE_CHECKING:
    from cuma.evaluation.evaluate_server import Server
    from cuma.evaluation.subject import Subject
    from cuma.judge import Judge
    from cuma.runs.folder import Run


Prompting = Literal["persona", "none", "few_shot"]
WEIGHTS = "A model that is no run"
MEASURE, SERVER, JUDGE = "What is measured", "A model behind a server", "What the model writes"
NEED_WEIGHTS = {"--partial-profiles", "--gradients", "--topology"}
"""Measures that a model behind a server cannot have."""


def evaluate(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[RUN|MODEL]", help="A run's folder, a PEFT adapter's, a model's, or a Hub id."),
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="Name, or a folder of `cuma data build`. Left out: the run's own.")
    ] = None,
    prompting: Annotated[
        Prompting | None,
        typer.Option(help="What the prompt says about who asks. Left out: as the run was trained, else persona."),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Where a model that is no run gets one; left out: runs/measured/.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Commit, tag or branch on the Hub.", rich_help_panel=WEIGHTS)
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Number format. Left out: float32.", rich_help_panel=WEIGHTS),
    ] = None,
    quantization: Annotated[
        Literal["4bit", "8bit"] | None, typer.Option(help="Hold the weights in fewer bits.", rich_help_panel=WEIGHTS)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Prompts at once. Left out: 32.", rich_help_panel=WEIGHTS)
    ] = None,
    partial_profiles: Annotated[
        bool,
        typer.Option(
            "--partial-profiles",
            help="Also with 0, 25, 50, 75 and 100 % of each profile's fields.",
            rich_help_panel=MEASURE,
        ),
    ] = False,
    collapse: Annotated[
        bool,
        typer.Option("--collapse", help="Does it speak for one average, or stereotype?", rich_help_panel=MEASURE),
    ] = False,
    gradients: Annotated[
        bool,
        typer.Option("--gradients", help="Do groups' gradients conflict, and where?", rich_help_panel=MEASURE),
    ] = False,
    topology: Annotated[
        bool,
        typer.Option("--topology", help="What does a mixture's router follow?", rich_help_panel=MEASURE),
    ] = False,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN",
            help="Paired differences from this evaluated run; with --judge, the run whose replies are compared.",
            rich_help_panel=MEASURE,
        ),
    ] = None,
    profile_field: Annotated[
        bool,
        typer.Option(
            "--profile-field",
            help="Send profiles as the request's field `profile`, as cuma serve takes it.",
            rich_help_panel=SERVER,
        ),
    ] = False,
    replies: Annotated[
        int, typer.Option(min=0, help="Let it reply to so many prompts: how varied is that?", rich_help_panel=JUDGE)
    ] = 0,
    judge: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Win rate of the replies, by this judge.", rich_help_panel=JUDGE),
    ] = None,
    judge_url: Annotated[
        str, typer.Option(metavar="URL", help="The judge's OpenAI-compatible server.", rich_help_panel=JUDGE)
    ] = "https://api.openai.com/v1",
    judge_key_env: Annotated[
        str, typer.Option(help="Environment variable with the judge's key.", rich_help_panel=JUDGE)
    ] = "OPENAI_API_KEY",
    judge_send_profiles: Annotated[
        bool,
        typer.Option(
            "--judge-send-profiles",
            help="People's profiles may leave this machine for the judge's server.",
            rich_help_panel=JUDGE,
        ),
    ] = False,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="An OpenAI-compatible server.", rich_help_panel=SERVER)
    ] = None,
    model: Annotated[str | None, typer.Option(help="Its model's name.", rich_help_panel=SERVER)] = None,
    answers: Annotated[
        Literal["auto", "logprobs", "samples"],
        typer.Option(help="Log-probabilities where offered, or samples.", rich_help_panel=SERVER),
    ] = "auto",
    samples: Annotated[int, typer.Option(min=1, help="Replies to each prompt.", rich_help_panel=SERVER)] = 20,
    max_requests: Annotated[
        int, typer.Option(min=1, help="To the server, and to the judge.", rich_help_panel=SERVER)
    ] = 20_000,
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable with that server's key.", rich_help_panel=SERVER)
    ] = "OPENAI_API_KEY",
    workers: Annotated[int, typer.Option(min=1, help="Requests at once.", rich_help_panel=SERVER)] = 8,
    send_profiles: Annotated[
        bool,
        typer.Option(
            "--send-profiles", help="People's profiles may leave this machine for that server.", rich_help_panel=SERVER
        ),
    ] = False,
) -> None:
    """Let a model answer for the test people, and score its answers."""
    _check(target, benchmark, endpoint, model, judge, replies, against or [])
    given = {"revision": revision, "dtype": dtype, "quantization": quantization, "batch_size": batch_size}
    loading = {name: value for name, value in given.items() if value is not None}
    if loading and (endpoint is not None or _is_run(str(target))):
        why = "a server has its own" if endpoint is not None else "a run is measured as its recipe says"
        raise typer.BadParameter(
            f"is for a model that is no run: {why}", param_hint=f"--{next(iter(loading)).replace('_', '-')}"
        )
    wanted = {
        "--partial-profiles": partial_profiles,
        "--collapse": collapse,
        "--gradients": gradients,
        "--topology": topology,
        "--against": bool(against) and not judge,
    }
    measures = [name for name in wanted if wanted[name]]
    refused = [name for name in measures if name in NEED_WEIGHTS] if endpoint is not None else []
    if refused:
        raise typer.BadParameter("needs the model's weights on this machine", param_hint=refused[0])
    server = None
    if endpoint is not None:
        from cuma.evaluation.evaluate_server import Server

        server = Server(
            endpoint,
            str(model),
            answers=answers,
            samples=samples,
            api_key_env=api_key_env,
            max_requests=max_requests,
            workers=workers,
            send_profiles=send_profiles,
            profile_field=profile_field,
        )
    by = None
    if judge is not None:
        from cuma.judge import Judge

        by = Judge(
            judge,
            base_url=judge_url,
            api_key_env=judge_key_env,
            max_requests=max_requests,
            workers=workers,
            send_profiles=judge_send_profiles,
        )
    subject = _subject(target, server, benchmark, prompting, output_dir, loading)
    compares = _compares(subject, measures)
    reference = _reference(subject, by, replies, against or []) if by is not None else None
    if compares or not replies:
        print_found(_answered(subject, server))
    if replies:
        _replied(subject, server, replies)
    for name in measures:
        _measure(name, subject, against or [])
    if by is not None:
        from cuma.evaluation.win_rate import evaluate_win_rate

        print_win_rate(evaluate_win_rate(subject, by, replies, reference))
    typer.echo(f"{subject.run.path}  Next: cuma report {subject.run.path}")


def _check(
    target: str | None,
    benchmark: str | None,
    endpoint: str | None,
    model: str | None,
    judge: str | None,
    replies: int,
    against: list[Path],
) -> None:
    """Contradictions are told at once, before seconds of imports."""
    if judge is not None and not replies:
        raise typer.BadParameter("judges replies: say how many, such as --replies 200", param_hint="--judge")
    if judge is not None and len(against) > 1:
        raise typer.BadParameter("with --judge, name one run", param_hint="--against")
    if (target is None) == (endpoint is None):
        raise typer.BadParameter("give a run or a model, or --endpoint with --model", param_hint="[RUN|MODEL]")
    if (endpoint is None) != (model is None):
        raise typer.BadParameter("--endpoint and --model go together", param_hint="--endpoint")
    if benchmark is None and (endpoint is not None or not _is_run(str(target))):
        if target is not None and _looks_like_a_run(target):
            from cuma.runs.folder import Run

            Run.open(target)  # tells which runs are near
        raise typer.BadParameter("is needed for a model that is no run, such as gss", param_hint="--benchmark")
    if benchmark is not None:
        from cuma.data.catalog import check_benchmark

        check_benchmark(benchmark)
    if against:
        from cuma.runs.folder import Run

        for folder in against:
            Run.open(folder)


def _is_run(target: str) -> bool:
    return Path(target, "run.json").is_file()


def _looks_like_a_run(target: str) -> bool:
    """Whether somebody who gives no benchmark can only have meant a run: no model, and no adapter."""
    return not any(Path(target, name).is_file() for name in ("config.json", "adapter_config.json")) and "/" in target


def _subject(
    target: str | None,
    server: Server | None,
    benchmark: str | None,
    prompting: Prompting | None,
    output_dir: Path | None,
    loading: dict[str, Any],
) -> Subject:
    """What is measured: a run as it is, or another model, which gets a run."""
    from cuma.evaluation.subject import subject_of_model, subject_of_run

    if server is None and _is_run(str(target)):
        return subject_of_run(Path(str(target)), benchmark, prompting)
    told: Any = prompting or "persona"
    if server is None:
        return subject_of_model(str(target), str(benchmark), told, output_dir, **loading)
    from cuma.evaluation.evaluate_server import subject_of_server

    if prompting is None and server.profile_field:
        told = "none"
    return subject_of_server(server, str(benchmark), told, output_dir)


def _answered(subject: Subject, server: Server | None) -> Path:
    """The folder of the finished evaluation."""
    if server is not None:
        from cuma.evaluation.evaluate_server import evaluate_server

        return evaluate_server(server, subject)
    from cuma.evaluation.evaluate import evaluate_subject

    return evaluate_subject(subject)


def _replied(subject: Subject, server: Server | None, count: int) -> None:
    if server is not None:
        from cuma.evaluation.evaluate_server import replies_of_server

        print_replies(replies_of_server(server, subject, count))
    else:
        from cuma.evaluation.replies import evaluate_replies

        print_replies(evaluate_replies(subject, count))


def _compares(subject: Subject, measures: Collection[str]) -> bool:
    """Whether its benchmark has something to compare with; measures that it does not allow are refused."""
    from cuma.answering.materials import load_survey
    from cuma.evaluation.kinds import kind_of, require_kind

    parts = load_survey(subject.recipe)
    require_kind(measures, subject.recipe.data.benchmark, *parts)
    return kind_of(*parts) is not None


def _measure(name: str, subject: Subject, against: list[Path]) -> None:
    """Take one further measure of an evaluated subject, and show it."""
    if name == "--partial-profiles":
        from cuma.evaluation.evaluate import evaluate_partial

        print_partial(evaluate_partial(subject))
    elif name == "--collapse":
        from cuma.evaluation.collapse import evaluate_collapse

        print_alarms(evaluate_collapse(subject)["alarms"], subject.folder / "collapse.json")
    elif name == "--gradients":
        from cuma.evaluation.gradients import evaluate_gradients

        typer.echo(f"• {evaluate_gradients(subject)['sentence']}")
    elif name == "--topology":
        from cuma.evaluation.routing import evaluate_topology
        from cuma.reports.expert_map import topology_sentences

        for sentence in topology_sentences(evaluate_topology(subject)):
            typer.echo(f"• {sentence}")
    else:
        from cuma.evaluation.differences import evaluate_differences

        print_differences(evaluate_differences(subject, against))


def _reference(subject: Subject, judge: Judge, replies: int, against: list[Path]) -> Run | None:
    """The run whose replies the judge compares with, if one is named. Told before hours of work: what would end it."""
    from cuma.evaluation.win_rate import check_win_rate
    from cuma.runs.folder import Run

    reference = Run.open(against[0]) if against else None
    check_win_rate(subject, judge, replies, reference)
    return reference
