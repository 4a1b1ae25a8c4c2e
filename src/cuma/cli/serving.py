"""Verbs that use what was trained: chat, serve, export, resolve."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cuma.cli.shell import next_command

if TYPE_CHECKING:
    from cuma.answering.answerer import Answerer

AnyRun = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's folder, or an adapter's that PEFT or TRL wrote.", show_default=False),
]
Person = Annotated[
    str, typer.Option("--profile", metavar="TEXT", help="Who asks: 'country=Japan age=30', or a sentence.")
]
Encoder = Annotated[
    str | None, typer.Option(help="The sentence encoder, if the adapter does not say which it was trained with.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …; left out: the GPU if there is one.")]
KEY_VARIABLE = "CUMA_API_KEY"


def chat(
    run: AnyRun,
    profile: Person = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one reply.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0: always the likeliest token.")] = 0.7,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same replies.")] = None,
    encoder: Encoder = None,
    device: Device = None,
) -> None:
    """Talk to a run at the terminal, as whoever you say you are. /help lists what else it can do."""
    from rich.console import Console

    _find(run)
    from cuma.people.profiles import Profile
    from cuma.serving.chat import Chat
    from cuma.serving.engine import Engine
    from cuma.serving.sampling import Sampling

    who = Profile.read(profile)
    answerer = _load([run], encoder, device)[0]
    answerer.embeds([who])
    console = Console(highlight=False)
    sampling = Sampling(temperature=temperature, top_p=0.95 if temperature else 1.0, seed=seed)
    with Engine([answerer]) as engine:
        Chat(engine, answerer, console, who, max_tokens, sampling).run(_reader())


def serve(
    runs: Annotated[
        list[str], typer.Argument(metavar="[NAME=]RUN...", help="Runs or adapters; NAME is what clients call it.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    host: Annotated[str, typer.Option(help="An address that others can reach requires an API key.")] = "127.0.0.1",
    api_key_file: Annotated[
        Path | None, typer.Option(help=f"A file with one API key a line; or put one into ${KEY_VARIABLE}.")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Replies written at the same time.")] = 32,
    max_queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; further ones get 429.")] = 128,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest reply.")] = 1024,
    max_prompt_tokens: Annotated[int, typer.Option(min=1, help="The longest prompt.")] = 2048,
    max_profiles: Annotated[int, typer.Option(min=1, help="People in one request to /v1/opinions.")] = 64,
    requests_per_minute: Annotated[int, typer.Option(min=0, help="For each key; 0: as many as come.")] = 600,
    prefix_cache_mb: Annotated[
        int, typer.Option(min=0, help="Memory for what begins alike, kept apart by person and key; 0: none.")
    ] = 256,
    encoder: Encoder = None,
    device: Device = None,
) -> None:
    """Serve runs to OpenAI clients, whose requests may carry a profile, with a page at /."""
    for run in runs:
        _find(_named(run)[1])
    _require_server()
    from cuma.serving.engine import Capacity
    from cuma.serving.run import check_binding, serve_forever
    from cuma.serving.service import Limits

    keys = _keys(api_key_file)
    check_binding(host, keys)
    limits = Limits(
        max_prompt_tokens=max_prompt_tokens,
        max_tokens=max_tokens,
        max_profiles=max_profiles,
        requests_per_minute=requests_per_minute,
    )
    capacity = Capacity(max_batch=max_batch, max_queue=max_queue, prefix_bytes=prefix_cache_mb * 2**20)
    serve_forever(_load(runs, encoder, device), host, port, keys=keys, capacity=capacity, limits=limits)


def export(
    run: AnyRun,
    output: Annotated[Path, typer.Option(help="A new folder for the adapter, or for the people's adapters.")],
    profile: Person = "",
    profiles: Annotated[
        Path | None, typer.Option(help="Many people at once: JSONL, or CSV with a column for each field.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Write a plain model with the adapter added to it.")] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="JSONL of prompts to average gates over; left out: the run's own questions.")
    ] = None,
    max_kl: Annotated[float, typer.Option(min=0, help="Nats that fixing the gates may cost at most.")] = 0.05,
    encoder: Encoder = None,
    device: Device = None,
) -> None:
    """Write a person's adapter as a standard PEFT LoRA, for engines that know no routers (docs/serving.md)."""
    _find(run)
    if profiles is not None and profile:
        raise typer.BadParameter("give either --profile or --profiles", param_hint="--profiles")
    from cuma.exchange.export import check_output, export_people, export_person
    from cuma.exchange.people_file import read_people
    from cuma.people.profiles import Profile

    who = [Profile.read(profile)] if profiles is None else read_people(profiles)
    check_output(output)
    answerer = _load([run], encoder, device)[0]
    if profiles is not None:
        made = export_people(answerer, who, output, calibration=calibration, max_kl=max_kl, merge=merge)
        somebody = "A 30-year-old woman living in Peru"
        typer.echo(f"{output}  {len(made)} people. {next_command('cuma', 'resolve', output, '--profile', somebody)}")
        return
    report = export_person(answerer, who[0], output, calibration=calibration, max_kl=max_kl, merge=merge)
    typer.echo(f"{output}  rank {report['rank']}, {report['layers']} layers, for {report['base_model']}")
    typer.echo(_cost(report))


def resolve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `cuma export --profiles` wrote.")],
    profile: Person = "",
) -> None:
    """Name the exported adapter that serves a person best: their own, or the nearest one's."""
    from cuma.exchange.people_index import People
    from cuma.people.profiles import Profile

    nearest = People.open(folder).nearest(Profile.read(profile))
    typer.echo(f"{nearest.folder}\t{nearest.distance:.4f}")


def _cost(report: dict[str, Any]) -> str:
    """What the export costs, in one line."""
    if report["exact"]:
        return "Exact: this router looks at the person alone."
    costs = [f"KL {cost['kl']:.4f} nats" + ("" if cost["emd"] is None else f", EMD {cost['emd']:.4f}")
            for cost in (report["cost"], report["held_out"]) if cost]  # fmt: skip
    also = f"; on tasks left out of the averaging: {costs[1]}" if len(costs) > 1 else ""
    return f"Approximate: gates fixed at their means cost {costs[0]}{also}. Details: export.json"


def _find(run: str) -> None:
    """Tell about a wrong folder at once, before seconds of imports."""
    from cuma.runs.folder import Run

    if not (Path(run) / "adapter_config.json").is_file():
        Run.open(run)


def _require_server() -> None:
    from cuma.errors import ServingError
    from cuma.models.hub import package_folder

    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if package_folder(name) is None]
    if missing:
        raise ServingError(f"The server needs {', '.join(missing)}: pip install 'cuma[serve]'.")


def _named(run: str) -> tuple[str | None, str]:
    """ "name=folder" or "folder"; a folder that is there may have an equals sign in its name."""
    name, equals, folder = run.partition("=")
    return (name, folder) if equals and not Path(run).exists() else (None, run)


def _load(runs: list[str], encoder: str | None, device: str | None) -> list[Answerer]:
    from cuma.answering.answerer import Answerers
    from cuma.errors import ServingError

    loader = Answerers(device=device, encoder=encoder)
    loaded = [loader.load(folder, name) for name, folder in map(_named, runs)]
    names = [answerer.name for answerer in loaded]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ServingError(f"Two runs are called {twice[0]!r}. Give them names: one={runs[0]} other={runs[1]}.")
    return loaded


def _keys(file: Path | None) -> list[str]:
    from cuma.errors import ServingError

    keys = [os.environ.get(KEY_VARIABLE, "")]
    if file is not None:
        try:
            keys += file.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise ServingError(f"Cannot read the keys in {file} ({type(error).__name__}).") from error
    return [key for key in keys if key.strip()]


def _reader() -> Callable[[], str]:
    """Reads lines, with editing and history where the terminal has them; the history is never written to disk."""
    import contextlib
    import sys

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (input uses it)
    prompt = "> " if sys.stdin.isatty() else ""
    return lambda: input(prompt)
