"""The verb `evaluate`: measure a run, an adapter, a model, or a model behind a server.

A panel of its help is a function that makes one value of the panel's options; "What is measured" is in `measurements`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cuma.cli.measurements import MEASUREMENTS, what_is_measured
from cuma.cli.panels import with_panels
from cuma.cli.shell import next_command

if TYPE_CHECKING:
    from cuma.evaluation.evaluate_server import Server
    from cuma.evaluation.subject import Subject
    from cuma.judge import Judge

Prompting = Literal["persona", "none", "few_shot"]
of_model = partial(typer.Option, rich_help_panel="A model that is no run")
of_server = partial(typer.Option, rich_help_panel="A model behind a server")
of_replies = partial(typer.Option, rich_help_panel="What the model writes")
MaxRequests = Annotated[int, of_server(min=1, help="To the server, and to the judge.")]
Workers = Annotated[int, of_server(min=1, help="Requests at once.")]


@dataclass(frozen=True)
class ReplyOptions:
    """What the model writes, and who compares it."""

    replies: int
    """To so many prompts."""
    judge: dict[str, Any] | None
    """Arguments of `Judge`; None: the replies are not judged."""


def model_that_is_no_run(
    revision: Annotated[str | None, of_model(help="Commit, tag or branch on the Hub.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, of_model(help="Number format. Left out: float32.")
    ] = None,
    quantization: Annotated[Literal["4bit", "8bit"] | None, of_model(help="Hold the weights in fewer bits.")] = None,
    batch_size: Annotated[int | None, of_model(min=1, help="Prompts at once. Left out: 32.")] = None,
) -> dict[str, Any]:
    """How such a model is loaded: the options that were given."""
    options = {"revision": revision, "dtype": dtype, "quantization": quantization, "batch_size": batch_size}
    return {name: value for name, value in options.items() if value is not None}


def model_behind_a_server(
    profile_field: Annotated[
        bool,
        of_server("--profile-field", help="Send profiles as the request's field `profile`, as cuma serve takes it."),
    ] = False,
    endpoint: Annotated[str | None, of_server(metavar="URL", help="An OpenAI-compatible server.")] = None,
    model: Annotated[str | None, of_server(help="Its model's name.")] = None,
    answers: Annotated[
        Literal["auto", "logprobs", "samples"], of_server(help="Log-probabilities where offered, or samples.")
    ] = "auto",
    samples: Annotated[int, of_server(min=1, help="Replies to each prompt.")] = 20,
    max_requests: MaxRequests = 20_000,
    api_key_env: Annotated[str, of_server(help="Environment variable with that server's key.")] = "OPENAI_API_KEY",
    workers: Workers = 8,
    send_profiles: Annotated[
        bool, of_server("--send-profiles", help="People's profiles may leave this machine for that server.")
    ] = False,
) -> dict[str, Any] | None:
    """Arguments of `Server`; None: the model is on this machine."""
    if (endpoint is None) != (model is None):
        raise typer.BadParameter("--endpoint and --model go together", param_hint="--endpoint")
    if endpoint is None:
        return None
    return {
        "url": endpoint, "model": model, "answers": answers, "samples": samples, "api_key_env": api_key_env,
        "max_requests": max_requests, "workers": workers, "send_profiles": send_profiles,
        "profile_field": profile_field,
    }  # fmt: skip


def what_the_model_writes(
    max_requests: MaxRequests,
    workers: Workers,
    replies: Annotated[int, of_replies(min=0, help="Let it reply to so many prompts: how varied is that?")] = 0,
    judge: Annotated[str | None, of_replies(metavar="MODEL", help="Win rate of the replies, by this judge.")] = None,
    judge_url: Annotated[
        str, of_replies(metavar="URL", help="The judge's OpenAI-compatible server.")
    ] = "https://api.openai.com/v1",
    judge_key_env: Annotated[str, of_replies(help="Environment variable with the judge's key.")] = "OPENAI_API_KEY",
    judge_send_profiles: Annotated[
        bool,
        of_replies("--judge-send-profiles", help="People's profiles may leave this machine for the judge's server."),
    ] = False,
) -> ReplyOptions:
    """How many replies, and by whom they are judged."""
    if judge is None:
        return ReplyOptions(replies, None)
    if not replies:
        raise typer.BadParameter("judges replies: say how many, such as --replies 200", param_hint="--judge")
    options = {"base_url": judge_url, "api_key_env": judge_key_env, "send_profiles": judge_send_profiles}
    return ReplyOptions(replies, {"model": judge, "max_requests": max_requests, "workers": workers, **options})


@with_panels(
    loading=model_that_is_no_run,
    measures=what_is_measured,
    served=model_behind_a_server,
    writing=what_the_model_writes,
)
def evaluate(
    loading: dict[str, Any],
    measures: dict[str, Any],
    served: dict[str, Any] | None,
    writing: ReplyOptions,
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
    option_orders: Annotated[
        Literal["rotations", "natural", "fixed"] | None,
        typer.Option(help="Orders in which options are shown: natural and fixed ask fewer prompts. Left out: all."),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Where a model that is no run gets one; left out: runs/measured/.")
    ] = None,
) -> None:
    """Let a model answer for the test people, and score its answers."""
    others = measures.get("--against", [])
    if writing.judge is not None:
        measures = {option: value for option, value in measures.items() if option != "--against"}
    _check_target(target, benchmark, served is not None)
    _check_options(target, served is not None, loading, measures, writing, others)
    server = None if served is None else _server(served)
    judge = None if writing.judge is None else _judge(writing.judge)
    from cuma.evaluation.subject import with_orders

    subject = with_orders(_subject(target, server, benchmark, prompting, output_dir, loading), option_orders)
    compares = _compares(subject, measures)
    win_rate = None if judge is None else _win_rate(subject, judge, writing.replies, others)
    _answer(subject, server, compares, writing.replies)
    for option, value in measures.items():
        MEASUREMENTS[option].take(subject, value)
    if win_rate is not None:
        win_rate()
    typer.echo(f"{subject.run.path}  {_next(subject)}")


def _next(subject: Subject) -> str:
    """The page of the run; of one that was evaluated on several benchmarks, the page about this one."""
    done = subject.run.evaluations()
    benchmarks = {folder.name.rpartition("-")[0] for folder in done}
    here = subject.folder.name.rpartition("-")[0]
    chosen = ["--benchmark", here if here in benchmarks else min(benchmarks)] if len(benchmarks) > 1 else []
    return next_command("cuma", "report", subject.run.path, *chosen)


def _check_target(target: str | None, benchmark: str | None, served: bool) -> None:
    """What is measured, and on what: told at once where it cannot be, before seconds of imports."""
    if (target is None) == (not served):
        raise typer.BadParameter("give a run or a model, or --endpoint with --model", param_hint="[RUN|MODEL]")
    if benchmark is None and not _is_run(target):
        if target is not None and _looks_like_a_run(target):
            from cuma.runs.folder import Run

            Run.open(target)  # tells which runs are near
        raise typer.BadParameter("is needed for a model that is no run, such as gss", param_hint="--benchmark")
    if benchmark is not None:
        from cuma.data.catalog import check_benchmark

        check_benchmark(benchmark)


def _check_options(
    target: str | None,
    served: bool,
    loading: Collection[str],
    measures: Collection[str],
    writing: ReplyOptions,
    others: list[Path],
) -> None:
    """Options that contradict each other are told at once as well."""
    if writing.judge is not None and len(others) > 1:
        raise typer.BadParameter("with --judge, name one run", param_hint="--against")
    if others:
        from cuma.runs.folder import Run

        for folder in others:
            Run.open(folder)
    if loading and (served or _is_run(target)):
        why = "a server has its own" if served else "a run is measured as its recipe says"
        option = f"--{next(iter(loading)).replace('_', '-')}"
        raise typer.BadParameter(f"is for a model that is no run: {why}", param_hint=option)
    refused = [option for option in measures if served and MEASUREMENTS[option].weights]
    if refused:
        raise typer.BadParameter("needs the model's weights on this machine", param_hint=refused[0])


def _is_run(target: str | None) -> bool:
    return target is not None and Path(target, "run.json").is_file()


def _looks_like_a_run(target: str) -> bool:
    """Whether somebody who gives no benchmark can only have meant a run: no model, and no adapter."""
    return not any(Path(target, name).is_file() for name in ("config.json", "adapter_config.json")) and "/" in target


def _server(options: dict[str, Any]) -> Server:
    from cuma.evaluation.evaluate_server import Server

    return Server(**options)


def _judge(options: dict[str, Any]) -> Judge:
    from cuma.judge import Judge

    return Judge(**options)


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

    if server is not None:
        from cuma.evaluation.evaluate_server import subject_of_server

        prompting = prompting or ("none" if server.profile_field else "persona")
        return subject_of_server(server, str(benchmark), prompting, output_dir)
    if _is_run(target):
        return subject_of_run(Path(str(target)), benchmark, prompting)
    return subject_of_model(str(target), str(benchmark), prompting or "persona", output_dir, **loading)


def _compares(subject: Subject, measures: Collection[str]) -> bool:
    """Whether its benchmark has something to compare with; measurements that it does not allow are refused."""
    from cuma.answering.materials import load_survey
    from cuma.evaluation.kinds import kind_of, require_kind

    parts, benchmark = load_survey(subject.recipe), subject.recipe.data.benchmark
    for option in measures:
        require_kind(option, MEASUREMENTS[option].kinds, benchmark, *parts)
        if (check := MEASUREMENTS[option].check) is not None:
            check(option, benchmark, parts.corpus)
    return kind_of(*parts) not in (None, "conversations")  # of which --replies and --judge are asked alone


def _win_rate(subject: Subject, judge: Judge, replies: int, others: list[Path]) -> Callable[[], None]:
    """Measures the win rate and shows it, when it is called. What would end that is told now, before hours of work."""
    from cuma.cli.evaluation_output import print_win_rate
    from cuma.evaluation.win_rate import check_win_rate, evaluate_win_rate
    from cuma.runs.folder import Run

    reference = Run.open(others[0]) if others else None
    check_win_rate(subject, judge, replies, reference)
    return lambda: print_win_rate(evaluate_win_rate(subject, judge, replies, reference))


def _answer(subject: Subject, server: Server | None, compares: bool, replies: int) -> None:
    """Let the model answer where its benchmark has something to compare with, and reply; show both."""
    from cuma.cli.evaluation_output import print_replies, print_scores

    if server is None:
        from cuma.evaluation.evaluate import evaluate_subject
        from cuma.evaluation.replies import evaluate_replies

        answer, reply = partial(evaluate_subject, subject), partial(evaluate_replies, subject)
    else:
        from cuma.evaluation.evaluate_server import evaluate_server, replies_of_server

        answer, reply = partial(evaluate_server, server, subject), partial(replies_of_server, server, subject)
    if compares or not replies:
        print_scores(answer())
    if replies:
        print_replies(reply(replies))
